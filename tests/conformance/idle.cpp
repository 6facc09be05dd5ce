// SPDX-License-Identifier: MIT
// PoolOptions::idle_timeout: workers that have nothing to do leave, and are started again when they are needed.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

namespace {

using namespace std::chrono_literals;
using ForkServer = brood::ForkServerPolicy<>;

pid_t own_pid() { return ::getpid(); }
int add_one(int n) { return n + 1; }
pid_t pid_behind_gate(const std::string& path) {
  support::wait_for_gate(path, 0);
  return ::getpid();
}

/// Waits for the end of a process without a word to its pool.
bool leaves(pid_t pid) {
  return support::eventually([&] { return !support::process_info(pid); });
}

}  // namespace

TEST_CASE_TEMPLATE("idle_timeout: an idle worker leaves though nobody asks the pool, and another comes", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .idle_timeout = 20ms});
  const pid_t server = pool.stats().server_pid;
  pid_t last = 0;
  for (int round = 0; round < 3; ++round) {
    const pid_t pid = pool.submit(&own_pid).get();
    CHECK(pid != last);
    CHECK(leaves(pid));
    last = pid;
  }
  auto dropped = pool.submit(&own_pid);  // the helper thread drives
  CHECK(support::eventually([&] { return dropped.ready(); }));
  CHECK(leaves(dropped.get()));
  CHECK(support::eventually([&] { return pool.stats().workers.empty(); }));  // the end of the last one has been told
  const auto stats = pool.stats();
  CHECK(stats.server_pid == server);
  CHECK(stats.workers_started == 4);
  CHECK(stats.workers_died == 0);
  CHECK(pool.map(&add_one, std::vector{1, 2, 3}) == std::vector{2, 3, 4});
}

TEST_CASE("idle_timeout: a busy worker stays however long its task takes, and so does one that is used again and again") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<ForkServer> pool({.workers = 3, .idle_timeout = 30ms});
  std::vector<brood::Future<pid_t>> futures;
  for (int n = 0; n < 3; ++n) futures.push_back(pool.submit(&pid_behind_gate, gate.path()));
  CHECK(support::wait_until_running(pool, 3));
  std::this_thread::sleep_for(100ms);  // the time has to pass
  CHECK(pool.stats().running == 3);
  gate.open();
  std::set<pid_t> pids;
  for (auto& future : futures) pids.insert(future.get());
  CHECK(pids.size() == 3);
  for (const pid_t pid : pids) CHECK(leaves(pid));
  CHECK(pool.stats().workers_died == 0);
  CHECK(pool.stats().failed == 0);
}

TEST_CASE("idle_timeout: those beyond what is needed leave, the last used is used again") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<ForkServer> pool({.workers = 4, .idle_timeout = 300ms});
  std::vector<brood::Future<pid_t>> futures;
  for (int n = 0; n < 4; ++n) futures.push_back(pool.submit(&pid_behind_gate, gate.path()));
  CHECK(support::wait_until_running(pool, 4));
  gate.open();
  for (auto& future : futures) future.wait();
  CHECK(support::eventually([&] {
    pool.submit(&own_pid).get();
    return pool.stats().workers.size() == 1;
  }));
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE("idle_timeout: calls that come at the moment in which a worker leaves") {
  const support::Leftovers audit;
  brood::Pool<ForkServer> pool({.workers = 2, .idle_timeout = 1ms});
  for (int n = 0; n < 200; ++n) {
    CHECK(pool.submit(&add_one, n).get() == n + 1);
    std::this_thread::sleep_for(std::chrono::microseconds(900 + n * 3 % 400));
  }
  const auto stats = pool.stats();
  CHECK(stats.failed == 0);
  CHECK(stats.workers_died == 0);
  CHECK(stats.workers_started > 1);
}

TEST_CASE("idle_timeout: with on_worker_stop, which may hang") {
  const support::Leftovers audit;
  brood::Pool<ForkServer> pool(
      {.workers = 2, .stop_grace = 50ms, .idle_timeout = 10ms, .on_worker_stop = [] { for (;;) ::pause(); }});
  CHECK(leaves(pool.submit(&own_pid).get()));
  CHECK(leaves(pool.submit(&own_pid).get()));
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE("idle_timeout: spare workers stay, one takes over from a worker that has left") {
  const support::Leftovers audit;
  brood::Pool<ForkServer> pool({.workers = 1, .idle_timeout = 20ms, .spares = 1});
  for (int n = 0; n < 3; ++n) {
    CHECK(support::eventually([&] { return pool.stats().spares == 1; }));
    pid_t spare = 0;
    for (const auto& worker : pool.stats().workers) {
      if (worker.state == brood::WorkerState::spare) spare = worker.pid;
    }
    const pid_t pid = pool.submit(&own_pid).get();
    CHECK(pid == spare);
    CHECK(leaves(pid));
  }
}

TEST_CASE("idle_timeout: without it no thread comes up for a call that is waited for, and nobody leaves") {
  const support::Leftovers audit;
  const auto pid_of_worker = [](auto& pool) { return pool.map([](int) { return own_pid(); }, std::vector{1}).at(0); };
  const auto threads = [] { return support::numbers_in("/proc/self/task").size(); };
  const std::size_t before = threads();
  brood::Pool<ForkServer> pool({.workers = 1});
  const pid_t pid = pid_of_worker(pool);
  CHECK(pid_of_worker(pool) == pid);
  CHECK(threads() == before);
  brood::Pool<ForkServer> patient({.workers = 1, .idle_timeout = std::chrono::milliseconds::max()});
  const pid_t other = pid_of_worker(patient);
  CHECK(pid_of_worker(patient) == other);
  CHECK(threads() == before);  // its time does not come
  brood::Pool<ForkServer> impatient({.workers = 1, .idle_timeout = std::chrono::hours(1)});
  CHECK(pid_of_worker(impatient) == pid_of_worker(impatient));
  CHECK_THROWS_WITH_AS(brood::Pool<ForkServer>({.idle_timeout = -1ms}), doctest::Contains("PoolOptions::idle_timeout"),
                       std::invalid_argument);
}

TEST_CASE("idle_timeout: pools that end while workers wait for their time, or leave") {
  const support::Leftovers audit;
  for (int n = 0; n < 10; ++n) {
    brood::Pool<ForkServer> pool({.workers = 2, .idle_timeout = std::chrono::milliseconds(n)});
    CHECK(pool.submit(&add_one, 1).get() == 2);
    if (n % 3 == 1) pool.kill();
    if (n % 3 == 2) std::this_thread::sleep_for(std::chrono::milliseconds(n));
  }
}
