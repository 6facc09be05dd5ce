// SPDX-License-Identifier: MIT
// Streams: what is read when, what may be read, bounds, and ends; whatever the policy.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/sanitizer.hpp"

namespace {

using namespace std::chrono_literals;
using Pool = brood::Pool<support::ForkServer>;

int square(int n) { return n * n; }

/// A generator: an input range that is read once, of what a function returns until it returns nothing.
template <class T>
class Generator {
 public:
  explicit Generator(std::function<std::optional<T>()> next) : next_(std::move(next)) {}
  Generator(Generator&&) = default;
  Generator& operator=(Generator&&) = default;

  struct Iterator {
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    Generator* from = nullptr;
    T&& operator*() const { return std::move(*from->value_); }
    Iterator& operator++() {
      from->value_ = from->next_();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return !from->value_; }
  };
  Iterator begin() {
    value_ = next_();
    return {this};
  }
  std::default_sentinel_t end() const { return {}; }

 private:
  std::function<std::optional<T>()> next_;
  std::optional<T> value_;
};
static_assert(std::ranges::input_range<Generator<int>>);

/// The numbers from 0 on; counts those that were read.
auto counted(std::uint64_t& read) {
  return std::views::iota(0) | std::views::transform([&read](int n) {
           ++read;
           return n;
         });
}

}  // namespace

static_assert(std::ranges::input_range<brood::Stream<int>> && std::ranges::view<brood::Stream<int>>);
static_assert(!std::copyable<brood::Stream<int>> && std::movable<brood::Stream<int>>);
static_assert(std::is_same_v<std::ranges::range_reference_t<brood::Stream<std::string>>, std::string&>);
static_assert(std::is_same_v<std::ranges::range_value_t<brood::Stream<int, true>>, brood::Outcome<int>>);

TEST_CASE("a stream never reads further ahead than in_flight") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  for (const std::uint64_t bound : {1U, 2U, 3U, 100U, 5000U}) {
    CAPTURE(bound);
    for (const bool ordered : {true, false}) {
      std::uint64_t read = 0;
      std::uint64_t got = 0;
      const std::uint64_t wanted = std::min<std::uint64_t>(200 * bound, 20'000);
      const auto run = [&](auto&& stream) {
        CHECK(read == 0);  // nothing before somebody asks
        for ([[maybe_unused]] const int each : stream) {
          ++got;
          REQUIRE(read - got < bound);  // what was just handed out was read, too
          if (got == wanted) break;
        }
      };
      const brood::StreamOptions options{.in_flight = bound};
      if (ordered) {
        run(pool.stream(&square, counted(read), options));
      } else {
        run(pool.stream_unordered(&square, counted(read), options));
      }
      CHECK(got == wanted);
    }
  }
}

TEST_CASE("a stream of many items without options reads a bounded number ahead") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  std::uint64_t read = 0;
  std::uint64_t got = 0;
  std::uint64_t most = 0;
  std::uint64_t sum = 0;
  for (const int each : pool.stream([](int n) { return n & 1; }, counted(read))) {
    ++got;
    most = std::max(most, read - got);
    sum += static_cast<std::uint64_t>(each);
    if (got == 1'000'000) break;
  }
  CHECK(sum == 500'000);
  CHECK(most <= 4 * 2 * (std::uint64_t{1} << 16));  // four of the largest chunks for each worker
}

TEST_CASE("a stream of many bytes, in and out, takes no more memory than its bounds say") {
  if (support::has_sanitizer) return;  // it keeps what was freed for a while
#if !BROOD_TEST_HAS_THREAD_SANITIZER
  const support::Leftovers audit;
  for (const bool ordered : {true, false}) {
    const support::Ran ran = support::run_in_child([ordered] {  // what other cases have left in the heap does not hide anything
      constexpr std::uint64_t items = 200'000;
      constexpr std::size_t size = 512;  // 100 MiB each way
      Pool pool({.workers = 2});
      std::uint64_t made = 0;
      Generator<std::string> texts([&]() -> std::optional<std::string> {
        if (made == items) return std::nullopt;
        return std::string(size, static_cast<char>('a' + made++ % 26));
      });
      const auto same = [](const std::string& text) { return text; };
      const brood::StreamOptions options{.max_bytes = 1 << 20};
      auto results = ordered ? pool.stream(same, texts, options) : pool.stream_unordered(same, texts, options);
      const auto resident = [] {
        std::istringstream numbers(support::read_text("/proc/self/statm"));
        std::uint64_t pages = 0;
        numbers >> pages >> pages;
        return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
      };
      std::uint64_t got = 0;
      std::uint64_t bytes = 0;
      std::uint64_t first = 0;
      std::uint64_t most = 0;
      for (const std::string& text : results) {
        bytes += text.size();
        if (++got == items / 20) first = resident();
        if (got % 1000 == 0) most = std::max(most, resident());
      }
      const std::uint64_t grown = most - std::min(most, first);
      std::printf("%llu items, %llu bytes grown", static_cast<unsigned long long>(got), static_cast<unsigned long long>(grown));
      return got == items && bytes == items * size && first != 0 && grown < (8 << 20) ? 0 : 1;
    });
    CHECK_MESSAGE(ran.status.code() == 0, ran.output);
  }
#endif
}

TEST_CASE("with one item in flight the input may depend on the results") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  int known = 1;  // the next item is the last result
  int handed = 0;
  Generator<int> items([&]() -> std::optional<int> {
    if (handed == 10) return std::nullopt;
    return known;
  });
  for (const int each : pool.stream([](int n) { return 2 * n; }, items, {.in_flight = 1})) {
    known = each;
    ++handed;
  }
  CHECK(known == 1024);
}

TEST_CASE("max_bytes bounds what is read ahead, and lets one item through") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  const auto echo = [](const std::string& text) { return text; };
  for (const auto& [bytes, bound] : {std::pair<std::uint64_t, std::uint64_t>{1, 1}, {1'000'000, 13}}) {
    CAPTURE(bytes);
    std::uint64_t read = 0;
    std::uint64_t got = 0;
    auto large = counted(read) | std::views::transform([](int) { return std::string(100'000, 'x'); });
    for (const std::string& each : pool.stream(echo, large, {.in_flight = 1000, .max_bytes = bytes})) {
      ++got;
      REQUIRE(each.size() == 100'000);
      REQUIRE(read - got < bound);
      if (got == 100) break;
    }
  }
  // small items with large results: what is to come is guessed by what came
  std::uint64_t read = 0;
  std::uint64_t got = 0;
  std::uint64_t most = 0;
  const auto grow = [](int) { return std::string(100'000, 'y'); };
  for (const std::string& each : pool.stream(grow, counted(read), {.in_flight = 1000, .max_bytes = 1'000'000})) {
    if (++got > 50) most = std::max(most, read - got);
    REQUIRE(each.size() == 100'000);
    if (got == 200) break;
  }
  CHECK(most < 14);
}

TEST_CASE("streams read ranges of every kind") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  const auto collect = [](auto&& stream) {
    std::vector<int> all;
    for (const int each : stream) all.push_back(each);
    return all;
  };
  const std::vector<int> expected{1, 4, 9};
  const std::array<int, 3> array{1, 2, 3};
  const int plain[] = {1, 2, 3};
  CHECK(collect(pool.stream(&square, array)) == expected);
  CHECK(collect(pool.stream(&square, plain)) == expected);
  std::istringstream text("1 2 3");
  CHECK(collect(pool.stream(&square, std::views::istream<int>(text))) == expected);
  auto owned = pool.stream(&square, std::vector{1, 2, 3});  // lives in the stream
  auto moved = std::move(owned);
  CHECK(collect(moved) == expected);
  std::vector<int> referred;
  auto later = pool.stream(&square, referred);  // by reference, read when the stream is
  referred = {1, 2, 3};
  CHECK(collect(later) == expected);
  CHECK(collect(pool.stream([](int a, int b) { return a * b; }, std::vector<std::pair<int, int>>{{1, 1}, {2, 2}, {9, 1}})) ==
        expected);
}

TEST_CASE("items and results that can only be moved go through a stream") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  int next = 0;
  Generator<std::unique_ptr<int>> items([&]() -> std::optional<std::unique_ptr<int>> {
    if (next == 100) return std::nullopt;
    return std::make_unique<int>(next++);
  });
  const auto twice = [](std::unique_ptr<int> n) { return std::make_unique<int>(2 * *n); };
  std::vector<std::unique_ptr<int>> results;
  for (auto& each : pool.stream(twice, std::move(items))) results.push_back(std::move(each));
  REQUIRE(results.size() == 100);
  CHECK(*results[99] == 198);
}

TEST_CASE("a stream is a part of a pipeline, and waits for nothing that nobody asks for") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  const support::Gate gate;
  const auto stuck = [path = gate.path()](int n) { return std::pair(path, n); };
  auto items = std::views::iota(0) | std::views::transform(stuck);
  const auto run = [](const std::string& path, int n) { return n < 3 ? n : support::wait_for_gate(path, n); };
  std::vector<int> got;
  for (const int each :
       pool.stream(run, items, {.in_flight = 1}) | std::views::transform([](int n) { return n * 10; }) | std::views::take(3)) {
    got.push_back(each);
  }
  CHECK(got == std::vector{0, 10, 20});  // the fourth would never come
}

TEST_CASE("a stream of void counts what is done") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  auto done = pool.stream([](int) {}, std::views::iota(0, 50));
  CHECK(std::ranges::distance(done) == 50);
  std::size_t failed = 0;
  for (brood::Outcome<void>& each : pool.try_stream([](int n) { if (n % 2 == 0) throw n; }, std::views::iota(0, 50))) {
    failed += each ? 0U : 1U;
  }
  CHECK(failed == 25);
}

TEST_CASE("what the input throws comes when the results before it were handed out") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  for (const int at : {0, 1, 30}) {
    CAPTURE(at);
    const auto items = std::views::iota(0) | std::views::transform([at](int n) {
                         if (n == at) throw std::domain_error("the input");
                         return n;
                       });
    auto stream = pool.stream(&square, items);
    std::vector<int> got;
    const auto read = [&] {
      for (const int each : stream) got.push_back(each);
    };
    CHECK_THROWS_WITH_AS(read(), "the input", std::domain_error);
    CHECK(got.size() == static_cast<std::size_t>(at));
    CHECK(stream.begin() == stream.end());
  }
}

TEST_CASE("an item that can't be sent fails in its place") {
  const support::Leftovers audit;
  Pool pool({.workers = 2, .max_message_bytes = 1000});
  const std::vector<std::string> items{"a", std::string(2000, 'b'), "c"};
  std::vector<bool> got;
  for (auto& each : pool.try_stream([](const std::string& text) { return text; }, items)) got.push_back(each.has_value());
  CHECK(got == std::vector{true, false, true});
  CHECK(pool.stats().failed == 1);
}

TEST_CASE("Pool::stream_unordered hands out past an item that takes long, and reads no further than its bound") {
  const support::Leftovers audit;
  Pool pool({.workers = 2});
  const support::Gate gate;
  std::uint64_t read = 0;
  const auto named = [path = gate.path()](int n) { return std::pair(path, n); };
  auto items = counted(read) | std::views::transform(named);
  const auto run = [](const std::string& path, int n) { return n == 0 ? support::wait_for_gate(path, n) : n; };
  auto stream = pool.stream_unordered(run, items, {.in_flight = 8});
  std::uint64_t got = 0;
  for (const int each : stream) {
    REQUIRE(each != 0);
    if (++got == 100) break;
  }
  gate.open();
  CHECK(read < got + 8);
  for (const int each : stream) {
    if (each == 0) break;  // it was not lost
    REQUIRE(++got < 10'000);
  }
}

TEST_CASE("who leaves a stream early waits for quick items, and kills slow ones") {
  const support::Leftovers audit;
  const support::Gate never;
  const auto run = [](const std::string& path, int n) { return n < 5 ? n : support::wait_for_gate(path, n); };
  Pool pool({.workers = 2});
  const auto named = [path = never.path()](int n) { return std::pair(path, n); };
  {
    auto stream = pool.stream(run, std::views::iota(0) | std::views::transform(named), {.chunk_size = 1});
    auto at = stream.begin();
    for (int n = 0; n < 4; ++n) ++at;
    CHECK(*at == 4);
    CHECK(support::wait_until_running(pool, 2));
  }
  CHECK(support::eventually([&] { return pool.stats().workers_died == 2; }));
  CHECK(pool.stats().queued == 0);
  for (const int each : pool.stream(&square, std::views::iota(0), {.exit_grace = std::chrono::milliseconds::max()})) {
    if (each == 100) break;
  }
  CHECK(pool.stats().running == 0);
  CHECK(pool.stats().queued == 0);
  CHECK(pool.stats().workers_died == 2);
}

TEST_CASE("no item of a chunk starts when its stream was left") {
  const support::Leftovers audit;
  const support::Gate gate;
  Pool pool({.workers = 1});
  const auto named = [path = gate.path()](int n) { return std::pair(path, n); };
  const auto run = [](const std::string& path, int n) {
    std::ofstream(path + "_started_" + std::to_string(n));
    return support::wait_for_gate(path, n);
  };
  const auto started = [&](int n) { return ::access((gate.path() + "_started_" + std::to_string(n)).c_str(), F_OK) == 0; };
  {
    Pool other({.workers = 1});
    auto stream = pool.stream(run, std::views::iota(0) | std::views::transform(named),
                              {.chunk_size = 4, .exit_grace = std::chrono::milliseconds::max()});
    // the first item waits for the gate, and this thread for the first item: another process opens the gate
    auto opener = other.submit(
        [](const std::string& path) {
          support::eventually([&] { return ::access((path + "_started_0").c_str(), F_OK) == 0; });
          support::Gate().open();
          ::close(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        },
        gate.path());
    CHECK(*stream.begin() == 0);
    opener.get();
  }
  int count = 0;
  while (started(count)) ::unlink((gate.path() + "_started_" + std::to_string(count++)).c_str());
  CHECK(count >= 1);
  CHECK(pool.stats().running == 0);
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE("retries and timeouts of a stream's items") {
  const support::Leftovers audit;
  const support::Gate mark;
  Pool pool({.workers = 2});
  const auto named = [path = mark.path()](int n) { return std::pair(path, n); };
  const auto dies_once = [](const std::string& path, int n) {
    const std::string file = path + "_" + std::to_string(n);
    if (n % 10 == 3 && ::access(file.c_str(), F_OK) != 0) {
      ::close(::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
      ::raise(SIGKILL);
    }
    ::unlink(file.c_str());
    return n;
  };
  std::vector<int> got;
  for (const int each : pool.stream(dies_once, std::views::iota(0, 40) | std::views::transform(named), {.retries = 1})) {
    got.push_back(each);
  }
  CHECK(got.size() == 40);
  CHECK(std::ranges::is_sorted(got));
  CHECK(pool.stats().workers_died == 4);

  const auto hangs = [](const std::string& path, int n) { return n == 5 ? support::wait_for_gate(path, n) : n; };
  int index = 0;
  for (auto& each : pool.try_stream(hangs, std::views::iota(0, 20) | std::views::transform(named), {.timeout = 300ms})) {
    CAPTURE(index);
    REQUIRE(each.has_value() == (index != 5));
    if (!each) CHECK(each.failure().kind() == brood::FailureKind::timeout);
    ++index;
  }
  CHECK(index == 20);
}

TEST_CASE("a pool that is closed, or gone, ends its streams with what was read") {
  const support::Leftovers audit;
  std::optional<Pool> pool(std::in_place, brood::PoolOptions{.workers = 2});
  auto closed = pool->stream(&square, std::views::iota(0), {.in_flight = 10});
  auto gone = pool->stream(&square, std::views::iota(0), {.in_flight = 10});
  auto unread = pool->stream(&square, std::views::iota(0));
  CHECK(*closed.begin() == 0);
  CHECK(*gone.begin() == 0);
  const auto read = [](auto& stream) {
    std::vector<int> got;
    bool told = false;
    try {
      for (const int each : stream) got.push_back(each);
    } catch (const brood::PoolClosed&) {
      told = true;
    }
    CHECK(told);
    return got;
  };
  pool->close();
  std::vector<int> got = read(closed);
  CHECK(got.size() <= 11);
  CHECK(std::ranges::is_sorted(got));
  pool.reset();
  got = read(gone);
  CHECK(got.size() <= 11);
  CHECK(read(unread).empty());
}

TEST_CASE("a closure under ForkPolicy streams: it sees the host as it was at the call, items travel") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2}, {.allow_threads = true});
  std::vector<int> table{10, 20, 30};
  std::uint64_t read = 0;
  auto stream = pool.stream([&table](int n) { return table[static_cast<std::size_t>(n % 3)] + n; }, counted(read));
  table.assign(3, 0);
  CHECK(read == 0);
  int index = 0;
  for (const int each : stream) {
    REQUIRE(each == (index % 3 + 1) * 10 + index);
    if (++index == 1000) break;
  }
}

TEST_CASE("InlinePolicy streams item by item, in the caller") {
  const support::Leftovers audit;
  brood::Pool<brood::InlinePolicy> pool;
  std::uint64_t read = 0;
  std::uint64_t ran = 0;
  std::uint64_t got = 0;
  for (const int each : pool.stream([&ran](int n) { ++ran; return n; }, counted(read))) {
    CHECK(static_cast<std::uint64_t>(each) == got++);
    CHECK(read == got);
    CHECK(ran == got);
    if (got == 10) break;
  }
}

TEST_CASE("options of a stream that make no sense are refused") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  CHECK_THROWS_AS(pool.stream(&square, std::vector{1}, {.timeout = -1ms}), std::invalid_argument);
  CHECK_THROWS_AS(pool.stream(&square, std::vector{1}, {.exit_grace = -1ms}), std::invalid_argument);
}
