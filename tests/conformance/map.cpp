// SPDX-License-Identifier: MIT
// Pool::map and Pool::try_map: every result in order.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <forward_list>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <ranges>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

int square(int n) { return n * n; }
std::string join(const std::string& text, int n) { return text + std::to_string(n); }

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

TEST_CASE_TEMPLATE("Pool::map returns every result in order", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 3});
  for (const int count : {0, 1, 2, 7, 1000, 10000}) {
    CAPTURE(count);
    CHECK(pool.map(&square, numbers(count)) == squares(count));
  }
}

TEST_CASE_TEMPLATE("Pool::map takes chunks of any fixed size", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t size : {1U, 2U, 7U, 100U, 1000U, 5000U}) {
    CAPTURE(size);
    CHECK(pool.map(&square, numbers(1000), {.chunk_size = size}) == squares(1000));
  }
}

TEST_CASE_TEMPLATE("Pool::map takes every kind of range", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const std::vector<int> expected = squares(5);
  const std::vector<int> constant = numbers(5);
  CHECK(pool.map(&square, constant) == expected);
  std::list<int> list(constant.begin(), constant.end());
  CHECK(pool.map(&square, list) == expected);
  CHECK(pool.map(&square, std::forward_list<int>{0, 1, 2, 3, 4}) == expected);
  CHECK(pool.map(&square, std::set<int>{4, 3, 2, 1, 0}) == expected);
  CHECK(pool.map(&square, std::array{0, 1, 2, 3, 4}) == expected);
  const int array[] = {0, 1, 2, 3, 4};
  CHECK(pool.map(&square, array) == expected);
  CHECK(pool.map(&square, std::views::iota(0, 5)) == expected);
  CHECK(pool.map(&square, std::views::iota(0) | std::views::take(5)) == expected);
  CHECK(pool.map(&square, constant | std::views::reverse) == std::vector<int>(expected.rbegin(), expected.rend()));
  CHECK(pool.map(&square, constant | std::views::filter([](int n) { return n % 2 == 0; })) == std::vector{0, 4, 16});
  CHECK(pool.map(&square, constant | std::views::transform([](int n) { return n + 1; })) == std::vector{1, 4, 9, 16, 25});
}

TEST_CASE_TEMPLATE("Pool::map takes ranges that can be read once only", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  std::istringstream text("1 2 3 4 5");
  CHECK(pool.map(&square, std::views::istream<int>(text)) == std::vector{1, 4, 9, 16, 25});
}

TEST_CASE_TEMPLATE("Pool::map spreads tuples over the parameters", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const std::vector<std::tuple<std::string, int>> tuples{{"a", 1}, {"b", 2}};
  CHECK(pool.map(&join, tuples) == std::vector<std::string>{"a1", "b2"});
  const std::vector<std::pair<const char*, int>> pairs{{"a", 1}, {"b", 2}};
  CHECK(pool.map(&join, pairs) == std::vector<std::string>{"a1", "b2"});
  const std::map<std::string, int> map{{"x", 7}, {"y", 8}};
  CHECK(pool.map(&join, map) == std::vector<std::string>{"x7", "y8"});
  // a callable that takes the tuple itself gets it whole
  CHECK(pool.map([](const std::tuple<std::string, int>& t) { return std::get<1>(t); }, tuples) == std::vector{1, 2});
  CHECK(pool.map([](const std::pair<const std::string, int>& p) { return p.second; }, map) == std::vector{7, 8});
  CHECK(pool.map([](int a, int b, int c) { return a + b + c; }, std::vector<std::tuple<int, int, int>>{{1, 2, 3}}) ==
        std::vector{6});
}

TEST_CASE_TEMPLATE("Pool::map takes and returns bool", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const std::vector<bool> bits{true, false, true};
  CHECK(pool.map([](bool b) { return !b; }, bits) == std::vector<bool>{false, true, false});
  CHECK(pool.map([](bool b) { return b ? 1 : 0; }, bits) == std::vector{1, 0, 1});
}

TEST_CASE_TEMPLATE("Pool::map converts items, and takes callables of every kind", Policy, ALL_POLICIES) {
  struct Scale {
    int factor = 1;
    int operator()(int n) const { return factor * n; }
  };
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const std::vector<const char*> words{"one", "three"};
  CHECK(pool.map([](const std::string& word) { return word.size(); }, words) == std::vector<std::size_t>{3, 5});
  CHECK(pool.map(Scale{3}, std::vector{1, 2, 3}) == std::vector{3, 6, 9});
  CHECK(pool.map([](auto n) { return n * 2; }, std::vector{1.5, 2.5}) == std::vector{3.0, 5.0});
}

TEST_CASE_TEMPLATE("Pool::map moves items and results that can only be moved", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const std::vector<std::unique_ptr<int>> made = pool.map([](int n) { return std::make_unique<int>(n); }, numbers(3));
  REQUIRE(made.size() == 3);
  CHECK(*made[2] == 2);
  CHECK(pool.map([](const std::unique_ptr<int>& n) { return *n; }, made) == numbers(3));
}

TEST_CASE_TEMPLATE("Pool::map of void returns nothing, and does everything", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  static_assert(std::is_void_v<decltype(pool.map([](int) {}, numbers(1)))>);
  pool.map([](int) {}, numbers(100));
  CHECK(pool.stats().done == 100);
  const std::vector<brood::Outcome<void>> outcomes = pool.try_map([](int) {}, numbers(10));
  CHECK(outcomes.size() == 10);
}

TEST_CASE_TEMPLATE("Pool::map carries large items and results", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const std::vector<std::string> large{std::string(3 << 20, 'a'), "", std::string(1 << 20, 'b'), "c", std::string(9, 'd')};
  CHECK(pool.map([](const std::string& text) { return text; }, large) == large);
  CHECK(pool.map([](const std::string& text) { return text; }, large, {.chunk_size = 5}) == large);
}

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
