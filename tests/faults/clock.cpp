// SPDX-License-Identifier: MIT
// The thread that drives loses the CPU at a look at the clock, at each in turn: what was too early just before is late just
// behind it.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string_view>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/sanitizer.hpp"

namespace {

/// At how many looks from now this thread is held; negative: at none.
thread_local int looks_left = -1;

/// SpawnPolicy, whose next server sometimes can't be launched: the one behind it waits 20 ms.
struct Refusing {
  static constexpr std::string_view name = "Refusing";
  static inline std::atomic<bool> refuses_next = false;
  std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions& options) const {
    if (refuses_next.exchange(false)) throw brood::LaunchError("refused", "test", 0);
    return brood::SpawnPolicy().launch(options);
  }
};

int add_one_late(int n) { return n + 1; }

}  // namespace

#if !BROOD_TEST_HAS_SANITIZER  // which has one of its own
/// In place of the C library's: std::chrono::steady_clock asks it.
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  if (looks_left >= 0 && looks_left-- == 0) {
    const timespec moment{0, 50'000'000};
    ::nanosleep(&moment, nullptr);
  }
  return static_cast<int>(::syscall(SYS_clock_gettime, clock, now));
}
#endif

TEST_CASE("a driver that is held at any look at the clock sleeps over no time") {
  if (support::has_sanitizer) {
    MESSAGE("skipped: the clock is the sanitizer's");
    return;
  }
  const support::Leftovers audit;
  brood::Pool<Refusing> pool({.workers = 1});
  REQUIRE(pool.submit(&add_one_late, 1).get() == 2);
  int held = 0;
  int refused = 0;
  for (int look = 0, not_held = 0; not_held < 3; ++look) {  // how often it looks differs a little
    REQUIRE(look < 1'000);
    Refusing::refuses_next = true;
    const pid_t server = pool.stats().server_pid;
    REQUIRE(server > 0);
    REQUIRE(::kill(server, SIGKILL) == 0);
    bool done = false;
    looks_left = look;
    // the worker that dies with its server may have done a task before, or take one along
    for (int tries = 0; tries < 1'000 && !done; ++tries) {
      auto future = pool.submit(&add_one_late, look);
      if (!future.wait_for(std::chrono::seconds(30))) break;
      const pid_t next = pool.stats().server_pid;
      done = future.outcome().has_value() && next != server && next != 0;
    }
    const bool was_held = looks_left < 0;
    looks_left = -1;
    if (!done) pool.kill();  // or its end would wait for ever, too
    REQUIRE_MESSAGE(done, "held at look " << look);
    held += was_held ? 1 : 0;
    not_held = was_held ? 0 : not_held + 1;
    refused += Refusing::refuses_next.exchange(false) ? 0 : 1;
  }
  CHECK(held > 10);
  CHECK(refused > held / 2);  // so often there was a time to sleep over
}
