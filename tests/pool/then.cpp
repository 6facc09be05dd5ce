// SPDX-License-Identifier: MIT
// Future::then: what becomes of values and failures, which thread calls the function, and that nobody waits for ever.
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
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
#include "support/sanitizer.hpp"

using namespace std::chrono_literals;
using brood::Future;
using brood::Outcome;

namespace {

#if BROOD_TEST_HAS_THREAD_SANITIZER
using Workers = brood::SpawnPolicy;
#else
using Workers = brood::ForkServerPolicy<>;
#endif
using Pool = brood::Pool<Workers>;

int add_one(int n) { return n + 1; }
void nothing() {}
int throws() { throw std::out_of_range("beyond"); }
int dies() { ::raise(SIGKILL); return 0; }
int sleeps() {
  for (;;) ::pause();
}
std::vector<int> many(int count) { return std::vector<int>(static_cast<std::size_t>(count), 7); }

/// The host's own: no worker ever sees one.
struct Private {
  explicit Private(int n) : value(std::make_unique<int>(n)) {}
  std::unique_ptr<int> value;
};

struct OwnError {
  int code;
};

}  // namespace

TEST_CASE("Future::then hands the value on, and returns what the function makes of it") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  Future<std::string> text = pool.submit(&add_one, 1).then([](int n) { return std::to_string(n) + "!"; });
  CHECK(text.get() == "2!");
  CHECK(text.get() == "2!");  // again
  CHECK(text.id() != 0);
  CHECK(text.ready());
  CHECK(text.output().empty());
  CHECK_FALSE(text.cancel());

  Future<void> done = pool.submit(&nothing).then([] {});
  done.get();
  CHECK(std::move(done).then([] { return 5; }).get() == 5);
  CHECK(pool.submit(&add_one, 1).then([](const int& n) { return n; }).then([](long n) { return n * 2; }).get() == 4);
  CHECK(pool.submit(&add_one, 1).then([](auto n) { return n * 3; }).get() == 6);
  CHECK(pool.submit(&add_one, 1).then(&add_one).then(&add_one).get() == 4);
}

TEST_CASE("Future::then: values and functions that can only be moved, and are never serialized") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  auto held = std::make_unique<int>(40);
  Future<Private> made = pool.submit(&add_one, 1).then([held = std::move(held)](int n) { return Private(*held + n); });
  CHECK(*std::move(made).get().value == 42);
  CHECK_THROWS_AS(made.wait(), brood::Error);  // used up

  Future<int> sum = pool.submit(&add_one, 1)
                        .then([](int n) { return std::make_unique<int>(n); })
                        .then([](std::unique_ptr<int> n) { return *n + 1; });
  CHECK(sum.get() == 3);

  // on an lvalue, get takes such a value out, once
  Future<std::vector<std::unique_ptr<int>>> list = pool.submit(&add_one, 1).then([](int n) {
    std::vector<std::unique_ptr<int>> all;
    all.push_back(std::make_unique<int>(n));
    return all;
  });
  CHECK(*list.get().front() == 2);
  CHECK_THROWS_WITH_AS(static_cast<void>(list.get()), doctest::Contains("taken already"), brood::Error);
  CHECK_THROWS_WITH_AS(static_cast<void>(list.then([](const auto&) {})), doctest::Contains("std::move(future)"), brood::Error);
}

TEST_CASE("Future::then passes a failure on, whole, and does not call what takes the value") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  bool called = false;
  const auto note = [&](int) { called = true; return 0L; };

  CHECK_THROWS_AS(static_cast<void>(pool.submit(&throws).then(note).get()), std::out_of_range);
  const auto died = pool.submit(&dies).then(note).then([](long) {}).outcome();
  REQUIRE_FALSE(died);
  CHECK(died.failure().kind() == brood::FailureKind::worker_died);
  CHECK(died.failure().signal() == SIGKILL);
  const auto late = pool.submit({.timeout = 20ms}, &sleeps).then(note).outcome();
  REQUIRE_FALSE(late);
  CHECK(late.failure().kind() == brood::FailureKind::timeout);
  Future<int> cancelled = pool.submit(&sleeps);
  cancelled.cancel();
  CHECK_THROWS_AS(static_cast<void>(cancelled.then(note).get()), brood::TaskCancelled);
  CHECK_FALSE(called);
}

TEST_CASE("Future::then: what takes an Outcome or the Future is called in any case") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  const auto kind_of = [](Outcome<int> outcome) { return outcome ? "value" : outcome.failure().message(); };
  CHECK(pool.submit(&add_one, 1).then(kind_of).get() == "value");
  CHECK(pool.submit(&throws).then(kind_of).get().find("beyond") != std::string::npos);
  CHECK(pool.submit(&nothing).then([](const Outcome<void>& outcome) { return outcome.has_value(); }).get());
  CHECK(pool.submit(&throws).then([](const Outcome<int>& outcome) { return outcome ? *outcome : -1; }).get() == -1);

  const auto with_future = [](Future<int> future) {
    if (!future.ready()) throw std::logic_error("not ready");
    return std::move(future).get();
  };
  CHECK(pool.submit(&add_one, 1).then(with_future).get() == 2);
  CHECK_THROWS_AS(static_cast<void>(pool.submit(&throws).then(with_future).get()), std::out_of_range);
  CHECK(pool.submit(&add_one, 1).then(&add_one).then(with_future).get() == 3);
}

TEST_CASE("Future::then: what the function throws is the failure, as what it is") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  Future<int> error = pool.submit(&add_one, 1).then([](int) -> int { throw OwnError{7}; });
  try {
    static_cast<void>(error.get());
    FAIL("it did not throw");
  } catch (const OwnError& caught) {
    CHECK(caught.code == 7);
  }
  CHECK(error.outcome().failure().kind() == brood::FailureKind::exception);
  CHECK(error.outcome().failure().message().find("OwnError") != std::string::npos);
  CHECK(error.outcome().failure().task() == error.id());
  CHECK_THROWS_AS(pool.submit(&nothing).then([] { throw 42; }).get(), int);
  const auto said = pool.submit(&nothing).then([] { throw std::range_error("too far"); }).outcome();
  CHECK(said.failure().message() == "what was passed to Future::then threw std::range_error: too far");

  // what it passes on keeps its kind
  const auto raise = [](Outcome<int> outcome) { return outcome.value(); };
  const auto died = pool.submit(&dies).then(raise).outcome();
  CHECK(died.failure().kind() == brood::FailureKind::worker_died);
  CHECK(died.failure().signal() == SIGKILL);
  CHECK(died.failure().pid() != 0);
  CHECK(pool.submit({.timeout = 20ms}, &sleeps).then(raise).outcome().failure().kind() == brood::FailureKind::timeout);
  const auto thrown = pool.submit(&throws).then(raise).outcome();
  CHECK(thrown.failure().kind() == brood::FailureKind::exception);
  CHECK(thrown.failure().pid() != 0);
  CHECK_THROWS_AS(thrown.failure().raise(), std::out_of_range);
}

TEST_CASE("Future::then: a Future that the function returns is waited for") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  Pool other({.workers = 1});
  Future<int> sum = pool.submit(&add_one, 1).then([&](int n) { return other.submit(&add_one, n); }).then(&add_one);
  CHECK(sum.get() == 4);
  Future<int> failed = pool.submit(&add_one, 1).then([&](int) { return other.submit(&throws); });
  CHECK_THROWS_AS(static_cast<void>(failed.get()), std::out_of_range);
  Future<int> deeper = pool.submit(&add_one, 1).then(
      [&](int n) { return other.submit(&add_one, n).then([&](int m) { return pool.submit(&add_one, m); }); });
  CHECK(deeper.get() == 4);
  Future<int> resolved = other.submit(&add_one, 8);
  resolved.wait();
  CHECK(pool.submit(&nothing).then([&] { return std::move(resolved); }).get() == 9);
  CHECK_THROWS_WITH_AS(pool.submit(&nothing).then([] { return Future<void>(); }).get(), doctest::Contains("no task"), brood::Error);
}

TEST_CASE("Future::then: the function is called although its future was dropped, or all were") {
  const support::Leftovers audit;
  std::atomic<int> seen = 0;
  {
    Pool pool({.workers = 2});
    pool.submit(&add_one, 1).then([&](int n) { seen += n; });
    Future<int> kept = pool.submit(&add_one, 9);
    kept.then([&](int n) { seen += n; }).then([&] { seen += 100; });
    CHECK(support::eventually([&] { return seen == 112; }));  // nobody waits for any
    kept = pool.submit(&add_one, 1000);
    kept.then([&](int n) { seen += n; });
  }
  CHECK(seen == 1113);  // the end of the pool waits for its tasks
}

TEST_CASE("Future::then on an lvalue: all have the value") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  Future<int> number = pool.submit(&add_one, 1);
  Future<int> one = number.then([](int n) { return n + 10; });
  Future<int> two = number.then([](int n) { return n + 20; });
  Future<int> three = two.then([](int n) { return n + 100; });
  CHECK(one.get() == 12);
  CHECK(three.get() == 122);
  CHECK(two.get() == 22);
  CHECK(number.get() == 2);

  // a large value is moved out of a future that is used up, but not from under others
  const int count = 1 << 20;
  Future<std::vector<int>> large = pool.submit(&many, count);
  std::vector<Future<std::size_t>> sizes;
  for (int n = 0; n < 3; ++n) sizes.push_back(large.then([](std::vector<int> list) { return list.size(); }));
  Future<std::vector<int>> made = large.then([](std::vector<int> list) { return list; });
  for (int n = 0; n < 3; ++n) sizes.push_back(made.then([](const std::vector<int>& list) { return list.size(); }));
  CHECK(std::move(made).get() == many(count));
  CHECK(std::move(large).get() == many(count));
  for (auto& size : sizes) CHECK(size.get() == static_cast<std::size_t>(count));
}

TEST_CASE("Future::then: the function is called at once when the task is resolved, and always in the caller with InlinePolicy") {
  const support::Leftovers audit;
  const std::thread::id here = std::this_thread::get_id();
  std::thread::id there;
  const auto note = [&](int n) { there = std::this_thread::get_id(); return n; };
  {
    Pool pool({.workers = 1});
    Future<int> number = pool.submit(&add_one, 1);
    number.wait();
    Future<int> copy = number.then(note);
    CHECK(there == here);
    CHECK(copy.ready());
    there = {};
    copy.then(note);
    CHECK(there == here);
  }
  brood::Pool<brood::InlinePolicy> pool;
  there = {};
  int calls = 0;
  Future<int> sum = pool.submit(&add_one, 1).then(note).then([&](int n) { ++calls; return pool.submit(&add_one, n); });
  CHECK(there == here);
  CHECK(calls == 1);
  CHECK(sum.ready());
  CHECK(sum.get() == 3);
  CHECK_THROWS_AS(static_cast<void>(pool.submit(&throws).then(note).get()), std::out_of_range);
}

TEST_CASE("Future::then: what the function has captured ends before its future is resolved") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  for (int (*const task)(int) : {&add_one, +[](int) -> int { throw std::out_of_range("none"); }}) {
    auto held = std::make_shared<int>(1);
    Future<int> future = pool.submit(task, 1).then([held](int n) { return n; });
    future.wait();
    CHECK(held.use_count() == 1);
  }
}

TEST_CASE("cancel of a future made by then cancels the task beneath") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  bool called = false;
  Future<int> running = pool.submit(&sleeps);
  REQUIRE(support::wait_until_running(pool, 1));
  Future<void> after = running.then([&](int) { called = true; }).then([&] { called = true; });
  Future<void> queued = pool.submit(&add_one, 1).then([&](int) { called = true; });
  CHECK(queued.cancel());
  CHECK(queued.outcome().failure().kind() == brood::FailureKind::cancelled);
  CHECK_FALSE(queued.cancel());
  CHECK(after.cancel());
  CHECK_THROWS_AS(after.get(), brood::TaskCancelled);
  CHECK_THROWS_AS(static_cast<void>(running.get()), brood::TaskCancelled);
  CHECK_FALSE(called);

  // while the function runs: the Future that it returns
  std::atomic<bool> entered = false;
  std::atomic<bool> leave = false;
  Future<int> late = pool.submit(&add_one, 1).then([&](int) {
    entered = true;
    support::eventually([&] { return leave.load(); });
    return pool.submit(&sleeps);
  });
  REQUIRE(support::eventually([&] { return entered.load(); }));
  CHECK_FALSE(late.cancel());
  leave = true;
  CHECK_THROWS_AS(static_cast<void>(late.get()), brood::TaskCancelled);
}

TEST_CASE("Future::then: the future may outlive its pool") {
  const support::Leftovers audit;
  Future<int> value;
  Future<int> failure;
  {
    Pool pool({.workers = 1});
    value = pool.submit(&add_one, 1).then([](int n) { return n + 1; });
  }
  CHECK(value.get() == 3);
  CHECK(value.then(&add_one).get() == 4);
  bool refused = false;
  try {
    Pool pool({.workers = 1});
    failure = pool.submit(&sleeps).then([](int n) { return n; });
    auto again = failure.then([&](const Outcome<int>&) {
      try {
        static_cast<void>(pool.submit(&add_one, 1));
      } catch (const brood::PoolClosed&) {
        refused = true;
      }
    });
    throw std::runtime_error("the pool is killed");
  } catch (const std::runtime_error&) {
  }
  CHECK_THROWS_AS(static_cast<void>(failure.get()), brood::TaskCancelled);
  CHECK(refused);
}

TEST_CASE("Future::then: the function may submit, wait, and destroy futures and pools") {
  const support::Leftovers audit;
  auto pool = std::make_unique<Pool>(brood::PoolOptions{.workers = 1});
  Future<int> nested = pool->submit(&add_one, 1).then([&](int n) {
    std::vector<Future<int>> others;
    for (int m = 0; m < 5; ++m) others.push_back(pool->submit(&add_one, m).then(&add_one));
    int sum = n;
    for (auto& each : others) sum += each.get();
    pool->wait();
    return sum + pool->map(&add_one, std::vector<int>{1, 2}).at(1);
  });
  CHECK(nested.get() == 2 + 20 + 3);

  std::optional<Future<int>> itself;
  itself = pool->submit(&add_one, 1);
  Future<void> destroyed = itself->then([&](int) { itself.reset(); });
  destroyed.get();
  CHECK_FALSE(itself);

  Future<void> ended = pool->submit(&add_one, 1).then([&](int) { pool.reset(); });
  ended.get();
  CHECK(pool == nullptr);
}

TEST_CASE("Future::then: a function may wait for one that is to be called behind it on the same thread") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  for (const bool made_here : {false, true}) {
    support::Gate gate;
    Future<int> task = pool.submit(&support::wait_for_gate, gate.path(), 1);
    Future<int> root = made_here ? task.then(&add_one) : std::move(task);
    Future<int> behind;
    Future<int> first = root.then([&](int n) { return n + behind.get(); });
    behind = root.then([](int n) { return n * 10; }).then([](int n) { return n + 1; });
    gate.open();
    CHECK(first.get() == (made_here ? 23 : 12));
    CHECK(behind.get() == (made_here ? 21 : 11));
  }
}

TEST_CASE("a thread that waits for a future whose function runs in another one, or has not been reached there") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  std::atomic<bool> entered = false;
  std::atomic<bool> leave = false;
  Future<int> slow = pool.submit(&add_one, 1).then([&](int n) {
    entered = true;
    support::eventually([&] { return leave.load(); });
    return n;
  });
  REQUIRE(support::eventually([&] { return entered.load(); }));  // on the helper
  CHECK_FALSE(slow.wait_for(1ms));
  CHECK_FALSE(slow.ready());
  // the helper's other callbacks wait for this one; who needs one of them calls it
  Future<int> next = pool.submit(&add_one, 2).then(&add_one).then(&add_one);
  CHECK(next.get() == 5);
  Future<int> behind = slow.then(&add_one);
  std::thread waits([&] { CHECK(behind.get() == 3); });
  leave = true;
  waits.join();
  CHECK(slow.get() == 2);
}

TEST_CASE("a chain of 10,000 functions needs no stack, whoever resolves it") {
  const support::Leftovers audit;
  constexpr int length = 10'000;
  Pool pool({.workers = 1});
  for (const bool waits : {true, false}) {
    support::Gate gate;
    Future<int> chain = pool.submit(&support::wait_for_gate, gate.path(), 0);
    for (int n = 0; n < length; ++n) chain = std::move(chain).then(&add_one);
    gate.open();
    if (!waits) CHECK(support::eventually([&] { return chain.ready(); }));
    CHECK(chain.get() == length);
  }
  // cancelled as a whole, or dropped in the middle
  Future<int> chain = pool.submit(&sleeps);
  for (int n = 0; n < length; ++n) chain = std::move(chain).then(&add_one);
  CHECK(chain.cancel());
  CHECK_THROWS_AS(static_cast<void>(chain.get()), brood::TaskCancelled);
  std::atomic<int> calls = 0;
  chain = pool.submit(&add_one, 0);
  for (int n = 0; n < length; ++n) chain = std::move(chain).then([&](int m) { ++calls; return m; });
  chain = {};
  CHECK(support::eventually([&] { return calls == length; }));
}

TEST_CASE("many threads make, share out and await futures made by then") {
  const support::Leftovers audit;
  constexpr int threads = 4;
  constexpr int rounds = 50;
  std::atomic<int> calls = 0;
  std::atomic<int> wrong = 0;
  {
    Pool pool({.workers = 2});
    std::mutex mutex;
    std::vector<Future<int>> given;  // made by one thread, awaited by another
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t) {
      all.emplace_back([&] {
        for (int n = 0; n < rounds; ++n) {
          Future<int> base = pool.submit(&add_one, n);
          Future<int> unwrapped = base.then([&](int m) { ++calls; return pool.submit(&add_one, m); });
          Future<int> last = std::move(unwrapped).then([&](int m) { ++calls; return m + 1; });
          if (base.get() != n + 1) ++wrong;
          std::optional<Future<int>> mine;
          {
            const std::lock_guard lock(mutex);
            given.push_back(std::move(last).then([&, n](int m) { ++calls; return m - n; }));
            std::swap(given.front(), given.back());
            if (given.size() > 2) {
              mine = std::move(given.back());
              given.pop_back();
            }
          }
          if (mine && mine->get() != 3) ++wrong;
        }
      });
    }
    for (auto& each : all) each.join();
    for (auto& each : given) CHECK(each.get() == 3);
  }
  CHECK(wrong == 0);
  CHECK(calls == 3 * threads * rounds);
}

TEST_CASE("a function that waits for the value that it is to make is told so") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  std::optional<Future<int>> own;
  std::optional<Future<int>> behind;
  const auto told = [](Future<int>& future) {
    try {
      return future.get();
    } catch (const brood::Error& error) {
      CHECK(std::string(error.what()).find("wait for itself") != std::string::npos);
      return -1;
    }
  };
  std::atomic<bool> known = false;
  own.emplace(pool.submit(&add_one, 1).then([&](int n) {
    while (!known) std::this_thread::yield();
    return n + told(*own) + told(*behind);
  }));
  behind.emplace(own->then([](int n) { return n; }));  // through another
  known = true;
  CHECK(own->get() == 0);
  CHECK(behind->get() == 0);
  // one that has run may be waited for by the same thread
  CHECK(pool.submit(&add_one, 1).then([&](int n) { return pool.submit(&add_one, n).then(&add_one).get(); }).get() == 4);
}
