// SPDX-License-Identifier: MIT
// close, wait, cancel_pending, kill, the destructor, and futures.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/rounds.hpp"

namespace {

int add_one(int n) { return n + 1; }
void spin_until(std::chrono::steady_clock::time_point moment) {
  while (std::chrono::steady_clock::now() < moment) {
  }
}
int add_one_slowly(int n) {
  spin_until(std::chrono::steady_clock::now() + std::chrono::microseconds(100));
  return n + 1;
}
int forever() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  for (;;) ::pause();
}

struct Interruption {};

}  // namespace

TEST_CASE_TEMPLATE("a pool that was not used leaves nothing", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 4});
  CHECK(pool.stats().workers_started == 0);
}

TEST_CASE_TEMPLATE("Pool::close refuses new work and finishes the old", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .name = "closing"});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 50; ++n) futures.push_back(pool.submit(&add_one, n));
  pool.close();
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&add_one, 1)), doctest::Contains("closing"), brood::PoolClosed);
  CHECK_THROWS_AS(pool.map(&add_one, std::vector{1}), brood::PoolClosed);
  CHECK_THROWS_AS(static_cast<void>(pool.try_map(&add_one, std::vector{1})), brood::PoolClosed);
  for (int n = 0; n < 50; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == n + 1);
  pool.close();
  pool.wait();
}

TEST_CASE_TEMPLATE("Pool::wait waits until all is resolved", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 3});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 200; ++n) futures.push_back(pool.submit(&add_one, n));
  pool.wait();
  for (const auto& future : futures) CHECK(future.ready());
  CHECK(pool.stats().queued == 0);
  CHECK(pool.stats().running == 0);
  pool.wait();
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("Pool::cancel_pending resolves what has not started", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 2});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 20; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), n));
  REQUIRE(support::wait_until_running(pool, 2));
  pool.cancel_pending();
  std::size_t cancelled = 0;
  for (auto& future : futures) {
    if (!future.ready()) continue;
    ++cancelled;
    CHECK_THROWS_AS(static_cast<void>(future.get()), brood::TaskCancelled);
    CHECK(future.outcome().failure().kind() == brood::FailureKind::cancelled);
  }
  CHECK(cancelled == 18);
  gate.open();
  CHECK(futures[0].get() == 0);
  CHECK(futures[1].get() == 1);
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("Pool::kill resolves everything now", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 10; ++n) futures.push_back(pool.submit(&forever));
  REQUIRE(support::wait_until_running(pool, 2));
  pool.kill();
  for (auto& future : futures) {
    CHECK(future.ready());
    CHECK_THROWS_AS(static_cast<void>(future.get()), brood::TaskCancelled);
  }
  CHECK_THROWS_AS(static_cast<void>(pool.submit(&add_one, 1)), brood::PoolClosed);
  pool.wait();
  pool.kill();
}

TEST_CASE_TEMPLATE("Pool::kill keeps values that were there", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  auto future = pool.submit(&add_one, 1);
  future.wait();
  pool.kill();
  CHECK(future.get() == 2);
}

TEST_CASE_TEMPLATE("a pool's destructor waits for accepted tasks", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  std::vector<brood::Future<int>> futures;
  {
    brood::Pool<Policy> pool({.workers = 2});
    for (int n = 0; n < 100; ++n) futures.push_back(pool.submit(&add_one, n));
  }
  for (int n = 0; n < 100; ++n) {
    CHECK(futures[static_cast<std::size_t>(n)].ready());
    CHECK(futures[static_cast<std::size_t>(n)].get() == n + 1);
  }
}

TEST_CASE_TEMPLATE("a pool's destructor kills while an exception unwinds", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  std::vector<brood::Future<int>> futures;
  try {
    brood::Pool<Policy> pool({.workers = 2});
    for (int n = 0; n < 6; ++n) futures.push_back(pool.submit(&forever));
    REQUIRE(support::wait_until_running(pool, 2));
    throw Interruption();
  } catch (const Interruption&) {
  }
  for (auto& future : futures) CHECK_THROWS_AS(static_cast<void>(future.get()), brood::TaskCancelled);
}

TEST_CASE_TEMPLATE("a pool made while an exception unwinds waits as usual", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  struct UsesPool {
    int* result;
    ~UsesPool() {
      brood::Future<int> future = [] {
        brood::Pool<Policy> pool({.workers = 1});
        return pool.submit(&add_one, 1);
      }();
      if (future.outcome()) *result = future.get();
    }
  };
  int result = 0;
  try {
    const UsesPool uses{&result};
    throw Interruption();
  } catch (const Interruption&) {
  }
  CHECK(result == 2);
}

TEST_CASE_TEMPLATE("Future: ready, wait_for, id, get twice", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  auto first = pool.submit(&support::wait_for_gate, gate.path(), 7);
  auto second = pool.submit(&add_one, 1);
  CHECK(first.id() != second.id());
  CHECK(first.id() > 0);
  CHECK_FALSE(first.ready());
  CHECK_FALSE(first.wait_for(std::chrono::milliseconds(1)));
  CHECK_FALSE(second.wait_for(std::chrono::nanoseconds(0)));
  gate.open();
  CHECK(first.wait_for(std::chrono::hours(1)));
  CHECK(second.wait_for(std::chrono::nanoseconds::max()));
  CHECK(first.ready());
  CHECK(first.get() == 7);
  CHECK(first.get() == 7);
  CHECK(second.outcome().value() == 2);
  CHECK(second.get() == 2);
}

TEST_CASE_TEMPLATE("Future::ready becomes true although nobody waits", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto future = pool.submit(&add_one, 1);
  CHECK(support::eventually([&] { return future.ready(); }));
}

TEST_CASE_TEMPLATE("Future::cancel gives up a task that has not started", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  auto running = pool.submit(&support::wait_for_gate, gate.path(), 1);
  REQUIRE(support::wait_until_running(pool, 1));
  auto waiting = pool.submit(&add_one, 1);
  auto behind = pool.submit(&add_one, 2);
  CHECK(waiting.cancel());
  CHECK(waiting.ready());
  CHECK_FALSE(waiting.cancel());
  CHECK_THROWS_AS(static_cast<void>(waiting.get()), brood::TaskCancelled);
  gate.open();
  CHECK(running.get() == 1);
  CHECK_FALSE(running.cancel());
  CHECK(running.get() == 1);
  CHECK(behind.get() == 3);
}

TEST_CASE_TEMPLATE("Future::cancel kills a task that runs, and no other", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (int round = 0; round < 5; ++round) {
    auto running = pool.submit(&forever);
    auto behind = pool.submit(&add_one, round);
    REQUIRE(support::wait_until_running(pool, 1));
    CHECK(running.cancel());
    try {
      static_cast<void>(running.get());
      FAIL("no exception");
    } catch (const brood::TaskCancelled& error) {
      CHECK(std::string(error.what()).find("task " + std::to_string(running.id())) != std::string::npos);
    }
    CHECK(behind.get() == round + 1);
  }
}

TEST_CASE_TEMPLATE("Future::cancel at any moment hits its own task only", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  std::uint64_t cancelled = 0;
  for (const int n : support::rounds(200, 50'000)) {
    auto first = pool.submit(n % 8 == 0 ? &add_one_slowly : &add_one, n);  // now and then one that is met at work
    auto second = pool.submit(&add_one, n + 1);
    const auto moment = std::chrono::steady_clock::now() + std::chrono::microseconds(n % 201);
    spin_until(moment);
    first.cancel();
    const auto outcome = first.outcome();
    if (outcome) {
      CHECK(*outcome == n + 1);
    } else {
      ++cancelled;
      CHECK_MESSAGE(outcome.failure().kind() == brood::FailureKind::cancelled, outcome.failure().message());
    }
    CHECK(second.get() == n + 2);
  }
  CHECK(cancelled > 0);
}

TEST_CASE_TEMPLATE("a Future outlives its pool", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  std::optional<brood::Future<std::string>> future;
  {
    brood::Pool<Policy> pool({.workers = 1});
    future = pool.submit([] { return std::string("kept"); });
  }
  CHECK(future->ready());
  CHECK(future->get() == "kept");
  CHECK_FALSE(future->cancel());
}

TEST_CASE_TEMPLATE("a dropped Future neither blocks nor cancels", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 2});
  { auto dropped = pool.submit(&support::wait_for_gate, gate.path(), 1); }
  CHECK(pool.submit(&add_one, 1).get() == 2);
  gate.open();
  pool.wait();
  CHECK(pool.stats().done == 2);
}

TEST_CASE_TEMPLATE("a Future that was moved from says so", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit(&add_one, 1);
  const auto moved = std::move(future);
  CHECK(moved.get() == 2);
  CHECK_THROWS_WITH_AS(static_cast<void>(future.get()), doctest::Contains("moved from"), brood::Error);  // NOLINT(bugprone-use-after-move)
  CHECK_THROWS_AS(static_cast<void>(future.id()), brood::Error);
}

TEST_CASE_TEMPLATE("a pool whose workers ignore the end is gone within the grace", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .stop_grace = std::chrono::milliseconds(50)});
  // a thread that a task has left blocks nothing: the worker leaves; one that is stopped must be killed
  const pid_t worker = pool.submit([] { return ::getpid(); }).get();
  REQUIRE(::kill(worker, SIGSTOP) == 0);
}

TEST_CASE_TEMPLATE("many pools, one after the other and at the same time", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  for (int round = 0; round < 10; ++round) {
    brood::Pool<Policy> one({.workers = 2});
    CHECK(one.submit(&add_one, round).get() == round + 1);
  }
  if constexpr (!brood::CopiesHost<Policy>) {
    std::vector<std::unique_ptr<brood::Pool<Policy>>> pools;
    for (int n = 0; n < 4; ++n) pools.push_back(std::make_unique<brood::Pool<Policy>>(brood::PoolOptions{.workers = 1}));
    for (auto& pool : pools) CHECK(pool->submit(&add_one, 1).get() == 2);
    pools.erase(pools.begin() + 1);
    for (auto& pool : pools) CHECK(pool->submit(&add_one, 1).get() == 2);
  }
}
