// SPDX-License-Identifier: MIT
// PoolOptions::spares: workers that are up before they are needed.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
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

pid_t own_pid() { return ::getpid(); }
int add_one(int n) { return n + 1; }
int crash() { std::abort(); }
int hang() {
  for (;;) ::pause();
}

int hook_runs = 0;
unsigned hook_index = 0;
void note_hook() {
  ++hook_runs;
  hook_index = brood::this_worker::index();
}
/// With one worker in the pool: only spare ones fail.
void refuse_spares() {
  if (brood::this_worker::index() >= 1) throw std::runtime_error("no spare worker");
}
void hang_in_spares() {
  if (brood::this_worker::index() >= 1) hang();
}

/// Waits until there are so many spare workers, and no other is on its way out. Their pids.
template <class Pool>
std::set<pid_t> spare_pids(Pool& pool, std::size_t count) {
  std::set<pid_t> pids;
  CHECK(support::eventually([&] {
    pids.clear();
    const auto stats = pool.stats();
    for (const auto& worker : stats.workers) {
      if (worker.state == brood::WorkerState::spare) pids.insert(worker.pid);
    }
    return stats.spares == count && pids.size() == count;
  }));
  return pids;
}

constexpr std::size_t mebi = std::size_t{1} << 20;

pid_t leak(std::size_t bytes) {
  void* const taken = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (taken == MAP_FAILED) throw std::bad_alloc();
  std::memset(taken, 1, bytes);
  return ::getpid();
}

}  // namespace

TEST_CASE_TEMPLATE("spares: they come up with the pool, before any call, and nobody need drive", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::size_t threads = support::numbers_in("/proc/self/task").size();
  brood::Pool<Policy> pool({.workers = 2, .spares = 3, .on_worker_start = &note_hook});
  CHECK(support::numbers_in("/proc/self/task").size() == threads);
  const auto pids = spare_pids(pool, 3);
  const auto stats = pool.stats();
  CHECK(stats.workers.size() == 3);
  CHECK(stats.workers_started == 3);
  CHECK(stats.running == 0);
  std::set<unsigned> indices;
  for (const auto& worker : stats.workers) indices.insert(worker.index);
  CHECK(indices == std::set<unsigned>{2, 3, 4});
  CHECK(support::numbers_in("/proc/self/task").size() == threads);
  CHECK(hook_runs == 0);
}

TEST_CASE_TEMPLATE("spares: the first call runs in one, which has run its hook once and now has a place", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .spares = 2, .on_worker_start = &note_hook});
  const auto before = spare_pids(pool, 2);
  const auto [pid, index, hooks, index_in_hook] = pool.submit([] {
    return std::tuple(::getpid(), brood::this_worker::index(), hook_runs, hook_index);
  }).get();
  CHECK(before.count(pid) == 1);
  CHECK(index < 2);
  CHECK(hooks == 1);
  CHECK(index_in_hook >= 2);
  CHECK(index_in_hook < 4);
  CHECK(spare_pids(pool, 2).count(pid) == 0);  // another takes its seat
  CHECK(pool.stats().workers.size() == 3);
}

TEST_CASE_TEMPLATE("spares: one takes over from a worker that died", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .spares = 1});
  for (int round = 0; round < 3; ++round) {
    const pid_t victim = pool.submit(&own_pid).get();
    const auto next = spare_pids(pool, 1);
    CHECK(next.count(victim) == 0);
    CHECK_THROWS_AS(pool.submit(&crash).get(), brood::WorkerDied);
    CHECK(next.count(pool.submit(&own_pid).get()) == 1);
  }
  CHECK(pool.stats().workers_died == 3);
}

TEST_CASE_TEMPLATE("spares: one takes over from a worker that was killed at a deadline", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .spares = 1});
  CHECK(pool.submit(&add_one, 1).get() == 2);
  const auto next = spare_pids(pool, 1);
  CHECK_THROWS_AS(pool.submit({.timeout = 20ms}, &hang).get(), brood::TaskTimeout);
  CHECK(next.count(pool.submit(&own_pid).get()) == 1);
}

TEST_CASE_TEMPLATE("spares: one takes over from a worker that has had its share of tasks", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 2, .spares = 1});
  for (int round = 0; round < 5; ++round) {
    const auto next = spare_pids(pool, 1);
    const pid_t pid = pool.submit(&own_pid).get();
    CHECK(next.count(pid) == 1);
    CHECK(pool.submit(&own_pid).get() == pid);
  }
  const auto stats = pool.stats();
  CHECK(stats.workers_died == 0);
  CHECK(stats.done == 10);
}

TEST_CASE_TEMPLATE("spares: one takes over from a worker that has grown", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  std::uint64_t fresh = 0;
  {
    brood::Pool<Policy> pool({.workers = 1});
    fresh = pool.submit([] { return brood::detail::own_memory().resident; }).get();
  }
  brood::Pool<Policy> pool({.workers = 1, .memory_per_worker = fresh + 100 * mebi, .spares = 1});
  const pid_t first = pool.submit(&own_pid).get();
  const auto next = spare_pids(pool, 1);
  CHECK(pool.submit(&leak, 150 * mebi).get() == first);
  CHECK(next.count(pool.submit(&own_pid).get()) == 1);
}

TEST_CASE_TEMPLATE("spares: no more tasks run at a time, and no more processes exist than there may be", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 2, .spares = 3});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 8; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), n));
  CHECK(support::wait_until_running(pool, 2));
  const auto pids = spare_pids(pool, 3);
  const auto stats = pool.stats();
  CHECK(stats.running == 2);
  CHECK(stats.queued == 6);
  CHECK(stats.workers.size() == 5);
  gate.open();
  for (int n = 0; n < 8; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == n);
  CHECK(pool.stats().workers_started == 5);
}

TEST_CASE_TEMPLATE("spares: those that can't be started fail no call, and are not tried again at once", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const auto made = std::chrono::steady_clock::now();
  brood::Pool<Policy> pool({.workers = 1, .spares = 2, .on_worker_start = &refuse_spares});
  const auto deaths = [&] { return pool.stats().workers_died; };
  CHECK(support::eventually([&] { return deaths() >= 3; }));
  for (int n = 0; n < 50; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);
  CHECK(support::eventually([&] { return deaths() >= 5; }));
  CHECK(pool.submit(&add_one, 1).get() == 2);
  const auto stats = pool.stats();
  CHECK(stats.state == brood::PoolState::running);
  CHECK(stats.failed == 0);
  CHECK(stats.spares == 0);
  // the n-th pause is 2 ms * 2^n; two of them start at a time
  std::uint64_t most = 4;
  for (auto left = std::chrono::steady_clock::now() - made; left > 2ms; left /= 2) most += 2;
  CHECK(stats.workers_died <= most);
}

TEST_CASE_TEMPLATE("spares: one that hangs in its hook is ended at start_timeout, and fails no call", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool(
      {.workers = 1, .start_timeout = support::short_start_timeout, .spares = 1, .on_worker_start = &hang_in_spares});
  CHECK(support::eventually([&] { return pool.stats().workers_died >= 1; }));
  CHECK(pool.submit(&add_one, 1).get() == 2);
  CHECK(pool.stats().failed == 0);
}

TEST_CASE("spares: one that came up while nobody listened is not taken for overdue") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1, .start_timeout = support::short_start_timeout, .spares = 2});
  std::this_thread::sleep_for(support::short_start_timeout + 100ms);  // the time has to pass
  const pid_t pid = pool.submit(&own_pid).get();
  const auto stats = pool.stats();
  CHECK(stats.workers_died == 0);
  CHECK(std::any_of(stats.workers.begin(), stats.workers.end(), [&](const auto& worker) { return worker.pid == pid; }));
}

TEST_CASE_TEMPLATE("spares: a spare worker that is killed is replaced, and no call fails", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .spares = 1});
  CHECK(pool.submit(&add_one, 1).get() == 2);
  for (int round = 0; round < 3; ++round) {
    const auto spare = spare_pids(pool, 1);
    REQUIRE(spare.size() == 1);
    ::kill(*spare.begin(), SIGKILL);
    CHECK(support::eventually([&] { return pool.stats().workers_died == static_cast<std::uint64_t>(round + 1); }));
    CHECK(pool.submit(&add_one, 1).get() == 2);
  }
  spare_pids(pool, 1);
  CHECK(pool.stats().failed == 0);
}

TEST_CASE_TEMPLATE("spares: all are killed at once while calls wait, and the calls run", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .spares = 2});
  const auto pids = spare_pids(pool, 2);
  for (const pid_t pid : pids) ::kill(pid, SIGKILL);
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 20; ++n) futures.push_back(pool.submit(&add_one, n));
  for (int n = 0; n < 20; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == n + 1);
  CHECK(pool.stats().failed == 0);
}

TEST_CASE_TEMPLATE("spares: they come back with a new server", Policy, support::ForkServerWithPreloads, brood::SpawnPolicy) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .spares = 2});
  const auto before = spare_pids(pool, 2);
  const pid_t server = pool.stats().server_pid;
  ::kill(server, SIGKILL);
  CHECK(support::eventually([&] { return pool.stats().server_pid == 0; }));
  CHECK(pool.submit(&add_one, 1).get() == 2);
  for (const pid_t pid : spare_pids(pool, 2)) CHECK(before.count(pid) == 0);
  CHECK(pool.stats().server_pid != server);
}

TEST_CASE("spares: copies of the host for a closure have none, and leave those of the pool alone") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1, .spares = 1});
  const auto before = spare_pids(pool, 1);
  int more = 1;
  CHECK(pool.submit([&] { return more; }).get() == 1);
  more = 2;
  CHECK(pool.map([&](int n) { return n + more; }, std::vector{1, 2, 3}) == std::vector{3, 4, 5});
  CHECK(spare_pids(pool, 1) == before);
}

TEST_CASE_TEMPLATE("spares: a pool with some ends like any other", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  { const brood::Pool<Policy> never_used({.workers = 2, .spares = 4}); }
  {
    brood::Pool<Policy> closed({.workers = 1, .spares = 2});
    auto future = closed.submit(&add_one, 1);
    closed.close();
    CHECK(future.get() == 2);
  }
  {
    const support::Gate gate;
    brood::Pool<Policy> killed({.workers = 2, .spares = 2});
    auto future = killed.submit(&support::wait_for_gate, gate.path(), 1);
    CHECK(support::wait_until_running(killed, 1));
    killed.kill();
    CHECK_THROWS_AS(future.get(), brood::TaskCancelled);
  }
}

TEST_CASE("spares: more than a machine has room for are refused") {
  const support::Leftovers audit;
  CHECK_THROWS_WITH_AS(brood::Pool<brood::ForkServerPolicy<>>({.workers = 1, .spares = 1'000'001}),
                       doctest::Contains("PoolOptions::spares is 1000001"), std::invalid_argument);
  brood::Pool<brood::InlinePolicy> caller({.spares = 3});  // has no workers at all
  CHECK(caller.submit(&add_one, 1).get() == 2);
}
