// SPDX-License-Identifier: MIT
// tasks_per_worker, memory_per_worker, on_worker_start, and how many workers there are.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/rounds.hpp"
#include "support/sanitizer.hpp"

namespace {

int starts = 0;
void count_start() { ++starts; }
void hook_throws() { throw std::runtime_error("the hook's own words"); }
void hook_exits() { ::_exit(9); }
void hook_crashes() { ::raise(SIGSEGV); }
void hook_hangs() {
  for (;;) ::pause();
}
int add_one(int n) { return n + 1; }

}  // namespace

TEST_CASE_TEMPLATE("tasks_per_worker replaces workers", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  // fewer where a worker's start is slow: a program start, or a fork of a process with a sanitizer's shadow memory
  constexpr bool spawns = std::is_same_v<Policy, brood::SpawnPolicy>;
  const int tasks = spawns && support::has_sanitizer ? 30 : support::rounds(100, 500).count();
  for (const unsigned workers : {1U, 2U, 4U}) {
    for (const std::uint64_t limit : {1U, 2U, 3U, 7U}) {
      CAPTURE(workers);
      CAPTURE(limit);
      brood::Pool<Policy> pool({.workers = workers, .tasks_per_worker = limit});
      std::vector<brood::Future<std::pair<int, pid_t>>> futures;
      for (int n = 0; n < tasks; ++n) {
        futures.push_back(pool.submit([](int k) { return std::pair(k, ::getpid()); }, n));
      }
      std::map<pid_t, std::uint64_t> ran;
      for (int n = 0; n < tasks; ++n) {
        const auto [number, pid] = futures[static_cast<std::size_t>(n)].get();
        CHECK(number == n);
        ++ran[pid];
      }
      for (const auto& [pid, count] : ran) {
        if (count > limit) FAIL_CHECK("worker " << pid << " ran " << count << " tasks");
      }
      const auto stats = pool.stats();
      CHECK(stats.done == static_cast<std::uint64_t>(tasks));
      CHECK(stats.workers_started >= (static_cast<std::uint64_t>(tasks) + limit - 1) / limit);
      CHECK(stats.workers_died == 0);
      // those that leave are listed until they are gone
      CHECK(std::count_if(stats.workers.begin(), stats.workers.end(), [](const brood::WorkerStats& worker) {
              return worker.state != brood::WorkerState::stopping;
            }) <= static_cast<std::ptrdiff_t>(workers));
    }
  }
}

TEST_CASE_TEMPLATE("tasks_per_worker holds for map, too", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 3});
  const auto pids = pool.map([](int) { return ::getpid(); }, std::vector<int>(40));
  std::map<pid_t, int> ran;
  for (const pid_t pid : pids) ++ran[pid];
  for (const auto& [pid, count] : ran) CHECK(count <= 3);
}

TEST_CASE_TEMPLATE("a pool has as many workers as asked for, when there is work for them", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 5});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 12; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), n));
  CHECK(support::wait_until_running(pool, 5));
  const auto stats = pool.stats();
  CHECK(stats.workers.size() == 5);
  CHECK(stats.queued == 7);
  std::set<unsigned> indices;
  std::set<pid_t> pids;
  for (const auto& worker : stats.workers) {
    indices.insert(worker.index);
    pids.insert(worker.pid);
    CHECK(worker.state == brood::WorkerState::busy);
    CHECK(worker.task != 0);
  }
  CHECK(indices == std::set<unsigned>{0, 1, 2, 3, 4});
  CHECK(pids.size() == 5);
  gate.open();
  pool.wait();
  CHECK(pool.stats().workers_started == 5);
}

TEST_CASE_TEMPLATE("PoolOptions::workers 0 is as many as there are usable CPUs", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool;
  const unsigned cpus = std::max(1U, std::thread::hardware_concurrency());
  std::vector<brood::Future<int>> futures;
  for (unsigned n = 0; n < cpus + 3; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), 1));
  CHECK(support::eventually([&] { return pool.stats().running > 0; }));
  CHECK(pool.stats().workers.size() <= cpus);
  gate.open();
}

TEST_CASE_TEMPLATE("on_worker_start runs once in each worker, before its first task", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 3, .on_worker_start = &count_start});
  for (int n = 0; n < 20; ++n) CHECK(pool.submit([] { return starts; }).get() == 1);
  CHECK(starts == 0);
  brood::Pool<Policy> other({.workers = 1, .on_worker_start = [] { ::setenv("BROOD_TEST_HOOK", "ran", 1); }});
  CHECK(other.submit([] { return std::string(std::getenv("BROOD_TEST_HOOK")); }).get() == "ran");
}

TEST_CASE_TEMPLATE("an on_worker_start that fails is a LaunchError with the cause", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::vector<std::pair<void (*)(), std::string>> hooks{
      {&hook_throws, "the hook's own words"}, {&hook_exits, "exited with code 9"}, {&hook_crashes, "SIGSEGV"}};
  for (const auto& [hook, expected] : hooks) {
    CAPTURE(expected);
    brood::Pool<Policy> pool({.workers = 2, .on_worker_start = hook});
    auto first = pool.submit(&add_one, 1);
    auto second = pool.submit(&add_one, 1);
    CHECK_THROWS_WITH_AS(static_cast<void>(first.get()), doctest::Contains(expected.c_str()), brood::LaunchError);
    CHECK_THROWS_AS(static_cast<void>(second.get()), brood::LaunchError);
    CHECK(first.outcome().failure().kind() == brood::FailureKind::launch);
    CHECK_THROWS_AS(pool.map(&add_one, std::vector{1, 2, 3}), brood::LaunchError);
    CHECK(pool.stats().running == 0);
  }
}

TEST_CASE_TEMPLATE("an on_worker_start that hangs ends at start_timeout", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .start_timeout = support::short_start_timeout, .on_worker_start = &hook_hangs});
  auto future = pool.submit(&add_one, 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(future.get()), doctest::Contains("start_timeout"), brood::LaunchError);
}

TEST_CASE_TEMPLATE("PoolOptions::name is in the names of the workers and their server", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .name = "my-pool"});
  CHECK(pool.submit([] { return support::process_info(::getpid())->name; }).get() == "my-pool-0");
  CHECK(support::process_info(pool.stats().server_pid)->name == "my-pool-srv");
}

namespace {

/// Memory that stays resident, in a place that is neither freed nor taken by anything else.
void leak(std::size_t bytes) {
  void* const taken = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (taken == MAP_FAILED) throw std::bad_alloc();
  std::memset(taken, 1, bytes);
}

constexpr std::size_t mebi = std::size_t{1} << 20;

/// What a fresh worker of this policy has resident, and so many MiB.
template <class Policy>
std::uint64_t fresh_and(std::uint64_t more) {
  brood::Pool<Policy> pool({.workers = 1});
  return pool.submit([] { return brood::detail::own_memory().resident; }).get() + more * mebi;
}

pid_t leak_and_tell(std::size_t bytes, int) {
  leak(bytes);
  return ::getpid();
}

}  // namespace

TEST_CASE_TEMPLATE("memory_per_worker replaces a worker that has grown, between tasks", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .memory_per_worker = fresh_and<Policy>(100)});
  // 40 MiB each: the third task takes a worker over its limit
  std::vector<pid_t> pids;
  for (int n = 0; n < 9; ++n) pids.push_back(pool.submit(&leak_and_tell, 40 * mebi, n).get());
  for (int n = 0; n < 9; ++n) {
    CAPTURE(n);
    CHECK(pids[static_cast<std::size_t>(n)] == pids[static_cast<std::size_t>(n / 3 * 3)]);
    if (n >= 3) CHECK(pids[static_cast<std::size_t>(n)] != pids[static_cast<std::size_t>(n - 3)]);
  }
  const auto stats = pool.stats();
  CHECK(stats.done == 9);
  CHECK(stats.workers_started == 3);
  CHECK(stats.workers_died == 0);
}

TEST_CASE_TEMPLATE("memory_per_worker: a worker that stays small stays", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .memory_per_worker = fresh_and<Policy>(500)});
  for (int n = 0; n < 200; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);
  CHECK(pool.map(&add_one, std::vector<int>(1000, 1)) == std::vector<int>(1000, 2));
  CHECK(pool.stats().workers_started == 1);
}

TEST_CASE_TEMPLATE("memory_per_worker: tasks that were handed out ahead of time run elsewhere", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .memory_per_worker = fresh_and<Policy>(60)});
  const int tasks = std::is_same_v<Policy, brood::SpawnPolicy> || support::has_sanitizer ? 600 : 3'000;
  const int period = tasks / 12;
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < tasks; ++n) {
    futures.push_back(pool.submit(
        [](int k, int every) {
          if (k % every == every / 2) leak(80 * mebi);
          if (k % every == every / 2 + 3) throw std::runtime_error(std::to_string(k));
          return k;
        },
        n, period));
  }
  for (int n = 0; n < tasks; ++n) {
    auto& future = futures[static_cast<std::size_t>(n)];
    if (n % period == period / 2 + 3) {
      CHECK_THROWS_WITH_AS(static_cast<void>(future.get()), std::to_string(n).c_str(), std::runtime_error);
    } else {
      CHECK(future.get() == n);
    }
  }
  const auto stats = pool.stats();
  CHECK(stats.done == static_cast<std::uint64_t>(tasks - 12));
  CHECK(stats.failed == 12);
  CHECK(stats.workers_died == 0);
  CHECK(stats.workers_started > 5);
}

TEST_CASE_TEMPLATE("memory_per_worker ends a chunk of a map early, and the rest runs elsewhere", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .memory_per_worker = fresh_and<Policy>(100)});
  std::vector<int> items(30);
  for (int n = 0; n < 30; ++n) items[static_cast<std::size_t>(n)] = n;
  const auto results = pool.map(
      [](int n) {
        leak(20 * mebi);
        return std::pair(n, ::getpid());
      },
      items, {.chunk_size = 30});
  std::map<pid_t, int> ran;
  for (int n = 0; n < 30; ++n) {
    CHECK(results[static_cast<std::size_t>(n)].first == n);
    ++ran[results[static_cast<std::size_t>(n)].second];
  }
  CHECK(ran.size() >= 5);
  for (const auto& [pid, count] : ran) {
    CAPTURE(pid);
    CHECK(count <= 6);
  }
  CHECK(pool.stats().workers_died == 0);
  CHECK(pool.stats().done == 30);
}

TEST_CASE("memory_per_worker holds for closures, too") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1, .memory_per_worker = fresh_and<brood::ForkPolicy>(100)});
  const int more = 1;
  const auto results = pool.map(
      [&](int n) {
        leak(60 * mebi);
        return std::pair(n + more, ::getpid());
      },
      std::vector{1, 2, 3, 4, 5, 6}, {.chunk_size = 2});
  std::set<pid_t> pids;
  for (int n = 0; n < 6; ++n) {
    CHECK(results[static_cast<std::size_t>(n)].first == n + 2);
    pids.insert(results[static_cast<std::size_t>(n)].second);
  }
  CHECK(pids.size() == 3);
}

TEST_CASE_TEMPLATE("memory_per_worker below what a fresh worker has is a LaunchError that says so", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .memory_per_worker = 4096});
  auto future = pool.submit(&add_one, 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(future.get()),
                       doctest::Contains("bytes resident before its first task, more than PoolOptions::memory_per_worker (4096)"),
                       brood::LaunchError);
}
