// SPDX-License-Identifier: MIT
// Pool::map and Pool::try_map: every result in order.
#include <array>
#include <cstdint>
#include <forward_list>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <ranges>
#include <set>
#include <span>
#include <sstream>
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

struct Point {
  int x = 0;
  int y = 0;
  bool operator==(const Point&) const = default;
};

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

TEST_CASE_TEMPLATE("Pool::map takes items that are nothing but bytes from wherever they lie", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const std::vector<int> all = numbers(3000);
  const std::vector<int> expected = squares(3000);
  CHECK(pool.map(&square, std::span<const int>(all)) == expected);
  CHECK(pool.map(&square, all | std::views::take_while([](int n) { return n < 3000; })) == expected);  // an end that is no iterator
  CHECK(pool.map(&square, std::vector<short>{3, -4}) == std::vector{9, 16});  // bytes of another type
  const Point points[] = {{1, 2}, {3, -4}};
  CHECK(pool.map([](const Point& point) { return Point{point.y, point.x}; }, points) == std::vector<Point>{{2, 1}, {-4, 3}});
  CHECK(pool.map([](int a, double b) { return a * b; }, std::vector<std::pair<int, double>>{{2, 1.5}, {3, 0.5}}) ==
        std::vector{3.0, 1.5});
  const std::vector<std::array<char, 300'000>> large(9, {'x'});  // more than a chunk may hold
  CHECK(pool.map([](const std::array<char, 300'000>& block) { return block[0]; }, large) == std::vector<char>(9, 'x'));
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
