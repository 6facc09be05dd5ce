// SPDX-License-Identifier: MIT
// co_await of futures in coroutines of any kind, and coroutines that return a Future.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <exception>
#include <memory>
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

namespace {

#if BROOD_TEST_HAS_THREAD_SANITIZER
using Workers = brood::SpawnPolicy;
#else
using Workers = brood::ForkServerPolicy<>;
#endif
using Pool = brood::Pool<Workers>;

int add_one(int n) { return n + 1; }
void nothing() {}
int fails(int n) { throw std::out_of_range(std::to_string(n)); }
int sleeps() {
  for (;;) ::pause();
}

/// A coroutine of somebody else's: it starts at once, and nobody waits for it.
struct Detached {
  struct promise_type {
    Detached get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const { throw; }
  };
};

/// One whose exception leaves it: then it has to be destroyed by who made it.
struct Leaving {
  struct promise_type {
    Leaving get_return_object() noexcept { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_always final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const { throw; }
  };

  std::coroutine_handle<> frame;
};

Detached collect(Pool& pool, std::vector<std::string>& seen, std::atomic<bool>& done) {
  seen.push_back(std::to_string(co_await pool.submit(&add_one, 1)));
  Future<int> kept = pool.submit(&add_one, 5);
  seen.push_back(std::to_string(co_await kept + co_await kept));
  co_await pool.submit(&nothing);
  try {
    co_await pool.submit(&fails, 3);
  } catch (const std::out_of_range& error) {
    seen.push_back(error.what());
  }
  seen.push_back(*co_await pool.submit(&add_one, 8).then([](int n) { return std::make_unique<std::string>(std::to_string(n)); }));
  done = true;
}

Leaving leaves_with_exception(Pool& pool, std::atomic<bool>& went_on) {
  co_await pool.submit(&nothing);
  went_on = true;
  throw std::runtime_error("nobody's");
}

Future<int> total(Pool& pool, int count) {
  int sum = 0;
  for (int n = 0; n < count; ++n) sum = co_await pool.submit(&add_one, sum);
  co_return sum;
}

Future<std::unique_ptr<int>> nested(Pool& pool) {
  const int ten = co_await total(pool, 10);
  co_return std::make_unique<int>(ten + co_await brood::when_all(total(pool, 3), total(pool, 4)).then([](auto both) {
    return std::get<0>(both) + std::get<1>(both);
  }));
}

Future<void> throws(Pool& pool) {
  co_await pool.submit(&nothing);
  throw std::range_error("from the coroutine");
}

Future<int> deep(Pool& pool, int depth) {
  if (depth == 0) co_return co_await pool.submit(&add_one, 0);
  co_return co_await deep(pool, depth - 1) + 1;
}

Future<std::string> cancelled_twice(Pool& pool) {
  std::string seen;
  for (int n = 0; n < 2; ++n) {
    try {
      co_await pool.submit(&sleeps);
    } catch (const brood::TaskCancelled&) {
      seen += "cancelled ";
    }
  }
  co_return seen;
}

}  // namespace

TEST_CASE("co_await of a Future in a coroutine of any kind") {
  const support::Leftovers audit;
  std::vector<std::string> seen;
  std::atomic<bool> done = false;
  std::atomic<bool> went_on = false;
  Leaving leaving;
  {
    Pool pool({.workers = 1});
    collect(pool, seen, done);
    CHECK(support::eventually([&] { return done.load(); }));  // on the helper
    CHECK(seen == std::vector<std::string>{"2", "12", "3", "9"});
    leaving = leaves_with_exception(pool, went_on);
    CHECK(support::eventually([&] { return went_on.load(); }));
    CHECK(pool.submit(&add_one, 1).get() == 2);
  }
  CHECK(leaving.frame.done());
  leaving.frame.destroy();
  brood::Pool<brood::InlinePolicy> here;  // nothing is suspended
  bool passed = false;
  [](auto& pool, bool& out) -> Detached { out = co_await pool.submit(&add_one, 1) == 2; }(here, passed);
  CHECK(passed);
}

TEST_CASE("a coroutine that returns a Future") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  CHECK(total(pool, 0).ready());
  Future<int> sum = total(pool, 20);
  CHECK(sum.get() == 20);
  CHECK(sum.get() == 20);
  CHECK(*nested(pool).get() == 17);
  CHECK_THROWS_AS(throws(pool).get(), std::range_error);
  CHECK(total(pool, 3).then(&add_one).get() == 4);
  // dropped, it goes on; and it may be cancelled
  std::atomic<int> ended = 0;
  [](Pool& workers, std::atomic<int>& out) -> Future<void> { out = co_await total(workers, 5); }(pool, ended);
  CHECK(support::eventually([&] { return ended == 5; }));
  Future<std::string> cancelled = cancelled_twice(pool);
  CHECK(cancelled.cancel());
  CHECK(cancelled.get() == "cancelled cancelled ");
}

TEST_CASE("coroutines that wait for each other need no stack when they go on") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  const int depth = 2'000;
  CHECK(deep(pool, depth).get() == depth + 1);
  Future<int> dropped_by_us = deep(pool, depth);
  CHECK(support::eventually([&] { return dropped_by_us.ready(); }));
}

TEST_CASE("coroutines of several threads, and a pool that ends before they do") {
  const support::Leftovers audit;
  std::vector<Future<int>> futures;
  {
    Pool pool({.workers = 2});
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        for (int n = 0; n < 20; ++n) {
          if (total(pool, n % 5).get() != n % 5) ++wrong;
        }
      });
    }
    for (auto& each : threads) each.join();
    CHECK(wrong == 0);
    for (int n = 0; n < 4; ++n) futures.push_back(total(pool, 1));
    futures.push_back(total(pool, 1'000'000));  // it is refused a task some time
  }
  for (int n = 0; n < 4; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == 1);
  CHECK_THROWS_AS(static_cast<void>(futures.back().get()), brood::PoolClosed);
}
