// SPDX-License-Identifier: MIT
// A host with libuv's loop: it watches the pool's descriptor as it watches its own, and nobody waits. A worker that crashes is a
// line of the output, a timer ticks meanwhile.
#include <cstdlib>
#include <iostream>
#include <optional>

#include <brood/brood.hpp>
#include <uv.h>

using Pool = brood::Pool<brood::SpawnPolicy>;
int area(int width, int height) {
  if (width < 0 || height < 0) std::abort();
  return width * height;
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  uv_loop_t* const loop = uv_default_loop();
  std::optional<Pool> pool(std::in_place, brood::PoolOptions{.workers = 2, .helper_thread = false});
  uv_poll_t watch;
  watch.data = &*pool;
  uv_poll_init(loop, &watch, pool->descriptor());
  uv_poll_start(&watch, UV_READABLE, [](uv_poll_t* it, int, int) { static_cast<Pool*>(it->data)->poll(); });
  int ticks = 0;
  uv_timer_t timer;
  timer.data = &ticks;
  uv_timer_init(loop, &timer);
  uv_timer_start(&timer, [](uv_timer_t* it) { ++*static_cast<int*>(it->data); }, 0, 1);

  std::vector<std::string> lines(3);
  std::size_t left = lines.size();
  for (std::size_t n = 0; n < lines.size(); ++n) {
    const int width = n == 1 ? -1 : 4;
    pool->submit(&area, width, static_cast<int>(n) + 2).then([&, n](brood::Outcome<int> outcome) {  // called by poll()
      lines[n] = outcome ? std::to_string(*outcome) : "the worker died";
      if (--left != 0) return;
      uv_close(reinterpret_cast<uv_handle_t*>(&watch), nullptr);  // nothing is left to do: the loop ends
      uv_close(reinterpret_cast<uv_handle_t*>(&timer), nullptr);
    });
  }
  uv_run(loop, UV_RUN_DEFAULT);
  pool.reset();
  uv_loop_close(loop);
  for (const std::string& line : lines) std::cout << line << '\n';
  std::cout << "the loop went on: " << (ticks > 0 ? "yes" : "no") << '\n';
}
