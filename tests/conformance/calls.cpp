// SPDX-License-Identifier: MIT
// Calls: what can be called, with what, under every policy.
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

int twice(int n) { return 2 * n; }
int twice_noexcept(int n) noexcept { return 2 * n; }
int forty_two() { return 42; }
void nothing() {}
std::string describe(const std::string& name, int age, double weight) {
  return name + " " + std::to_string(age) + " " + std::to_string(weight);
}
std::size_t length(std::string text) { return text.size(); }
std::unique_ptr<int> make_owned(std::unique_ptr<int> n) { return std::make_unique<int>(*n + 1); }
std::pair<int, std::string> pair_of(int n) { return {n, std::to_string(n)}; }
const std::string const_result(int n) { return std::to_string(n); }  // NOLINT(readability-const-return-type)

struct Plus {
  int operator()(int a, int b) const { return a + b; }
};

struct Scale {
  int factor = 1;
  std::string unit;
  std::string operator()(int n) const { return std::to_string(factor * n) + unit; }
};

struct Counter {
  int value = 0;
  int operator()(int by) { return value += by; }
};

struct Overloaded {
  int operator()(int n) const { return n; }
  std::string operator()(const std::string& text) const { return text; }
};

struct Point {
  int x = 0;
  int y = 0;
  friend bool operator==(const Point&, const Point&) = default;
};

}  // namespace

TEST_CASE_TEMPLATE("Pool::submit calls functions", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  CHECK(pool.submit(&twice, 21).get() == 42);
  CHECK(pool.submit(twice, 21).get() == 42);
  CHECK(pool.submit(&twice_noexcept, 21).get() == 42);
  CHECK(pool.submit(&forty_two).get() == 42);
  CHECK(pool.submit(&const_result, 3).get() == "3");
  pool.submit(&nothing).get();
  int (*pointer)(int) = &twice;
  CHECK(pool.submit(pointer, 1).get() == 2);
  int (*const constant)(int) = &twice;
  CHECK(pool.submit(constant, 1).get() == 2);
  int (&reference)(int) = twice;
  CHECK(pool.submit(reference, 1).get() == 2);
}

TEST_CASE_TEMPLATE("Pool::submit calls lambdas without captures", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  CHECK(pool.submit([] { return 1; }).get() == 1);
  CHECK(pool.submit([](int n) { return n + 1; }, 1).get() == 2);
  CHECK(pool.submit([](int n) noexcept { return n + 1; }, 1).get() == 2);
  CHECK(pool.submit([](int n) mutable { return ++n; }, 1).get() == 2);
  CHECK(pool.submit([](const auto& value) { return value; }, std::string("generic")).get() == "generic");
  CHECK(pool.submit([](auto... values) { return (values + ...); }, 1.0, 2.0F, 3.5).get() == 6.5);
  const auto named = [](int a, int b) { return a * b; };
  CHECK(pool.submit(named, 6, 7).get() == 42);
  CHECK(pool.submit(+named, 6, 7).get() == 42);
}

TEST_CASE_TEMPLATE("Pool::submit calls functors", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  CHECK(pool.submit(Plus{}, 40, 2).get() == 42);
  CHECK(pool.submit(std::plus<>{}, 40, 2).get() == 42);
  CHECK(pool.submit(Scale{3, " kg"}, 14).get() == "42 kg");
  const Scale constant{2, " m"};
  CHECK(pool.submit(constant, 21).get() == "42 m");
  Counter counter{40};
  CHECK(pool.submit(counter, 2).get() == 42);
  CHECK(pool.submit(Overloaded{}, 7).get() == 7);
  CHECK(pool.submit(Overloaded{}, std::string("seven")).get() == "seven");
}

TEST_CASE("a functor's change of itself stays in the worker") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  Counter counter{40};
  CHECK(pool.submit(counter, 2).get() == 42);
  CHECK(pool.submit(counter, 2).get() == 42);
  CHECK(counter.value == 40);
}

TEST_CASE_TEMPLATE("Pool::submit takes any number of arguments", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  CHECK(pool.submit([](int a, char b) { return std::to_string(a) + b; }, 1, 'b').get() == "1b");
  CHECK(pool.submit(&describe, "Ada", 36, 55.5).get() == "Ada 36 55.500000");
  CHECK(pool.submit([](bool a, std::int8_t b, std::uint64_t c, float d) { return a ? b + static_cast<double>(c) + d : 0; },
                    true, std::int8_t{-1}, std::uint64_t{1} << 40, 0.5F)
            .get() == 1099511627775.5);
  CHECK(pool.submit([](int a, int b, int c, int d, int e) { return a + b + c + d + e; }, 1, 2, 3, 4, 5).get() == 15);
  const auto six = pool.submit(
      [](int a, std::string b, std::vector<int> c, Point d, std::tuple<int, char> e, double f) {
        return std::tuple(f, e, d, c, b, a);
      },
      1, "two", std::vector{3, 3, 3}, Point{4, 4}, std::tuple(5, '5'), 6.0);
  CHECK((six.get() == std::tuple(6.0, std::tuple(5, '5'), Point{4, 4}, std::vector{3, 3, 3}, std::string("two"), 1)));
}

TEST_CASE_TEMPLATE("Pool::submit converts arguments as a call would", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  CHECK(pool.submit(&length, "text").get() == 4);
  const char* const text = "pointer";
  CHECK(pool.submit(&length, text).get() == 7);
  CHECK(pool.submit([](const std::string& t) { return t + "!"; }, std::string_view("view").data()).get() == "view!");
  CHECK(pool.submit([](double d) { return d; }, 3).get() == 3.0);
  CHECK(pool.submit([](std::int64_t n) { return n; }, std::int16_t{-5}).get() == -5);
  CHECK(pool.submit([](const std::vector<int>& v) { return v.size(); }, std::vector<int>(7)).get() == 7);
  std::string lvalue = "kept";
  CHECK(pool.submit([](std::string&& t) { return std::move(t); }, lvalue).get() == "kept");
  CHECK(lvalue == "kept");
}

TEST_CASE_TEMPLATE("Pool::submit moves what can only be moved", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const std::unique_ptr<int> result = pool.submit(&make_owned, std::make_unique<int>(41)).get();
  REQUIRE(result);
  CHECK(*result == 42);
  brood::Future<std::unique_ptr<int>> future = pool.submit([] { return std::make_unique<int>(7); });
  brood::Outcome<std::unique_ptr<int>> outcome = future.outcome();
  CHECK(*std::move(outcome).value() == 7);
}

TEST_CASE_TEMPLATE("Pool::submit returns structured values", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  CHECK((pool.submit(&pair_of, 5).get() == std::pair<int, std::string>(5, "5")));
  CHECK((pool.submit([](Point p) { return Point{p.y, p.x}; }, Point{1, 2}).get() == Point{2, 1}));
  const auto big = pool.submit([](std::size_t n) { return std::vector<std::uint64_t>(n, 7); }, 1 << 20).get();
  CHECK(big == std::vector<std::uint64_t>(1 << 20, 7));
  const std::string megabytes(5 << 20, 'x');
  CHECK(pool.submit([](std::string t) { return t; }, megabytes).get() == megabytes);
}

TEST_CASE_TEMPLATE("tasks run in workers, not in the host", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const pid_t pid = pool.submit([] { return ::getpid(); }).get();
  CHECK(pid != ::getpid());
  CHECK(pool.submit([] { return brood::this_worker::pid() == ::getpid(); }).get());
  CHECK(pool.submit([] { return brood::this_worker::index(); }).get() < 2);
  const auto future = pool.submit([] { return brood::this_task::id(); });
  CHECK(future.get() == future.id());
  CHECK_THROWS_AS(brood::this_worker::index(), brood::Error);
}

TEST_CASE("InlinePolicy runs tasks in the caller") {
  const support::Leftovers audit;
  brood::Pool<brood::InlinePolicy> pool;
  CHECK(pool.submit([] { return ::getpid(); }).get() == ::getpid());
  CHECK(pool.submit([] { return 1; }).ready());
  CHECK(pool.stats().workers.empty());
}

TEST_CASE_TEMPLATE("a null function pointer is refused by submit", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  int (*nowhere)(int) = nullptr;
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(nowhere, 1)), doctest::Contains("null function pointer"), brood::SerializationError);
  CHECK(pool.submit(&twice, 1).get() == 2);
}

TEST_CASE_TEMPLATE("async runs one call in one process", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  CHECK(brood::async<Policy>(&twice, 21).get() == 42);
  CHECK_THROWS_AS(brood::async<Policy>([] { throw std::out_of_range("far"); }).get(), std::out_of_range);
  brood::Future<int> kept = brood::async<Policy>(&twice, 1);
  { auto dropped = brood::async<Policy>(&twice, 2); }
  CHECK(kept.get() == 2);
}

TEST_CASE("a policy of one's own prepares its server") {
  const support::Leftovers audit;
  brood::Pool<support::OwnPolicy> pool({.workers = 1}, {.answer = 7});
  CHECK(pool.submit([] { return support::OwnPolicy::prepared; }).get() == 7);
  CHECK(support::OwnPolicy::prepared == 0);
}
