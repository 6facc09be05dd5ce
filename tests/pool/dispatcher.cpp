// SPDX-License-Identifier: MIT
// The dispatcher where it is easiest to get wrong.
#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/eventually.hpp"
#include "support/gate.hpp"

namespace {

int id(int x) { return x; }

int crash(int) { std::abort(); }

/// A callable that can't be read back.
struct Undecodable {
  int operator()(int x) const { return x; }
};

/// One that can't even be read back without the end of the process.
struct Deadly {
  int operator()(int x) const { return x; }
};

}  // namespace

template <>
struct brood::Serializer<Undecodable> {
  static void write(Writer& out, const Undecodable&) { out.number(1); }
  static Undecodable read(Reader&) { throw std::runtime_error("not to be read"); }
};
template <>
struct brood::Serializer<Deadly> {
  static void write(Writer& out, const Deadly&) { out.number(1); }
  static Deadly read(Reader&) { std::abort(); }
};
// empty functors are made anew and never read: these two need a state that travels
static_assert(std::is_empty_v<Undecodable>);

namespace {

struct UndecodableCall {
  int state = 0;
  Undecodable inner;
  int operator()(int x) const { return x + state; }
};
struct DeadlyCall {
  int state = 0;
  Deadly inner;
  int operator()(int x) const { return x + state; }
};

}  // namespace

TEST_CASE("Future::cancel wakes a thread that waits for that task") {
  const support::Gate gate;
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  auto running = pool.submit(&support::wait_for_gate, gate.path(), 1);
  auto waiting = pool.submit(&id, 2);
  std::thread other([&] { CHECK_THROWS_AS(waiting.get(), brood::TaskCancelled); });
  CHECK(support::eventually([&] { return pool.stats().running == 1; }));
  CHECK(waiting.cancel());
  other.join();  // the first task still runs
  CHECK_FALSE(running.ready());
  gate.open();
  CHECK(running.get() == 1);
}

TEST_CASE("Future::cancel of any number of tasks behind a running one leaves that one alone") {
  const support::Gate gate;
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  for (int round = 0; round < 200; ++round) pool.submit(&id, round).get();  // short tasks: prefetching is on
  auto running = pool.submit(&support::wait_for_gate, gate.path(), 1);
  std::vector<brood::Future<int>> behind;
  for (int round = 0; round < 300; ++round) behind.push_back(pool.submit(&id, round));
  CHECK(support::eventually([&] { return pool.stats().running == 1; }));
  for (auto& future : behind) CHECK(future.cancel());
  gate.open();
  CHECK(running.get() == 1);
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE("work handed out ahead to a worker that is stuck runs elsewhere, also when the other worker has died") {
  const support::Gate gate;
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2});
  for (int round = 0; round < 200; ++round) pool.submit(&id, round).get();
  auto stuck = pool.submit(&support::wait_for_gate, gate.path(), 1);
  auto dies = pool.submit(&crash, 1);
  std::vector<brood::Future<int>> quick;
  for (int round = 0; round < 50; ++round) quick.push_back(pool.submit(&id, round));
  CHECK_THROWS_AS(dies.get(), brood::WorkerDied);
  for (int round = 0; round < 50; ++round) CHECK(quick[static_cast<std::size_t>(round)].get() == round);
  CHECK_FALSE(stuck.ready());
  gate.open();
  CHECK(stuck.get() == 1);
}

TEST_CASE("a callable that can't be decoded fails the items, with or without taking the worker along") {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2});
  const std::vector<int> items{1, 2, 3};
  for (const auto& outcome : pool.try_map(UndecodableCall{}, items)) {
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().message().find("not to be read") != std::string::npos);
  }
  for (const auto& outcome : pool.try_map(DeadlyCall{}, items)) {
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
    CHECK(outcome.failure().signal() == SIGABRT);
  }
  CHECK(pool.submit(&id, 5).get() == 5);

  brood::Pool<brood::InlinePolicy> inline_pool;
  for (const auto& outcome : inline_pool.try_map(UndecodableCall{}, items)) CHECK_FALSE(outcome);
}

TEST_CASE("async leaves neither its server nor a thread behind, however long the caller waited") {
  const support::Gate gate;
  std::thread opener;
  pid_t worker = 0;
  {
    auto future = brood::async<brood::ForkServerPolicy<>>(
        [](const std::string& path) { return support::wait_for_gate(path, ::getpid()); }, gate.path());
    // The test holds whatever the helper thread does at the opening; by then it has parked, which is the harder case.
    opener = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      gate.open();
    });
    worker = future.get();
  }
  opener.join();
  CHECK(support::eventually([&] { return ::kill(worker, 0) != 0 && brood::detail::helper_threads.load() == 0; }));
}

TEST_CASE("PoolOptions take the longest times there are") {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1,
                                               .start_timeout = std::chrono::milliseconds::max(),
                                               .stop_grace = std::chrono::milliseconds::max()});
  CHECK(pool.submit(&id, 1).get() == 1);
}

TEST_CASE("Future may be default-made and assigned to; without a task it says so") {
  brood::Future<int> future;
  CHECK_THROWS_AS(future.get(), brood::Error);
  brood::Pool<brood::InlinePolicy> pool;
  future = pool.submit(&id, 3);
  CHECK(future.get() == 3);
}
