// SPDX-License-Identifier: MIT
// Pool::map_reduce: folded in order, by workers and host; failures.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using Pool = brood::Pool<support::ForkServer>;

std::string text(int n) { return std::to_string(n) + ","; }
std::string join(std::string one, const std::string& other) { return one + other; }
int square(int n) { return n * n; }

/// What may not travel.
struct Shy {
  std::string how{};
  std::string text{};
  brood::Fd fd{};

  template <class Archive>
  void serialize(Archive& archive) {
    if (how == "throws") throw std::domain_error("shy");
    archive(how, text, fd);
  }
};

std::string joined(int count) {
  std::string all = ">";
  for (int n = 0; n < count; ++n) all += text(n);
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("Pool::map_reduce folds in the order of the range, whatever the chunks", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t chunk : {0U, 1U, 7U}) {
    CAPTURE(chunk);
    CHECK(pool.map_reduce(&text, &join, std::views::iota(0, 500), std::string(">"), {.chunk_size = chunk}) == joined(500));
  }
  CHECK(pool.map_reduce(&square, std::plus<>(), std::vector{1, 2, 3}, 100) == 114);
  CHECK(pool.map_reduce(&square, std::plus<>(), std::vector<int>(), 100) == 100);
  const auto fussy = [](int n) {
    if (n == 42) throw std::out_of_range("42");
    if (n > 42) throw std::invalid_argument("later");
    return n;
  };
  CHECK_THROWS_WITH_AS(pool.map_reduce(fussy, std::plus<>(), std::views::iota(0, 100), 0), "42", std::out_of_range);
  CHECK(pool.map_reduce(&square, std::plus<>(), std::views::iota(0, 10), 0) == 285);
}

TEST_CASE("Pool::map_reduce folds in the workers where it can, else in the host") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  const auto pid = [](int) { return std::vector<int>{::getpid()}; };
  // combine notes where it ran
  const auto in_workers = [](std::vector<int> one, const std::vector<int>& other) {
    one.insert(one.end(), other.begin(), other.end());
    one.push_back(::getpid());
    return one;
  };
  const std::vector<int> all = pool.map_reduce(pid, in_workers, std::views::iota(0, 20), std::vector<int>(), {.chunk_size = 10});
  CHECK(std::ranges::count(all, ::getpid()) == 2);  // one for each chunk; the other 18 in workers
  CHECK(all.size() == 40);

  // what f returns is of another type: the host
  const auto total = [](std::size_t sum, const std::string& each) { return sum + each.size(); };
  CHECK(pool.map_reduce(&text, total, std::views::iota(0, 10), std::size_t{0}) == 20);
  // what combine has can't travel: the host
  int calls = 0;
  const auto counting = [&calls](int one, int other) {
    ++calls;
    return one + other;
  };
  CHECK(pool.map_reduce(&square, counting, std::views::iota(0, 10), 0) == 285);
  CHECK(calls == 10);
  CHECK_THROWS_WITH_AS(pool.map_reduce(&square, [&](int, int) -> int { throw std::domain_error("combine"); }, std::vector{1}, 0),
                       "combine", std::domain_error);
}

TEST_CASE("Pool::map_reduce of many items, of values that can only be moved, and of large ones") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  CHECK(pool.map_reduce([](long n) { return n; }, std::plus<>(), std::views::iota(0L, 200'000L), 0L) == 200'000L * 199'999 / 2);
  const auto sum = [](std::unique_ptr<int> one, std::unique_ptr<int> other) { return std::make_unique<int>(*one + *other); };
  CHECK(*pool.map_reduce([](int n) { return std::make_unique<int>(n); }, sum, std::views::iota(0, 100), std::make_unique<int>(1)) ==
        4951);
  const auto blob = [](int n) { return std::string(100'000, static_cast<char>('a' + n % 26)); };
  const std::string large = pool.map_reduce(blob, &join, std::views::iota(0, 60), std::string(), {.chunk_size = 20});
  REQUIRE(large.size() == 6'000'000);
  for (int n = 0; n < 60; ++n) REQUIRE(large[static_cast<std::size_t>(n) * 100'000] == static_cast<char>('a' + n % 26));
}

TEST_CASE_TEMPLATE("a death in Pool::map_reduce fails it, or costs a retry", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate mark;
  brood::Pool<Policy> pool({.workers = 2});
  const auto dies_once = [](const std::string& path, int n) {
    const std::string file = path + "_" + std::to_string(n);
    if (n % 10 == 7 && ::access(file.c_str(), F_OK) != 0) {
      ::close(::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
      ::raise(SIGKILL);
    }
    return text(n);
  };
  const auto items = std::views::iota(0, 40) | std::views::transform([&](int n) { return std::pair(mark.path(), n); });
  for (const std::size_t chunk : {1U, 5U, 40U}) {
    CAPTURE(chunk);
    CHECK_THROWS_AS(pool.map_reduce(dies_once, &join, items, std::string(">"), {.chunk_size = chunk}), brood::WorkerDied);
    for (const int n : {7, 17, 27, 37}) ::unlink((mark.path() + "_" + std::to_string(n)).c_str());
    CHECK(pool.map_reduce(dies_once, &join, items, std::string(">"), {.chunk_size = chunk, .retries = 1}) == joined(40));
    for (const int n : {7, 17, 27, 37}) ::unlink((mark.path() + "_" + std::to_string(n)).c_str());
  }
}

TEST_CASE("Pool::map_reduce goes on where a worker gives a chunk back: no item runs twice") {
  const support::Leftovers audit;
  // each item leaves more memory behind than a worker may have: chunks end early, and what they came to is kept
  Pool pool({.workers = 2, .memory_per_worker = std::uint64_t{64} << 20});
  const auto grows = [](int n) {
    static std::vector<std::string> kept;
    kept.emplace_back(std::size_t{24} << 20, 'x');
    timespec longer{0, 2'000'000};  // it looks at its memory once in a millisecond
    ::nanosleep(&longer, nullptr);
    return text(n);
  };
  CHECK(pool.map_reduce(grows, &join, std::views::iota(0, 30), std::string(">"), {.chunk_size = 10}) == joined(30));
  CHECK(pool.stats().done == 30);
  CHECK(pool.stats().workers_started > 3);
}

TEST_CASE("Pool::map_reduce: what a chunk that ends early came to can't be sent: that item fails") {
  const support::Leftovers audit;
  Pool pool({.workers = 1, .memory_per_worker = std::uint64_t{64} << 20, .max_message_bytes = 1'000});
  const auto grows = [](const std::string& how, int n) {
    static std::vector<std::string> kept;
    while (n == 2) {
      kept.emplace_back(std::size_t{24} << 20, 'x');
      timespec longer{0, 2'000'000};
      ::nanosleep(&longer, nullptr);
      if (kept.size() == 4) break;
    }
    Shy made;
    made.how = n <= 2 ? how : "";
    if (how == "large" && n <= 2) made.text = std::string(400, 'x');
    if (how == "descriptor" && n == 2) made.fd = brood::Fd(900);  // not open
    return made;
  };
  const auto add = [](Shy one, Shy other) {
    other.text += one.text;
    if (one.fd) other.fd = std::move(one.fd);
    return other;
  };
  const auto items = [](const std::string& how) {
    return std::views::iota(0, 10) | std::views::transform([how](int n) { return std::pair(how, n); });
  };
  for (const std::string how : {"throws", "large", "descriptor"}) {
    CAPTURE(how);
    const brood::MapOptions options{.chunk_size = 10};
    std::string text = "no exception";
    try {
      pool.map_reduce(grows, add, items(how), Shy(), options);
    } catch (const brood::MessageTooLarge& error) {
      CHECK(how == "large");
      text = error.what();
    } catch (const brood::SerializationError& error) {
      CHECK(how == "descriptor");
      text = error.what();
    } catch (const std::domain_error& error) {
      CHECK(how == "throws");
      text = "item 2";
    }
    CHECK_MESSAGE(text.find("item 2") != std::string::npos, text);
  }
}

TEST_CASE("closures under ForkPolicy fold in workers, with what they see") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2}, {.allow_threads = true});
  std::map<int, std::string> names{{0, "zero "}, {1, "one "}};
  const auto name = [&names](int n) { return names.at(n % 2); };
  std::string separator = "| ";
  const auto combine = [&separator](const std::string& one, const std::string& other) { return one + separator + other; };
  CHECK(pool.map_reduce(name, combine, std::vector{0, 1, 0}, std::string("begin ")) == "begin | zero | one | zero ");
}
