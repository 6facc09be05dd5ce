// SPDX-License-Identifier: MIT
// Pool::map and Pool::try_map when items fail: which, with what cause, and what goes on.
#include <signal.h>

#include <array>
#include <numeric>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

int square(int n) { return n * n; }

std::vector<int> numbers(int count) {
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

std::vector<int> squares(int count) {
  std::vector<int> all = numbers(count);
  for (int& each : all) each *= each;
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("Pool::map throws the failure of the first item that failed", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const auto fussy = [](int n) {
    if (n == 60) throw std::out_of_range("60");
    if (n >= 40) throw std::invalid_argument(std::to_string(n));
    return n;
  };
  for (const std::size_t chunk : {0U, 1U, 7U, 100U}) {
    CAPTURE(chunk);
    CHECK_THROWS_WITH_AS(pool.map(fussy, numbers(100), {.chunk_size = chunk}), "40", std::invalid_argument);
    CHECK(pool.map(&square, numbers(10)) == squares(10));
  }
}

TEST_CASE_TEMPLATE("Pool::try_map returns each value or its failure", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t chunk : {0U, 1U, 100U}) {
    CAPTURE(chunk);
    const auto before = pool.stats();
    std::vector<brood::Outcome<int>> outcomes = pool.try_map(
        [](int n) {
          if (n % 10 == 3) throw std::out_of_range("item " + std::to_string(n));
          return n;
        },
        numbers(200), {.chunk_size = chunk});
    REQUIRE(outcomes.size() == 200);
    for (int n = 0; n < 200; ++n) {
      auto& outcome = outcomes[static_cast<std::size_t>(n)];
      REQUIRE(outcome.has_value() == (n % 10 != 3));
      if (outcome) {
        CHECK(*outcome == n);
      } else {
        CHECK_THROWS_WITH_AS(outcome.value(), ("item " + std::to_string(n)).c_str(), std::out_of_range);
        CHECK(outcome.failure().kind() == brood::FailureKind::exception);
        CHECK(outcome.failure().pid() > 0);
        CHECK(outcome.failure().task() > 0);
        CHECK(outcome.failure().message().find("item " + std::to_string(n)) != std::string::npos);
      }
    }
    const auto after = pool.stats();
    CHECK(after.done - before.done == 180);
    CHECK(after.failed - before.failed == 20);
  }
}

TEST_CASE_TEMPLATE("Pool::try_map tells failures from values that are nothing but bytes, wherever they are", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const auto picky = [](int n) {
    if (n % 3 == 0 || n % 100 < 10) throw std::runtime_error(std::to_string(n));
    return n;
  };
  for (const int count : {1, 2, 3, 1000}) {
    CAPTURE(count);
    std::vector<int> items(static_cast<std::size_t>(count));
    std::iota(items.begin(), items.end(), 0);
    auto outcomes = pool.try_map(picky, items);
    REQUIRE(outcomes.size() == items.size());
    for (const int n : items) {
      auto& outcome = outcomes[static_cast<std::size_t>(n)];
      const bool fails = n % 3 == 0 || n % 100 < 10;
      REQUIRE(outcome.has_value() != fails);
      if (fails) {
        CHECK_THROWS_WITH_AS(outcome.value(), std::to_string(n).c_str(), std::runtime_error);
      } else {
        REQUIRE(outcome.value() == n);
      }
    }
  }
}

TEST_CASE_TEMPLATE("items that are nothing but bytes are refused one by one when each is too large", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .max_message_bytes = 1000});
  const std::vector<std::array<char, 1001>> large(3);
  const auto outcomes = pool.try_map([](const std::array<char, 1001>& block) { return block[0]; }, large);
  REQUIRE(outcomes.size() == 3);
  for (const auto& outcome : outcomes) {
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::too_large);
  }
  const std::vector<std::array<char, 1000>> fitting(3, {'x'});
  CHECK(pool.map([](const std::array<char, 1000>& block) { return block[0]; }, fitting) == std::vector<char>(3, 'x'));
}

TEST_CASE_TEMPLATE("a crash at item k costs item k and no other", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t chunk : {0U, 1U, 100U}) {
    for (const int victim : {0, 137, 299}) {
      CAPTURE(chunk);
      CAPTURE(victim);
      const auto outcomes = pool.try_map(
          [](int n, int bad) {
            if (n == bad) ::raise(SIGKILL);
            return n;
          },
          std::views::iota(0, 300) | std::views::transform([=](int n) { return std::tuple(n, victim); }),
          {.chunk_size = chunk});
      REQUIRE(outcomes.size() == 300);
      for (int n = 0; n < 300; ++n) {
        const auto& outcome = outcomes[static_cast<std::size_t>(n)];
        REQUIRE_MESSAGE(outcome.has_value() == (n != victim), "item " << n);
        if (n != victim) {
          CHECK(*outcome == n);
        } else {
          CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
          CHECK(outcome.failure().signal() == SIGKILL);
          const std::string text = outcome.failure().message();
          CHECK_MESSAGE(text.find("item " + std::to_string(n)) != std::string::npos, text);
        }
      }
    }
  }
  CHECK(pool.stats().failed == 9);
  CHECK(pool.stats().workers_died == 9);
}

TEST_CASE_TEMPLATE("crashes at many items cost those items", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const auto outcomes = pool.try_map(
      [](int n) {
        if (n % 25 == 24) ::_exit(0);
        return std::string(static_cast<std::size_t>(n), 'r');
      },
      numbers(200), {.chunk_size = 50});
  for (std::size_t n = 0; n < 200; ++n) {
    REQUIRE(outcomes[n].has_value() == (n % 25 != 24));
    if (outcomes[n]) CHECK(outcomes[n]->size() == n);
  }
}

TEST_CASE_TEMPLATE("a large result before a crash in the same chunk is kept", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto outcomes = pool.try_map(
      [](int n) {
        if (n == 5) ::raise(SIGKILL);
        return std::string(n == 2 ? std::size_t{3} << 20 : std::size_t{100}, 'x');
      },
      numbers(10), {.chunk_size = 10});
  for (std::size_t n = 0; n < 10; ++n) {
    REQUIRE(outcomes[n].has_value() == (n != 5));
    if (n != 5) CHECK(outcomes[n]->size() == (n == 2 ? std::size_t{3} << 20 : 100));
  }
}

TEST_CASE_TEMPLATE("an exception of the range itself leaves map, and the pool is usable", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const auto throwing = std::views::iota(0, 50) | std::views::transform([](int n) {
                          if (n == 30) throw std::domain_error("the range");
                          return n;
                        });
  CHECK_THROWS_AS(pool.map(&square, throwing), std::domain_error);
  CHECK_THROWS_AS(static_cast<void>(pool.try_map(&square, throwing)), std::domain_error);
  CHECK(pool.map(&square, numbers(10)) == squares(10));
}

TEST_CASE_TEMPLATE("map stops handing out items once one has failed", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  int taken = 0;
  const auto counted = std::views::iota(0, 100000) | std::views::transform([&taken](int n) {
                         ++taken;
                         return n;
                       });
  CHECK_THROWS_AS(pool.map(
                      [](int n) {
                        if (n == 3) throw std::runtime_error("early");
                        return n;
                      },
                      counted),
                  std::runtime_error);
  CHECK(taken < 50000);
}

TEST_CASE_TEMPLATE("a range that throws at any item: map throws that, and the pool is usable", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t chunk : {0U, 1U, 7U}) {
    for (const int at : {0, 1, 6, 7, 8, 49, 99}) {
      CAPTURE(chunk);
      CAPTURE(at);
      const auto items = std::views::iota(0, 100) | std::views::transform([at](int n) {
                           if (n == at) throw std::domain_error("item " + std::to_string(n));
                           return n;
                         });
      const std::string expected = "item " + std::to_string(at);
      CHECK_THROWS_WITH_AS(pool.map([](int n) { return n; }, items, {.chunk_size = chunk}), expected.c_str(), std::domain_error);
      CHECK_THROWS_AS(pool.try_map([](int n) { return n; }, items, {.chunk_size = chunk}), std::domain_error);
      CHECK(pool.submit([](int n) { return n; }, at).get() == at);
    }
  }
}
