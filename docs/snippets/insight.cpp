// SPDX-License-Identifier: MIT
// The code of docs/guide/insight.md.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include <brood/brood.hpp>
#include <brood/progress.hpp>

namespace {

int resized = 0;
void resize(const std::string&) { ++resized; }

void resize_all(const std::vector<std::string>& files) {
  for (std::size_t at = 0; at < files.size(); ++at) {
    resize(files[at]);
    brood::this_task::progress(at + 1, files.size());
  }
}

struct Window {
  double shown = 0;
  void show(double share) { shown = share; }
};
Window window;

void require(bool condition) {
  if (!condition) std::abort();
}

void how_far(const std::vector<std::string>& files) {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2});
  auto future = pool.submit(&resize_all, files);
  brood::TaskProgress now = future.progress();   // {done, total}; never waits
  require(now.done <= files.size());

  //! [wait]
  future.wait([](const brood::Progress& far) { window.show(far.share()); });
  future.wait(brood::progress_line("resizing"));   // or as a line in the terminal, see below
  //! [wait]
  require(window.shown == 1);

  //! [progress]
  pool.map(&resize, files, {.progress = [](const brood::Progress& far) { window.show(far.share()); }});
  pool.wait([](const brood::Progress& far) { window.show(far.share()); });
  //! [progress]
  require(window.shown == 1 && resized == 0);
  require(future.progress() == brood::TaskProgress{files.size(), files.size()});

  //! [progress_line]
  pool.map(&resize, files, {.progress = brood::progress_line("resizing")});
  //! [progress_line]

  const brood::PoolStats stats = pool.stats();
  std::cout << stats.done << " tasks done, " << stats.queued << " wait; workers are busy " << 100 * stats.busy_share() << " % of the time\n";
  for (const brood::WorkerStats& worker : stats.workers) {
    if (worker.task == 0) continue;
    const auto time = std::chrono::steady_clock::now() - worker.since;
    std::cout << worker.pid << " runs " << worker.callable << " for " << std::chrono::duration<double>(time).count() << " s\n";
  }
  require(stats.done >= 1);
}

void logged() {
  brood::Pool<brood::ForkServerPolicy<>> pool({.log = [](brood::LogLevel level, std::string_view text) {
    if (level != brood::LogLevel::info) std::clog << text << '\n';
  }});
  pool.submit(&resize, "a").get();
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  how_far({"a", "b", "c"});
  logged();
}
