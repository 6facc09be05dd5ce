// SPDX-License-Identifier: MIT
// Pool::stream and its like, under every policy: order, failures, deaths, leaving early.
#include <signal.h>

#include <cstdint>
#include <memory>
#include <ranges>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

int square(int n) { return n * n; }

std::string fussy(int n) {
  if (n >= 40) throw std::out_of_range(std::to_string(n));
  return std::to_string(n);
}

int deadly(int n) {
  if (n % 25 == 24) ::raise(SIGKILL);
  return n;
}

}  // namespace

TEST_CASE_TEMPLATE("Pool::stream hands out every result in order, Pool::stream_unordered every result", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const std::vector<int> all{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  int expected = 0;
  for (int& each : pool.stream(&square, all)) {
    REQUIRE(each == expected * expected);
    ++expected;
  }
  CHECK(expected == 10);
  expected = 0;
  for (int& each : pool.stream(&square, std::views::iota(0, 3000), {.in_flight = 500})) {
    REQUIRE(each == expected * expected);
    ++expected;
  }
  CHECK(expected == 3000);

  std::set<std::uint64_t> seen;
  auto unordered = pool.stream_unordered(&square, std::views::iota(0, 3000), {.chunk_size = 7});
  for (const int each : unordered) {
    const auto index = static_cast<int>(unordered.index());
    REQUIRE(each == index * index);
    seen.insert(unordered.index());
  }
  CHECK(seen.size() == 3000);
  for (const int each : pool.stream(&square, std::vector<int>{})) FAIL("a result of nothing: " << each);
  CHECK(pool.stats().failed == 0);
}

TEST_CASE_TEMPLATE("a stream hands out what was before its first failure, then throws that", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t chunk : {0U, 1U, 7U}) {
    CAPTURE(chunk);
    std::vector<std::string> before;
    const auto read = [&] {
      for (std::string& each : pool.stream(&fussy, std::views::iota(0), {.chunk_size = chunk})) before.push_back(std::move(each));
    };
    CHECK_THROWS_WITH_AS(read(), "40", std::out_of_range);
    REQUIRE(before.size() == 40);
    CHECK(before[39] == "39");
    // one that takes no failures amiss
    auto outcomes = pool.try_stream(&fussy, std::views::iota(0, 60), {.chunk_size = chunk});
    int index = 0;
    for (brood::Outcome<std::string>& each : outcomes) {
      REQUIRE(each.has_value() == (index < 40));
      if (!each) CHECK_THROWS_WITH_AS(each.value(), std::to_string(index).c_str(), std::out_of_range);
      ++index;
    }
    CHECK(index == 60);
  }
  CHECK(pool.submit(&square, 3).get() == 9);
}

TEST_CASE_TEMPLATE("deaths amid a stream cost the items that ran, in place", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t chunk : {0U, 10U}) {
    int index = 0;
    for (brood::Outcome<int>& each : pool.try_stream(&deadly, std::views::iota(0, 100), {.chunk_size = chunk})) {
      CAPTURE(index);
      REQUIRE(each.has_value() == (index % 25 != 24));
      if (each) {
        CHECK(*each == index);
      } else {
        CHECK(each.failure().kind() == brood::FailureKind::worker_died);
        CHECK(each.failure().message().find("item " + std::to_string(index)) != std::string::npos);
      }
      ++index;
    }
    CHECK(index == 100);
  }
  std::set<std::uint64_t> died;
  auto unordered = pool.try_stream_unordered(&deadly, std::views::iota(0, 100));
  for (brood::Outcome<int>& each : unordered) {
    if (!each) died.insert(unordered.index());
  }
  CHECK(died == std::set<std::uint64_t>{24, 49, 74, 99});
  CHECK(pool.stats().workers_died == 12);
}

TEST_CASE_TEMPLATE("a stream of an endless input that is left early leaves nothing", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  {
    brood::Pool<Policy> pool({.workers = 2});
    int left = 100;
    for (const int each : pool.stream(&square, std::views::iota(0))) {
      static_cast<void>(each);
      if (--left == 0) break;
    }
    CHECK(pool.submit(&square, 4).get() == 16);
    auto unread = pool.stream(&square, std::views::iota(0));
    auto begun = pool.stream_unordered(&square, std::views::iota(0));
    CHECK(*begun.begin() >= 0);
    begun.cancel();
    CHECK(begun.begin() == begun.end());
    CHECK(pool.stats().queued == 0);
  }
}
