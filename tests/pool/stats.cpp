// SPDX-License-Identifier: MIT
// Pool::stats.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

int add_one(int n) { return n + 1; }

int report_and_wait(const std::string& gate) {
  brood::this_task::progress(1, 4);
  return support::wait_for_gate(gate, 1);
}

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

TEST_CASE("PoolStats tells what each worker runs, since when, and how far it is") {
  const support::Leftovers audit;
  const support::Gate gate;
  const auto before = std::chrono::steady_clock::now();
  brood::Pool<support::ForkServer> pool({.workers = 2});
  auto one = pool.submit(&report_and_wait, gate.path());
  REQUIRE(support::wait_until_running(pool, 1));
  REQUIRE(support::eventually([&] { return one.progress().total != 0; }));
  std::thread other([&] {
    const std::vector<std::pair<std::string, int>> items{{"/", 1}, {"/", 2}, {gate.path(), 3}, {"/", 4}};
    pool.map(&support::wait_for_gate, items, {.chunk_size = 4});
  });
  CHECK(support::eventually([&] {
    const auto stats = pool.stats();
    return stats.running == 2 && stats.workers.at(1).items_done == 2;
  }));
  const auto stats = pool.stats();
  const auto now = std::chrono::steady_clock::now();
  REQUIRE(stats.workers.size() == 2);
  const brood::WorkerStats& first = stats.workers[0];
  CHECK(first.callable.find("report_and_wait(") != std::string::npos);
  CHECK(first.task == one.id());
  CHECK(first.progress == brood::TaskProgress{1, 4});
  CHECK(first.items == 0);
  CHECK(first.started >= before);
  CHECK(first.since >= first.started);
  CHECK(first.since <= now);
  CHECK(first.busy.count() > 0);
  CHECK(first.busy <= now - first.started);
  const brood::WorkerStats& second = stats.workers[1];
  CHECK(second.callable.find("wait_for_gate(") != std::string::npos);
  CHECK(second.items == 4);
  CHECK(second.items_done == 2);
  CHECK(second.progress == brood::TaskProgress{});
  gate.open();
  other.join();
  one.wait();
  pool.wait();
  for (const auto& worker : pool.stats().workers) {
    CHECK(worker.callable.empty());
    CHECK(worker.items == 0);
    CHECK(worker.since == std::chrono::steady_clock::time_point());
  }
}

TEST_CASE("PoolStats counts bytes, time, servers and workers that took the place of others") {
  const support::Leftovers audit;
  brood::Pool<support::ForkServer> pool({.workers = 1});
  CHECK(pool.stats().bytes_sent == 0);
  CHECK(pool.stats().busy_share() == 0);
  const std::string text(1'000'000, 'x');
  CHECK(pool.submit([](const std::string& all) { return all; }, text).get() == text);
  const auto first = pool.stats();
  CHECK(first.bytes_sent >= text.size());
  CHECK(first.bytes_sent < 2 * text.size());
  CHECK(first.bytes_received >= text.size());
  CHECK(first.bytes_received < 2 * text.size());
  CHECK(first.servers_started == 1);
  CHECK(first.workers_restarted == 0);
  CHECK(first.busy_time.count() > 0);
  CHECK(first.busy_time <= first.worker_time);
  CHECK(first.busy_share() > 0);
  CHECK(first.busy_share() <= 1);

  CHECK_FALSE(pool.submit([] { return ::raise(SIGKILL); }).outcome().has_value());
  CHECK(pool.submit(&add_one, 1).get() == 2);
  const auto second = pool.stats();
  CHECK(second.workers_restarted == 1);
  CHECK(second.bytes_sent > first.bytes_sent);  // what the dead one had is counted
  CHECK(second.busy_time > first.busy_time);
  CHECK(second.worker_time > first.worker_time);

  ::kill(second.server_pid, SIGKILL);
  CHECK(support::eventually([&] { return pool.stats().server_pid == 0; }));
  CHECK(pool.submit(&add_one, 1).get() == 2);
  CHECK(pool.stats().servers_started == 2);
  CHECK(pool.stats().workers_restarted == 2);

  brood::Pool<support::ForkServer> recycling({.workers = 1, .tasks_per_worker = 1});
  for (int n = 0; n < 3; ++n) recycling.submit(&add_one, n).wait();
  CHECK(support::eventually([&] { return recycling.stats().workers_recycled == 3; }));
  CHECK(recycling.stats().workers_died == 0);
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
