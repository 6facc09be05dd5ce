// SPDX-License-Identifier: MIT
// Counters that have passed 2^32. No pool gets there within a test, so they are set; an explicit instantiation may name what is
// private.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using brood::detail::Dispatcher;
using brood::detail::Slot;

constexpr std::uint64_t wrap = std::uint64_t{1} << 32;

template <class Key, typename Key::Type Member>
struct Exposed {
  friend typename Key::Type reveal(Key) { return Member; }
};
struct Mutex {
  using Type = std::mutex Dispatcher::*;
  friend Type reveal(Mutex);
};
struct NextTask {
  using Type = std::uint64_t Dispatcher::*;
  friend Type reveal(NextTask);
};
struct NextSource {
  using Type = std::uint32_t Dispatcher::*;
  friend Type reveal(NextSource);
};
struct Slots {
  using Type = std::vector<std::unique_ptr<Slot>> Dispatcher::*;
  friend Type reveal(Slots);
};
struct Vacant {
  using Type = std::vector<std::uint32_t> Dispatcher::*;
  friend Type reveal(Vacant);
};
struct InsideFork {
  using Type = std::shared_ptr<Dispatcher> brood::Pool<brood::ForkPolicy>::*;
  friend Type reveal(InsideFork);
};
struct InsideSpawn {
  using Type = std::shared_ptr<Dispatcher> brood::Pool<brood::SpawnPolicy>::*;
  friend Type reveal(InsideSpawn);
};
struct InsideServer {
  using Type = std::shared_ptr<Dispatcher> brood::Pool<support::ForkServer>::*;
  friend Type reveal(InsideServer);
};
template struct Exposed<Mutex, &Dispatcher::mutex_>;
template struct Exposed<NextTask, &Dispatcher::next_task_>;
template struct Exposed<NextSource, &Dispatcher::next_source_>;
template struct Exposed<Slots, &Dispatcher::slots_>;
template struct Exposed<Vacant, &Dispatcher::vacant_>;
template struct Exposed<InsideFork, &brood::Pool<brood::ForkPolicy>::dispatcher_>;
template struct Exposed<InsideSpawn, &brood::Pool<brood::SpawnPolicy>::dispatcher_>;
template struct Exposed<InsideServer, &brood::Pool<support::ForkServer>::dispatcher_>;

Dispatcher& inside(brood::Pool<brood::ForkPolicy>& pool) { return *(pool.*reveal(InsideFork{})); }
Dispatcher& inside(brood::Pool<brood::SpawnPolicy>& pool) { return *(pool.*reveal(InsideSpawn{})); }
Dispatcher& inside(brood::Pool<support::ForkServer>& pool) { return *(pool.*reveal(InsideServer{})); }

/// Calls change(dispatcher, slots) while nothing else happens in the pool.
template <class Policy, class Change>
void change(brood::Pool<Policy>& pool, Change change) {
  Dispatcher& dispatcher = inside(pool);
  const std::lock_guard lock(dispatcher.*reveal(Mutex{}));
  change(dispatcher, dispatcher.*reveal(Slots{}));
}

int twice(int n) { return 2 * n; }
int dies() { return ::raise(SIGKILL); }
int loops() {
  for (;;) ::pause();
}

template <class Policy>
void works(brood::Pool<Policy>& pool) {
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 20; ++n) futures.push_back(pool.submit(&twice, n));
  for (int n = 0; n < 20; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == 2 * n);
}

}  // namespace

#if BROOD_TEST_HAS_THREAD_SANITIZER
#define WRAP_POLICIES brood::SpawnPolicy
#else
#define WRAP_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServer
#endif

TEST_CASE_TEMPLATE("task numbers and generations of workers go on beyond 2^32", Policy, WRAP_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 3});
  change(pool, [](Dispatcher& dispatcher, auto& slots) {
    dispatcher.*reveal(NextTask{}) = wrap - 10;
    REQUIRE(slots.empty());  // they are made when they are needed first
    for (std::uint32_t at = 0; at < 12; ++at) {
      slots.push_back(std::make_unique<Slot>(at));
      slots.back()->generation = wrap - 4;
      (dispatcher.*reveal(Vacant{})).push_back(at);
    }
  });
  std::uint64_t last = wrap - 11;
  for (int n = 0; n < 30; ++n) {
    auto future = pool.submit(&twice, n);
    CHECK(future.id() == ++last);
    CHECK(future.get() == 2 * n);
  }
  works(pool);
  // ends, kills and deadlines find the worker and the task that they are about
  for (int n = 0; n < 5; ++n) {
    const auto died = pool.submit(&dies).outcome();
    REQUIRE_FALSE(died);
    CHECK(died.failure().signal() == SIGKILL);
    CHECK(died.failure().task() > wrap);
    CHECK_THROWS_AS(pool.submit({.timeout = std::chrono::milliseconds(20)}, &loops).get(), brood::TaskTimeout);
    auto cancelled = pool.submit(&loops);
    CHECK(support::wait_until_running(pool, 1));
    CHECK(cancelled.cancel());
    CHECK_THROWS_AS(cancelled.get(), brood::TaskCancelled);
    works(pool);
  }
  change(pool, [](Dispatcher&, auto& slots) {
    const auto beyond = [](const auto& slot) { return slot->generation > wrap; };
    CHECK(std::count_if(slots.begin(), slots.end(), beyond) >= 1);
  });
}

TEST_CASE_TEMPLATE("claims of a worker go on beyond 2^32", Policy, WRAP_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  works(pool);
  const pid_t worker = pool.stats().workers.front().pid;
  change(pool, [](Dispatcher&, auto& slots) {
    REQUIRE(slots.front()->idle());
    slots.front()->next_number = wrap - 8;
  });
  for (int round = 0; round < 5; ++round) works(pool);
  {
    // what waits behind a running task is taken back
    const support::Gate gate;
    auto running = pool.submit(&support::wait_for_gate, gate.path(), 1);
    auto behind = pool.submit(&twice, 1);
    CHECK(support::wait_until_running(pool, 1));
    CHECK(behind.cancel());
    gate.open();
    CHECK(running.get() == 1);
  }
  works(pool);
  CHECK(pool.stats().workers.front().pid == worker);
  change(pool, [](Dispatcher&, auto& slots) { CHECK(slots.front()->next_number > wrap); });
  const auto died = pool.submit(&dies).outcome();
  REQUIRE_FALSE(died);
  works(pool);
}

#if !BROOD_TEST_HAS_THREAD_SANITIZER
TEST_CASE("the numbers of snapshots begin anew after 2^24, and none is given twice at a time") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});
  works(pool);
  change(pool, [](Dispatcher& dispatcher, auto&) { dispatcher.*reveal(NextSource{}) = 0xffffff; });
  for (int n = 0; n < 4; ++n) {
    auto future = pool.submit([n] { return n; });
    REQUIRE(future.wait_for(std::chrono::seconds(20)));
    CHECK(future.get() == n);
  }
  works(pool);
}
#endif
