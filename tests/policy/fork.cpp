// SPDX-License-Identifier: MIT
// ForkPolicy: snapshots of the host, closures.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"

namespace {

int global = 1;

/// No serializer knows it.
class Opaque {
 public:
  explicit Opaque(int n) : n_(std::make_shared<int>(n)) {}
  Opaque(const Opaque&) = delete;
  Opaque& operator=(const Opaque&) = delete;
  Opaque(Opaque&&) = default;
  int value() const { return *n_; }

 private:
  std::shared_ptr<int> n_;
};
static_assert(!brood::Serializable<Opaque>);

int add_one(int n) { return n + 1; }

}  // namespace

TEST_CASE("ForkPolicy workers are copies of the host as it was when the pool was made") {
  const support::Leftovers audit;
  global = 7;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1, .tasks_per_worker = 1});
  global = 8;
  for (int n = 0; n < 5; ++n) CHECK(pool.submit([] { return global++; }).get() == 7);  // replaced workers, too
  CHECK(global == 8);
}

TEST_CASE("a closure sees what the host has at the call") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});
  int value = 1;
  std::string text = "first";
  const auto closure = [&](int factor) { return text + " " + std::to_string(value * factor); };
  CHECK(pool.submit(closure, 10).get() == "first 10");
  value = 2;
  text = "second";
  auto future = pool.submit(closure, 10);
  value = 3;
  text = "too late";
  CHECK(future.get() == "second 20");
  CHECK(pool.submit([copy = text] { return copy; }).get() == "too late");
  CHECK(pool.submit([&] { return ++value; }).get() == 4);
  CHECK(value == 3);
}

TEST_CASE("closures of every kind run under ForkPolicy") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});
  const std::function<int(int)> function = [](int n) { return n * 3; };
  CHECK(pool.submit(function, 14).get() == 42);
  std::unique_ptr<int> owned = std::make_unique<int>(5);
  CHECK(pool.submit([&] { return *owned; }).get() == 5);
  auto moved = [owned = std::move(owned)] { return *owned; };
  CHECK(pool.submit(moved).get() == 5);
  CHECK(pool.submit(std::move(moved)).get() == 5);
  int calls = 0;
  auto counting = [calls]() mutable { return ++calls; };
  CHECK(pool.submit(counting).get() == 1);
  CHECK(pool.submit(counting).get() == 1);
  CHECK_THROWS_AS(pool.submit([&] { throw std::out_of_range(std::to_string(calls)); }).get(), std::out_of_range);
  CHECK(brood::async<brood::ForkPolicy>([&] { return calls + 1; }).get() == 1);
}

TEST_CASE("a closure's arguments need no serializer") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  const int plus = 2;
  CHECK(pool.submit([&](const Opaque& opaque) { return opaque.value() + plus; }, Opaque(40)).get() == 42);
}

TEST_CASE("a closure that crashes is WorkerDied") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  int signal = SIGSEGV;
  auto future = pool.submit([&] { return ::raise(signal); });
  CHECK(future.outcome().failure().kind() == brood::FailureKind::worker_died);
  CHECK(future.outcome().failure().signal() == SIGSEGV);
  CHECK(pool.submit([&] { return signal; }).get() == SIGSEGV);
}

TEST_CASE("map with a closure inherits its items") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});
  std::vector<Opaque> items;
  for (int n = 0; n < 500; ++n) items.emplace_back(n);
  const int factor = 3;
  for (const std::size_t chunk : {0U, 1U, 100U}) {
    const std::vector<int> results =
        pool.map([&](const Opaque& opaque) { return factor * opaque.value(); }, items, {.chunk_size = chunk});
    REQUIRE(results.size() == 500);
    for (std::size_t n = 0; n < 500; ++n) CHECK(results[n] == 3 * static_cast<int>(n));
  }
  std::list<Opaque> list;
  for (int n = 0; n < 20; ++n) list.emplace_back(n);
  CHECK(pool.map([&](const Opaque& opaque) { return factor * opaque.value(); }, list).back() == 57);
  CHECK(pool.map([&](int a, int b) { return a * b + factor; }, std::vector<std::tuple<int, int>>{{1, 2}, {3, 4}}) ==
        std::vector{5, 15});
  CHECK(pool.map([&](int n) { return n + factor; }, std::vector<int>()).empty());
}

TEST_CASE("map with a closure runs in parallel, in copies of one snapshot") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 3});
  const support::Shared<std::atomic<int>> present;
  // none goes on before three are there
  const std::vector<pid_t> pids = pool.map(
      [&](int) {
        ++*present;
        support::eventually([&] { return *present >= 3; });
        return ::getpid();
      },
      std::vector<int>(3), {.chunk_size = 1});
  CHECK(*present == 3);
  CHECK(std::set<pid_t>(pids.begin(), pids.end()).size() == 3);
}

TEST_CASE("try_map with a closure: a crash costs one item") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});
  const int bad = 37;
  for (const std::size_t chunk : {0U, 1U, 50U}) {
    const auto outcomes = pool.try_map(
        [&](int n) {
          if (n == bad) ::raise(SIGKILL);
          if (n == bad + 1) throw std::range_error("next");
          return n;
        },
        std::views::iota(0, 100), {.chunk_size = chunk});
    REQUIRE(outcomes.size() == 100);
    for (int n = 0; n < 100; ++n) {
      REQUIRE(outcomes[static_cast<std::size_t>(n)].has_value() == (n != bad && n != bad + 1));
    }
    CHECK(outcomes[37].failure().signal() == SIGKILL);
    CHECK_THROWS_AS(outcomes[38].value(), std::range_error);
  }
}

TEST_CASE("a pool is of no use in a worker that has inherited it: WrongProcess") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  auto other = pool.submit(&add_one, 1);
  const auto says_wrong_process = [](auto&& call) {
    try {
      call();
    } catch (const brood::WrongProcess& error) {
      return std::string(error.what()).find("; a worker can make a pool of its own, but not use the host's") != std::string::npos;
    }
    return false;
  };
  const std::vector<bool> said = pool.submit([&] {
                                       return std::vector<bool>{
                                           says_wrong_process([&] { static_cast<void>(pool.submit(&add_one, 1)); }),
                                           says_wrong_process([&] { pool.map(&add_one, std::vector{1}); }),
                                           says_wrong_process([&] { static_cast<void>(pool.try_map(&add_one, std::vector{1})); }),
                                           says_wrong_process([&] { pool.close(); }),
                                           says_wrong_process([&] { pool.wait(); }),
                                           says_wrong_process([&] { pool.cancel_pending(); }),
                                           says_wrong_process([&] { pool.kill(); }),
                                           says_wrong_process([&] { pool.stats(); })};
                                     })
                                     .get();
  CHECK(said == std::vector<bool>(8, true));
  CHECK(other.get() == 2);
  for (int n = 0; n < 100; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);
}

TEST_CASE("a pool and its futures may be destroyed in a worker that has inherited them") {
  const support::Leftovers audit;
  auto pool = std::make_unique<brood::Pool<brood::ForkPolicy>>(brood::PoolOptions{.workers = 1});
  auto future = pool->submit([] {
    for (;;) ::pause();
    return 0;
  });
  CHECK(support::wait_until_running(*pool, 1));
  const bool survived = brood::async<brood::ForkPolicy>([&] {
                          pool.reset();
                          return true;
                        }).get();
  CHECK(survived);
  CHECK(pool->stats().running == 1);
  auto refused = brood::async<brood::ForkPolicy>([&] {
    try {
      static_cast<void>(future.get());
    } catch (const brood::WrongProcess&) {
      return true;
    }
    return false;
  });
  CHECK(refused.get());
  pool->kill();
}

TEST_CASE("a task of a ForkPolicy pool that calls exit does not run the host's destructors") {
  const support::Leftovers audit;
  // a host with a static pool whose worker exits by std::exit, and text that was not flushed
  const support::Ran ran = support::run_in_child([] {
    std::printf("[unflushed]");
    std::atexit([] { std::printf("[atexit]"); });
    brood::Pool<brood::ForkPolicy> pool({.workers = 2});
    for (int n = 0; n < 4; ++n) {
      auto future = pool.submit([] {
        std::printf("[task]");
        std::exit(3);
        return 0;
      });
      if (future.outcome().has_value()) return 1;
    }
    return 0;
  });
  CHECK(ran.status.code() == 0);
  CHECK(ran.output == "[unflushed][task][task][task][task]");  // once, and no [atexit]
}

TEST_CASE("a task of a ForkPolicy pool that calls quick_exit runs its own handlers, not the host's, and keeps its code") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([]() -> int {
    const auto say = [](const char* text) { static_cast<void>(::write(STDOUT_FILENO, text, std::strlen(text))); };
    static const auto speaker = say;
    std::at_quick_exit([] { speaker("[host's]"); });
    std::atexit([] { speaker("[atexit]"); });
    {
      brood::Pool<brood::ForkPolicy> pool({.workers = 1});
      for (int code = 0; code < 3; ++code) {
        const auto outcome = pool.submit([](int wanted) -> int {
          std::at_quick_exit([] { speaker("[task's]"); });
          std::quick_exit(wanted);
        }, code).outcome();
        if (outcome.has_value() || !outcome.failure().status().exited()) return 10;
        if (outcome.failure().status().code() != code) return 20 + outcome.failure().status().code();
      }
    }
    std::quick_exit(7);
  });
  CHECK(ran.status.code() == 7);
  CHECK(ran.output == "[task's][task's][task's][host's]");
}

TEST_CASE("what host and tasks print appears once") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    std::printf("[host]");
    std::fputs("[C]", stdout);
    brood::Pool<brood::ForkPolicy> pool({.workers = 3, .tasks_per_worker = 1});
    for (int n = 0; n < 5; ++n) pool.submit([] { std::printf("[task]"); }).get();
    int captured = 0;
    for (int n = 0; n < 2; ++n) pool.submit([&] { std::printf("[closure %d]", captured); }).get();
    return 0;
  });
  CHECK(ran.status.code() == 0);
  CHECK(ran.output == "[host][C][task][task][task][task][task][closure 0][closure 0]");
}

TEST_CASE("what a task printed is there when its result is, and a later crash does not take it along") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    brood::Pool<brood::ForkPolicy> pool({.workers = 1});
    pool.submit([] { std::printf("[value]"); }).get();
    std::printf("[host]");
    std::fflush(stdout);
    const auto threw = pool.submit([] {
      std::printf("[exception]");
      throw std::runtime_error("no value");
    });
    threw.wait();
    return pool.submit([] { std::raise(SIGKILL); }).outcome().has_value() ? 1 : 0;
  });
  CHECK(ran.status.code() == 0);
  CHECK(ran.output == "[value][host][exception]");
}

TEST_CASE("the snapshot of a ForkPolicy pool can't be made again") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  CHECK(pool.submit(&add_one, 1).get() == 2);
  auto running = pool.submit([] {
    for (;;) ::pause();
    return 0;
  });
  auto queued = pool.submit(&add_one, 1);
  CHECK(support::wait_until_running(pool, 1));
  const pid_t server = pool.stats().server_pid;
  REQUIRE(server > 0);
  REQUIRE(::kill(server, SIGKILL) == 0);
  CHECK_THROWS_AS(static_cast<void>(running.get()), brood::WorkerDied);
  CHECK_THROWS_WITH_AS(static_cast<void>(queued.get()), doctest::Contains("snapshot"), brood::LaunchError);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&add_one, 1).get()), doctest::Contains("Make a new pool"),
                       brood::LaunchError);
  CHECK(pool.stats().server_pid == 0);
  int captured = 5;
  CHECK(pool.submit([&] { return captured; }).get() == 5);  // a closure makes its own snapshot
}

TEST_CASE("a mutex that is free at the call is free in the closure's process") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  std::mutex mutex;
  CHECK(pool.submit([&] { return mutex.try_lock(); }).get());
  CHECK(mutex.try_lock());
  mutex.unlock();
}
