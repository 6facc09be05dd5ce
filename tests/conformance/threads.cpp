// SPDX-License-Identifier: MIT
// One pool, many threads.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

namespace {

int add_one(int n) { return n + 1; }

/// A Preload whose second and later builds are noted and wait for a gate.
struct Builds {
  Builds(const std::string& log, const std::string& gate) {
    const int fd = ::open(log.c_str(), O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600);
    const bool noted = ::write(fd, "x", 1) == 1;
    ::close(fd);
    if (!noted) throw std::runtime_error("the build can't be noted");
    if (support::read_text(log).size() > 1) support::wait_for_gate(gate, 0);
  }
};

/// Runs the body in a thread, and returns when the kernel has done with that thread, too.
template <class Body>
void in_thread_that_ends(Body body) {
  pid_t id = 0;
  std::thread([&] {
    id = ::gettid();
    body();
  }).join();
  CHECK(support::eventually([&] { return !support::numbers_in("/proc/self/task").contains(id); }));
}

template <class Body>
void in_threads(int count, Body body) {
  std::vector<std::thread> threads;
  for (int n = 0; n < count; ++n) threads.emplace_back(body, n);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST_CASE_TEMPLATE("threads submit, map and look at the same pool", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  std::atomic<int> wrong = 0;
  in_threads(8, [&](int thread) {
    for (int round = 0; round < 15; ++round) {
      std::vector<brood::Future<int>> futures;
      for (int n = 0; n < 10; ++n) futures.push_back(pool.submit(&add_one, thread * 1000 + n));
      const std::vector<int> all = pool.map(&add_one, std::vector{1, 2, 3, 4, 5});
      if (all != std::vector{2, 3, 4, 5, 6}) ++wrong;
      if (pool.stats().workers.size() > 2) ++wrong;
      for (int n = 0; n < 10; ++n) {
        if (futures[static_cast<std::size_t>(n)].get() != thread * 1000 + n + 1) ++wrong;
      }
      if (round % 5 == 0) pool.wait();
    }
  });
  CHECK(wrong == 0);
  CHECK(pool.stats().done == 8 * 15 * 15);
  CHECK(pool.stats().failed == 0);
}

TEST_CASE_TEMPLATE("threads whose tasks crash do not disturb each other", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 3});
  std::atomic<int> wrong = 0;
  in_threads(6, [&](int thread) {
    for (int n = 0; n < 20; ++n) {
      auto future = pool.submit(
          [](int k, bool crash) {
            if (crash) ::raise(SIGKILL);
            return k;
          },
          n, thread == 0);
      const auto outcome = future.outcome();
      if (outcome.has_value() == (thread == 0)) ++wrong;
    }
  });
  CHECK(wrong == 0);
  CHECK(pool.stats().failed == 20);
}

TEST_CASE_TEMPLATE("a pool survives the threads that made and used it", Policy, WORKER_POLICIES) {
  if constexpr (!brood::CopiesHost<Policy>) {  // that one is made by the main thread only
    const support::Leftovers audit;
    std::optional<brood::Pool<Policy>> pool;
    std::thread([&] { pool.emplace(brood::PoolOptions{.workers = 1}); }).join();
    pid_t worker = 0;
    std::thread([&] { worker = pool->submit([] { return ::getpid(); }).get(); }).join();
    for (int n = 0; n < 100; ++n) {
      std::thread([&] {
        if (pool->submit([] { return ::getpid(); }).get() != worker) FAIL_CHECK("another worker");
      }).join();
    }
    CHECK(pool->stats().workers_died == 0);
  }
}

TEST_CASE("threads that end do not take the server along that is being built for their tasks") {
  const support::Leftovers audit;
  const support::Gate log;
  const support::Gate gate;
  using Policy = brood::ForkServerPolicy<Builds>;
  brood::Pool<Policy> pool({.workers = 1}, {brood::preload_args<Builds>(log.path(), gate.path())});
  CHECK(pool.submit(&add_one, 1).get() == 2);
  const auto builds = [&] { return support::read_text(log.path()).size(); };
  std::vector<brood::Future<int>> futures;
  bool by_submit = false;
  SUBCASE("of a thread that submits") { by_submit = true; }
  SUBCASE("of a thread that waits") {}
  if (by_submit) {
    REQUIRE(::kill(pool.stats().server_pid, SIGKILL) == 0);
    REQUIRE(support::eventually([&] { return pool.stats().server_pid == 0; }));
  } else {
    futures.push_back(pool.submit([](int) {
      ::pause();
      return 0;
    }, 0));
    REQUIRE(support::wait_until_running(pool, 1));
    REQUIRE(::kill(pool.stats().server_pid, SIGKILL) == 0);
  }
  for (int n = 0; n < 5; ++n) {
    in_thread_that_ends([&] {
      futures.push_back(pool.submit(&add_one, n));
      CHECK(support::eventually([&] {
        futures.back().wait_for(std::chrono::milliseconds(1));
        return builds() >= 2;
      }));
    });
  }
  CHECK(pool.stats().server_pid > 0);
  gate.open();
  std::size_t values = 0;
  for (auto& future : futures) values += future.outcome().has_value();
  CHECK(values == 5);
  CHECK(builds() == 2);
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("close and kill from another thread end every wait", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 3; ++n) {
    futures.push_back(pool.submit([] {
      for (;;) ::pause();
      return 0;
    }));
  }
  std::atomic<int> cancelled = 0;
  std::vector<std::thread> waiting;
  for (auto& future : futures) {
    waiting.emplace_back([&] {
      const auto outcome = future.outcome();
      if (!outcome && outcome.failure().kind() == brood::FailureKind::cancelled) ++cancelled;
    });
  }
  waiting.emplace_back([&] { pool.wait(); });
  CHECK(support::eventually([&] { return pool.stats().running == 1; }));
  pool.kill();
  for (std::thread& thread : waiting) thread.join();
  CHECK(cancelled == 3);
}

TEST_CASE("ForkPolicy refuses a host that has threads, unless told") {
  const support::Leftovers audit;
  std::atomic<bool> quit = false;
  std::thread other([&] {
    while (!quit) std::this_thread::yield();
  });
  CHECK_THROWS_WITH_AS(brood::Pool<brood::ForkPolicy>({.workers = 1}), doctest::Contains("2 threads"), brood::HostIsThreaded);
  {
    brood::Pool<brood::ForkPolicy> pool({.workers = 1}, {.allow_threads = true});
    CHECK(pool.submit(&add_one, 1).get() == 2);
  }
  quit = true;
  other.join();
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE("ForkPolicy does not count the library's own threads") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkServerPolicy<>> first({.workers = 1});
  const auto running = first.submit([] {
    for (;;) ::pause();
  });
  // nobody waits: the first pool has its helper thread now
  CHECK(support::numbers_in("/proc/self/task").size() == 2);
  brood::Pool<brood::ForkPolicy> second({.workers = 1});
  CHECK(second.submit(&add_one, 1).get() == 2);
  first.kill();
}
