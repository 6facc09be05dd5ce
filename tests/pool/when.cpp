// SPDX-License-Identifier: MIT
// when_all, when_any, first_of: of ranges and lists, of several pools, with failures and cancels.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
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
int sum_of(int a, int b) { return a + b; }
std::string text_of(int n) { return std::to_string(n); }
void nothing() {}
int fails(int n) { throw std::out_of_range(std::to_string(n)); }
int sleeps(int) {
  for (;;) ::pause();
}
/// Fails for odd numbers, and never ends for 4 and more.
int picky(int n) {
  if (n >= 4) sleeps(n);
  return n % 2 == 0 ? n * 100 : fails(n);
}

std::vector<Future<int>> submit_all(Pool& pool, int (*f)(int), int count) {
  std::vector<Future<int>> all;
  for (int n = 0; n < count; ++n) all.push_back(pool.submit(f, n));
  return all;
}

}  // namespace

TEST_CASE("when_all of a range has all values, in order") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  Pool other({.workers = 1});
  std::vector<Future<int>> futures = submit_all(pool, &add_one, 50);
  for (auto& each : submit_all(other, &add_one, 3)) futures.push_back(std::move(each));
  Future<std::vector<int>> all = brood::when_all(futures);  // an lvalue: they keep their values
  CHECK(all.id() == 0);
  std::vector<int> values = all.get();
  REQUIRE(values.size() == 53);
  for (int n = 0; n < 53; ++n) CHECK(values[static_cast<std::size_t>(n)] == (n < 50 ? n + 1 : n - 49));
  CHECK(futures[7].get() == 8);
  CHECK(brood::when_all(std::move(futures)).then([](const std::vector<int>& each) { return each.size(); }).get() == 53);
  CHECK_THROWS_AS(static_cast<void>(futures[7].ready()), brood::Error);  // used up

  CHECK(brood::when_all(std::vector<Future<int>>{}).get().empty());
  std::vector<Future<void>> voids;
  for (int n = 0; n < 3; ++n) voids.push_back(pool.submit(&nothing));
  Future<void> done = brood::when_all(voids);
  done.get();
  auto made = std::views::iota(0, 3) | std::views::transform([&](int n) { return pool.submit(&add_one, n); });
  CHECK(brood::when_all(made).get() == std::vector<int>{1, 2, 3});

  // values that can't be copied
  std::vector<Future<std::unique_ptr<int>>> owned;
  for (int n = 0; n < 3; ++n) owned.push_back(pool.submit(&add_one, n).then([](int m) { return std::make_unique<int>(m); }));
  CHECK_THROWS_WITH_AS(brood::when_all(owned), doctest::Contains("std::move(future)"), brood::Error);
  CHECK(*brood::when_all(std::move(owned)).get().at(2) == 3);
  CHECK_THROWS_WITH_AS(brood::when_all(std::vector<Future<int>>(1)), doctest::Contains("no task"), brood::Error);
}

TEST_CASE("when_all of several futures has a tuple") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  Future<int> kept = pool.submit(&add_one, 1);
  auto all = brood::when_all(kept, pool.submit(&text_of, 5), pool.submit(&nothing),
                             pool.submit(&add_one, 2).then([](int n) { return std::make_unique<int>(n); }));
  static_assert(std::is_same_v<decltype(all), Future<std::tuple<int, std::string, std::monostate, std::unique_ptr<int>>>>);
  auto [number, text, none, owned] = std::move(all).get();
  CHECK(number == 2);
  CHECK(text == "5");
  CHECK(*owned == 3);
  CHECK(kept.get() == 2);
  CHECK_THROWS_AS(static_cast<void>(brood::when_all(pool.submit(&fails, 1), pool.submit(&nothing)).get()), std::out_of_range);
}

TEST_CASE("when_all fails with the first failure, at once; the others go on") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  const support::Gate gate;
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), 7));
  futures.push_back(pool.submit(&fails, 1));
  Future<std::vector<int>> all = brood::when_all(futures);
  CHECK_THROWS_AS(static_cast<void>(all.get()), std::out_of_range);
  CHECK_FALSE(futures[0].ready());
  gate.open();
  CHECK(futures[0].get() == 7);
  // each outcome instead
  std::vector<Future<brood::Outcome<int>>> outcomes;
  for (auto& each : futures) outcomes.push_back(each.then([](brood::Outcome<int> outcome) { return outcome; }));
  const auto both = brood::when_all(std::move(outcomes)).get();
  CHECK(both[0].value() == 7);
  CHECK(both[1].failure().kind() == brood::FailureKind::exception);
}

TEST_CASE("when_any has the first that is resolved, with its number, whatever became of it") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  Pool other({.workers = 1});
  const support::Gate gate;
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), 7));
  futures.push_back(other.submit(&add_one, 1));
  futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), 8));
  const auto any = brood::when_any(futures).get();
  CHECK(any.index == 1);
  CHECK(any.outcome.value() == 2);
  futures[1] = other.submit(&fails, 1);
  const auto failed = brood::when_any(futures).get();
  CHECK(failed.index == 1);
  CHECK_FALSE(failed.outcome);
  gate.open();
  CHECK(futures[0].get() == 7);
  CHECK(futures[2].get() == 8);
  CHECK_THROWS_AS(brood::when_any(std::vector<Future<int>>{}), std::invalid_argument);
}

TEST_CASE("first_of: the first success wins, and the rest is cancelled") {
  const support::Leftovers audit;
  Pool pool({.workers = 3});
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(&picky, 1));
  futures[0].wait();  // one that has not started would be cancelled
  for (const int n : {4, 2, 5}) futures.push_back(pool.submit(&picky, n));
  Future<int> first = brood::first_of(futures);
  CHECK(first.get() == 200);
  CHECK_THROWS_AS(static_cast<void>(futures[0].get()), std::out_of_range);
  CHECK_THROWS_AS(static_cast<void>(futures[1].get()), brood::TaskCancelled);
  CHECK_THROWS_AS(static_cast<void>(futures[3].get()), brood::TaskCancelled);
  CHECK_THROWS_AS(brood::first_of(std::vector<Future<int>>{}), std::invalid_argument);

  // when all fail: the last failure
  Pool one({.workers = 1});
  const support::Gate gate;
  futures.clear();
  futures.push_back(one.submit(&support::wait_for_gate, gate.path(), 0).then(&fails));
  futures.push_back(pool.submit(&fails, 2));
  Future<int> none = brood::first_of(futures);
  CHECK(support::eventually([&] { return futures[1].ready(); }));
  CHECK_FALSE(none.ready());
  gate.open();
  CHECK_THROWS_WITH_AS(static_cast<void>(none.get()), "0", std::out_of_range);

  // cancelled as a whole
  Future<int> endless = brood::first_of(submit_all(pool, &sleeps, 5));
  CHECK(endless.cancel());
  CHECK_THROWS_AS(static_cast<void>(endless.get()), brood::TaskCancelled);
}

TEST_CASE("Pool::first_of runs a function on each item, until one succeeds") {
  const support::Leftovers audit;
  Pool pool({.workers = 3});
  CHECK(pool.first_of(&picky, std::vector<int>{1, 4, 3, 2, 6}).get() == 200);
  CHECK(pool.first_of(&sum_of, std::vector<std::pair<int, int>>{{1, 2}}).get() == 3);
  CHECK_THROWS_AS(static_cast<void>(pool.first_of(&sleeps, std::vector<int>{1, 2}, {.timeout = 20ms}).get()), brood::TaskTimeout);
  CHECK_THROWS_AS(pool.first_of(&picky, std::vector<int>{}), std::invalid_argument);
  pool.close();
  CHECK_THROWS_AS(pool.first_of(&picky, std::vector<int>{1}), brood::PoolClosed);

  brood::Pool<brood::InlinePolicy> here;
  const int base = 5;
  CHECK(here.first_of([&](int n) { return n == 1 ? fails(n) : n + base; }, std::vector<int>{1, 2, 3}).get() == 7);
}

TEST_CASE("several at once: a future may be in many, and many threads may wait") {
  const support::Leftovers audit;
  constexpr int count = 1'000;
  std::atomic<int> wrong = 0;
  Pool pool({.workers = 2});
  Pool other({.workers = 1});
  std::vector<Future<int>> futures;
  for (int n = 0; n < count; ++n) futures.push_back((n % 3 == 0 ? other : pool).submit(&add_one, n));
  std::vector<Future<std::vector<int>>> sums;
  for (int n = 0; n < 4; ++n) sums.push_back(brood::when_all(futures));
  std::vector<std::thread> threads;
  for (auto& each : sums) {
    threads.emplace_back([&] {
      if (std::move(each).get().back() != count) ++wrong;
    });
  }
  if (!brood::when_any(futures).get().outcome) ++wrong;
  for (auto& each : threads) each.join();
  CHECK(wrong == 0);
}
