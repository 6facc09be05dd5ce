// SPDX-License-Identifier: MIT
// Pool::stats.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

int add_one(int n) { return n + 1; }

}  // namespace

TEST_CASE_TEMPLATE("PoolStats follows the life of a pool", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 2});
  const auto fresh = pool.stats();
  CHECK(support::runs(fresh.server_pid));
  CHECK(fresh.workers.empty());
  CHECK(fresh.queued + fresh.running + fresh.done + fresh.failed + fresh.workers_started + fresh.workers_died == 0);
  CHECK(fresh.preloads.size() == (std::is_same_v<Policy, support::ForkServerWithPreloads> ? 2 : 0));

  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 5; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), n));
  REQUIRE(support::wait_until_running(pool, 2));
  const auto busy = pool.stats();
  CHECK(busy.running == 2);
  CHECK(busy.queued == 3);
  CHECK(busy.workers.size() == 2);
  CHECK(busy.workers_started == 2);
  CHECK(busy.done == 0);
  std::vector<brood::TaskId> running;
  for (const auto& worker : busy.workers) {
    CHECK(worker.state == brood::WorkerState::busy);
    CHECK(worker.tasks_done == 0);
    running.push_back(worker.task);
  }
  CHECK(running.size() == 2);
  gate.open();
  pool.wait();
  const auto idle = pool.stats();
  CHECK(idle.running == 0);
  CHECK(idle.queued == 0);
  CHECK(idle.done == 5);
  std::uint64_t tasks = 0;
  for (const auto& worker : idle.workers) {
    CHECK(worker.state == brood::WorkerState::idle);
    CHECK(worker.task == 0);
    tasks += worker.tasks_done;
  }
  CHECK(tasks == 5);

  CHECK_THROWS_AS(pool.submit([] { throw std::runtime_error("one"); }).get(), std::runtime_error);
  CHECK_FALSE(pool.submit([] { return ::raise(SIGKILL); }).outcome().has_value());
  const auto failed = pool.stats();
  CHECK(failed.failed == 2);
  CHECK(failed.done == 5);
  CHECK(failed.workers_died == 1);
}

TEST_CASE_TEMPLATE("PoolStats counts the items of map", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  pool.map(&add_one, std::vector<int>(1000));
  CHECK(pool.stats().done == 1000);
  pool.map(&add_one, std::vector<int>(10), {.chunk_size = 3});
  CHECK(pool.stats().done == 1010);
  CHECK(pool.stats().failed == 0);
}

TEST_CASE_TEMPLATE("PoolStats counts cancelled tasks as failed", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 4; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), n));
  REQUIRE(support::wait_until_running(pool, 1));
  pool.cancel_pending();
  CHECK(pool.stats().failed == 3);
  CHECK(pool.stats().queued == 0);
  gate.open();
  pool.wait();
  CHECK(pool.stats().done == 1);
}

TEST_CASE_TEMPLATE("this_task::progress is legal in every task", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  CHECK(pool.submit([] {
              for (std::uint64_t n = 0; n < 10; ++n) brood::this_task::progress(n, 10);
              return 1;
            }).get() == 1);
  CHECK_THROWS_AS(brood::this_task::progress(1, 2), brood::Error);
}
