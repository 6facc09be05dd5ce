// SPDX-License-Identifier: MIT
// Pool::resize: more workers at once, fewer when they have done what they run, and numbers that stay below the number of workers.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

namespace {

using ForkServer = brood::ForkServerPolicy<>;

int add_one(int n) { return n + 1; }

struct Ran {
  pid_t pid = 0;
  unsigned index = 0;
};
Ran who() { return {::getpid(), brood::this_worker::index()}; }
Ran who_behind_gate(const std::string& path) {
  support::wait_for_gate(path, 0);
  return who();
}

/// Waits until the pool has so many workers, all of them idle.
template <class Pool>
bool wait_until_idle(Pool& pool, std::size_t workers) {
  return support::eventually([&] {
    const auto stats = pool.stats();
    return stats.workers.size() == workers && std::all_of(stats.workers.begin(), stats.workers.end(), [](const auto& worker) {
             return worker.state == brood::WorkerState::idle;
           });
  });
}

/// Has as many workers up and idle as it may have.
template <class Pool>
void fill(Pool& pool) {
  const support::Gate gate;
  const unsigned count = pool.stats().capacity;
  std::vector<brood::Future<int>> futures;
  for (unsigned n = 0; n < count; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), 1));
  CHECK(support::wait_until_running(pool, count));
  gate.open();
  for (auto& future : futures) future.wait();
  CHECK(wait_until_idle(pool, count));
}

}  // namespace

TEST_CASE_TEMPLATE("resize: more workers start at once for tasks that wait, fewer finish what they run", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  const support::Gate second_gate;
  brood::Pool<Policy> pool({.workers = 1});
  CHECK(pool.stats().capacity == 1);
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 4; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), n));
  CHECK(support::wait_until_running(pool, 1));
  pool.resize(4);
  CHECK(pool.stats().capacity == 4);
  CHECK(support::wait_until_running(pool, 4));
  CHECK(pool.stats().queued == 0);

  std::vector<brood::Future<Ran>> later;
  for (int n = 0; n < 5; ++n) later.push_back(pool.submit(&who_behind_gate, second_gate.path()));
  pool.resize(2);
  CHECK(pool.stats().running == 4);
  gate.open();
  for (int n = 0; n < 4; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == n);
  CHECK(support::eventually([&] {
    const auto stats = pool.stats();
    return stats.running == 2 && stats.workers.size() == 2;
  }));
  CHECK(pool.stats().queued == 3);
  second_gate.open();
  for (auto& future : later) CHECK(future.get().index < 2);
  const auto stats = pool.stats();
  CHECK(stats.workers_died == 0);
  CHECK(stats.failed == 0);
  CHECK(stats.workers_started == 4);
}

TEST_CASE_TEMPLATE("resize: idle workers leave at once, in an orderly way, and come back", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 4});
  fill(pool);
  pool.resize(1);
  CHECK(wait_until_idle(pool, 1));
  CHECK(pool.stats().workers[0].index == 0);
  CHECK(pool.submit(&who).get().index == 0);
  CHECK(pool.map(&add_one, std::vector{1, 2, 3}) == std::vector{2, 3, 4});
  pool.resize(3);
  fill(pool);
  std::set<unsigned> indexes;
  for (const auto& worker : pool.stats().workers) indexes.insert(worker.index);
  CHECK(indexes == std::set<unsigned>{0, 1, 2});
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE("resize: a busy worker keeps its process, and gets the number of an idle one that leaves") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<ForkServer> pool({.workers = 3});
  fill(pool);
  // idle ones are taken from the last on: one after the other, until one with a high number is busy
  std::vector<brood::Future<Ran>> busy;
  busy.push_back(pool.submit(&who_behind_gate, gate.path()));
  CHECK(support::wait_until_running(pool, 1));
  unsigned place = 0;
  for (const auto& worker : pool.stats().workers) {
    if (worker.state == brood::WorkerState::busy) place = worker.index;
  }
  pool.resize(1);
  const auto waiting = pool.submit(&who);
  CHECK(support::eventually([&] { return pool.stats().workers.size() == 1; }));
  CHECK(pool.stats().workers[0].index == 0);
  gate.open();
  const Ran first = busy[0].get();
  CHECK(first.index == place);  // a task that runs keeps its number
  const Ran second = pool.submit(&who).get();
  CHECK(second.pid == first.pid);
  CHECK(second.index == 0);
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE_TEMPLATE("resize: a map that is under way takes more workers, and fewer", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  std::vector<std::pair<std::string, int>> items;
  for (int n = 0; n < 40; ++n) items.emplace_back(gate.path(), n);
  std::vector<int> values;
  std::thread other([&] {  // under ForkPolicy the server is there already
    values = pool.map(&support::wait_for_gate, items, {.chunk_size = 1});
  });
  CHECK(support::wait_until_running(pool, 1));
  pool.resize(5);
  CHECK(support::wait_until_running(pool, 5));
  pool.resize(2);
  gate.open();
  other.join();
  std::vector<int> expected(items.size());
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(values == expected);
  CHECK(support::eventually([&] { return pool.stats().workers.size() <= 2; }));
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE("resize: a stream that is under way takes more workers, and fewer") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<ForkServer> pool({.workers = 1});
  std::vector<std::pair<std::string, int>> items;
  for (int n = 0; n < 60; ++n) items.emplace_back(gate.path(), n);
  std::vector<int> values;
  std::thread other([&] {
    for (const int value : pool.stream(&support::wait_for_gate, items, {.chunk_size = 1})) values.push_back(value);
  });
  CHECK(support::wait_until_running(pool, 1));
  pool.resize(3);
  CHECK(support::wait_until_running(pool, 3));
  pool.resize(1);
  gate.open();
  other.join();
  std::vector<int> expected(items.size());
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(values == expected);
  CHECK(support::eventually([&] { return pool.stats().workers.size() == 1; }));
}

TEST_CASE("resize: copies of the host for closures, more of them and fewer") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1}, {.allow_threads = true});
  const std::string path = gate.path();
  std::vector<int> items(20);
  std::iota(items.begin(), items.end(), 0);
  std::vector<std::pair<unsigned, int>> values;
  std::thread other([&] {
    values = pool.map(
        [&](int n) {
          support::wait_for_gate(path, n);
          return std::pair(brood::this_worker::index(), n);
        },
        items, {.chunk_size = 1});
  });
  CHECK(support::wait_until_running(pool, 1));
  pool.resize(4);
  CHECK(support::wait_until_running(pool, 4));
  pool.resize(2);
  gate.open();
  other.join();
  for (int n = 0; n < 20; ++n) {
    CHECK(values[static_cast<std::size_t>(n)].second == n);
    CHECK(values[static_cast<std::size_t>(n)].first < (n < 4 ? 4U : 2U));
  }
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE("resize: from many threads while others submit") {
  const support::Leftovers audit;
  brood::Pool<ForkServer> pool({.workers = 2, .spares = 1});
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 2; ++thread) {
    threads.emplace_back([&, thread] {
      for (unsigned n = 0; n < 60; ++n) pool.resize(1 + (n * 7 + static_cast<unsigned>(thread)) % 5);
    });
  }
  for (int thread = 0; thread < 2; ++thread) {
    threads.emplace_back([&] {
      std::vector<brood::Future<int>> futures;
      for (int n = 0; n < 300; ++n) {
        futures.push_back(pool.submit(&add_one, n));
        if (n % 10 == 0) futures.back().wait();
      }
      int wrong = 0;
      for (int n = 0; n < 300; ++n) wrong += futures[static_cast<std::size_t>(n)].get() == n + 1 ? 0 : 1;
      CHECK(wrong == 0);
      const std::vector<int> items(500, 1);
      CHECK(pool.map(&add_one, items) == std::vector<int>(500, 2));
    });
  }
  for (auto& thread : threads) thread.join();
  pool.resize(2);
  std::vector<brood::Future<Ran>> futures;
  for (int n = 0; n < 50; ++n) futures.push_back(pool.submit(&who));
  for (auto& future : futures) CHECK(future.get().index < 2);
  CHECK(support::eventually([&] {
    const auto stats = pool.stats();
    return stats.workers.size() - stats.spares <= 2;
  }));
  const auto stats = pool.stats();
  CHECK(stats.workers_died == 0);
  CHECK(stats.failed == 0);
}

TEST_CASE("resize: a worker that starts, that dies, that is recycled meanwhile") {
  const support::Leftovers audit;
  brood::Pool<ForkServer> pool({.workers = 6, .tasks_per_worker = 2});
  for (int round = 0; round < 10; ++round) {
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 12; ++n) futures.push_back(pool.submit(&add_one, n));
    auto dies = pool.submit([] { ::_exit(1); });
    pool.resize(round % 2 == 0 ? 1 : 6);  // most are about to start
    for (int n = 0; n < 12; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == n + 1);
    CHECK_THROWS_AS(dies.get(), brood::WorkerDied);
  }
  CHECK(pool.stats().workers_died == 10);
}

TEST_CASE("resize: 0 is as many as CPUs, too many are refused, InlinePolicy ignores it, others may not") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 3});
  pool.resize(0);
  CHECK(pool.stats().capacity == brood::Pool<brood::InlinePolicy>().stats().capacity);
  CHECK_THROWS_WITH_AS(pool.resize(1'000'001), doctest::Contains("Pool::resize is 1000001"), std::invalid_argument);
  pool.resize(2);
  const support::Ran ran = support::run_in_child([&] {
    try {
      pool.resize(4);
    } catch (const brood::WrongProcess&) {
      return 0;
    }
    return 1;
  });
  CHECK(ran.status.describe() == "exited with code 0");
  CHECK(pool.submit(&add_one, 1).get() == 2);
  pool.close();
  pool.resize(1);
  CHECK(pool.stats().workers.size() == 1);
  pool.kill();
  pool.resize(5);
  brood::Pool<brood::InlinePolicy> caller({.workers = 1});
  caller.resize(3);
  CHECK(caller.submit(&add_one, 1).get() == 2);
}
