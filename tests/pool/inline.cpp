// SPDX-License-Identifier: MIT
// InlinePolicy is a drop-in for ForkServerPolicy: one program, and nothing but the name of the policy differs.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

namespace {

using namespace std::chrono_literals;

/// A Preload that can't do without its arguments.
class Model {
 public:
  Model(std::string file, int factor) : file_(std::move(file)), factor_(factor) {
    if (factor == 0) throw std::invalid_argument(file_ + " has no factor");
    ++alive;
  }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model() { --alive; }

  int score(int n) const { return factor_ * n; }
  const std::string& file() const { return file_; }

  static inline int alive = 0;

 private:
  std::string file_;
  int factor_;
};

/// One that refers to the one before it.
struct Index {
  const Model& model = brood::preloaded<Model>();
  int first = model.score(1);
};

/// One that nobody gives arguments.
struct Plain {
  int value = 5;
};

int score(int n) { return brood::preloaded<Model>().score(n); }
int add(int a, int b) { return a + b; }
int odd_only(int n) { return n % 2 != 0 ? n : throw std::out_of_range("even"); }
std::vector<int> several(int n) { return std::vector<int>(static_cast<std::size_t>(n), score(1)); }

struct Sent {
  int value = 0;
};

#if BROOD_TEST_HAS_THREAD_SANITIZER
#define DROP_IN brood::InlinePolicy
#else
using ModelServer = brood::ForkServerPolicy<Model, Index, Plain>;
#define DROP_IN ModelServer, brood::InlinePolicy
#endif

/// A pool with every option.
template <class Policy>
class Program {
 public:
  explicit Program(const std::string& trace = {})
      : pool({.workers = 2,
              .tasks_per_worker = 1000,
              .memory_per_worker = std::uint64_t{1} << 40,
              .task_timeout = 120s,
              .start_timeout = 120s,
              .stop_grace = 5s,
              .idle_timeout = 60s,
              .max_pending_bytes = 1 << 20,
              .max_message_bytes = 1 << 16,
              .spares = 1,
              .limits = {.core_size = 0},
              .output = brood::Output::inherit,
              .kill_tree = true,
              .backtraces = true,
              .on_worker_start = [] {},
              .on_worker_stop = [] {},
              .seed = 7,
              .working_directory = "/",
              .environment = {"BROOD_TEST_DROP_IN=1"},
              .helper_thread = true,
              .name = "drop-in",
              .log = [](brood::LogLevel, std::string_view) {},
              .trace = trace},
             {brood::preload_args<Model>("m.bin", 3), brood::preload_args<Index>()}) {}

  brood::Pool<Policy> pool;
};

}  // namespace

TEST_CASE_TEMPLATE("a drop-in: Preloads with and without arguments", Policy, DROP_IN) {
  const support::Leftovers audit;
  for (int round = 0; round < 2; ++round) {
    Program<Policy> program;
    auto& pool = program.pool;
    CHECK(pool.submit(&score, 4).get() == 12);
    CHECK(pool.submit([] { return brood::preloaded<Model>().file(); }).get() == "m.bin");
    CHECK(pool.submit([] { return brood::preloaded<Index>().first; }).get() == 3);
    CHECK(pool.submit([] { return &brood::preloaded<Index>().model == &brood::preloaded<Model>(); }).get());
    CHECK(pool.submit([] { return brood::preloaded<Plain>().value; }).get() == 5);
    {
      // each pool has its own
      brood::Pool<Policy> other({.workers = 1}, Policy{brood::preload_args<Model>("other.bin", 4)});
      CHECK(other.submit(&score, 4).get() == 16);
      CHECK(pool.submit(&score, 4).get() == 12);
    }
  }
  CHECK(Model::alive == 0);  // those of a server are the server's
}

TEST_CASE_TEMPLATE("a drop-in: a Preload that can't be built", Policy, DROP_IN) {
  const support::Leftovers audit;
  try {
    brood::Pool<Policy> pool({.workers = 1}, {brood::preload_args<Model>("bad.bin", 0), brood::preload_args<Index>()});
    FAIL("a pool was made");
  } catch (const brood::PreloadError& error) {
    const std::string said = error.what();
    CHECK(error.preload() == brood::detail::type_name<Model>());
    CHECK_MESSAGE(said.find("its constructor threw std::invalid_argument: bad.bin has no factor") != std::string::npos, said);
  }
  CHECK(Model::alive == 0);
}

TEST_CASE_TEMPLATE("a drop-in: calls, options and what they throw", Policy, DROP_IN) {
  const support::Leftovers audit;
  Program<Policy> program;
  auto& pool = program.pool;
  CHECK(pool.submit([] { return brood::this_worker::random_engine()(); }).get() == brood::RandomEngine(7, 0)());
  const auto future = pool.submit({.timeout = 60s, .retries = 1, .priority = 2, .limits = {.open_files = 100}}, [] {
    brood::this_task::progress(2, 4);
    return std::pair(brood::this_task::id(), brood::this_worker::pid() > 0 && brood::this_worker::index() < 2);
  });
  CHECK(future.wait_for(60s));
  future.wait([](const brood::Progress&) {});
  CHECK(future.get() == std::pair(future.id(), true));
  CHECK(future.progress() == brood::TaskProgress{2, 4});
  CHECK(future.output().empty());
  CHECK(future.ready());
  auto done = pool.submit(&score, 1);
  done.wait();
  CHECK_FALSE(done.cancel());

  CHECK_THROWS_WITH_AS(pool.submit(&odd_only, 2).get(), "even", std::out_of_range);
  CHECK_THROWS_AS(pool.submit(&odd_only, 2).get(), brood::FromTask);
  const auto outcome = pool.submit([]() -> int { throw Sent{1}; }).outcome();
  REQUIRE_FALSE(outcome);
  CHECK(outcome.failure().kind() == brood::FailureKind::exception);
  CHECK(outcome.failure().message().find("inline.cpp") != std::string::npos);
  CHECK_THROWS_AS(outcome.value(), brood::TaskError);
  CHECK_THROWS_AS(pool.submit([](const std::string& text) { return text.size(); }, std::string(1 << 17, 'x')), brood::MessageTooLarge);
  CHECK_THROWS_AS(pool.submit([] { return std::string(1 << 17, 'x'); }).get(), brood::MessageTooLarge);
  std::vector<int> into(4);
  CHECK(pool.submit_into(into, &several, 2).get() == 2);
  CHECK(into == std::vector{3, 3, 0, 0});

  CHECK(pool.submit(&score, 1).then([](int n) { return n + 1; }).get() == 4);
  std::vector<brood::Future<int>> both;
  both.push_back(pool.submit(&score, 1));
  both.push_back(pool.submit(&score, 2));
  CHECK(brood::when_all(std::move(both)).get() == std::vector{3, 6});
  CHECK(pool.first_of(&odd_only, std::vector{2, 5}, {.timeout = 60s}).get() == 5);
}

TEST_CASE_TEMPLATE("a drop-in: maps, folds and streams", Policy, DROP_IN) {
  const support::Leftovers audit;
  Program<Policy> program;
  auto& pool = program.pool;
  const auto quiet = [](const brood::Progress&) {};
  CHECK(pool.map(&score, std::vector{1, 2, 3}, {.chunk_size = 2, .timeout = 60s, .retries = 1, .priority = 1, .progress = quiet}) ==
        std::vector{3, 6, 9});
  CHECK(pool.map(&add, std::vector{std::pair(1, 2), std::pair(3, 4)}) == std::vector{3, 7});
  CHECK_THROWS_AS(pool.map(&odd_only, std::vector{1, 2}), std::out_of_range);
  const auto outcomes = pool.try_map(&odd_only, std::vector{1, 2, 3});
  CHECK(outcomes[0].value() == 1);
  CHECK_FALSE(outcomes[1]);
  CHECK(pool.map_reduce(&score, &add, std::views::iota(0, 100), 0) == 3 * 4950);
  const brood::StreamOptions options{.in_flight = 8, .max_bytes = 1 << 16, .chunk_size = 2, .timeout = 60s, .retries = 1, .priority = 1,
                                     .exit_grace = 1s, .progress = quiet};
  std::vector<int> got;
  for (const int each : pool.stream(&score, std::views::iota(1), options)) {
    got.push_back(each);
    if (got.size() == 5) break;
  }
  CHECK(got == std::vector{3, 6, 9, 12, 15});
  int sum = 0;
  for (const int each : pool.stream_unordered(&score, std::views::iota(0, 10), options)) sum += each;
  CHECK(sum == 3 * 45);
  std::size_t failed = 0;
  for (const auto& each : pool.try_stream(&odd_only, std::views::iota(0, 10), options)) failed += each ? 0U : 1U;
  for (const auto& each : pool.try_stream_unordered(&odd_only, std::views::iota(0, 10), options)) failed += each ? 0U : 1U;
  CHECK(failed == 10);
}

TEST_CASE_TEMPLATE("a drop-in: channels, descriptors and shared memory", Policy, DROP_IN) {
  const support::Leftovers audit;
  Program<Policy> program;
  auto& pool = program.pool;
  auto [mine, theirs] = brood::channel<int, int>();
  for (const int n : {1, 2, 3}) mine.send(n);
  mine.close_sending();
  auto scored = pool.submit([](brood::Channel<int, int> end) {
    int count = 0;
    for (const int each : end) {
      end.send(score(each));
      ++count;
    }
    return count;
  }, std::move(theirs));
  std::vector<int> got;
  for (const int each : mine) got.push_back(each);
  CHECK(got == std::vector{3, 6, 9});
  CHECK(scored.get() == 3);

  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  brood::Fd reading(ends[0]);
  brood::Fd back = pool.submit([](brood::Fd to) {
    if (::write(to.get(), "ab", 2) != 2) throw std::runtime_error("write");
    return to;
  }, brood::Fd(ends[1])).get();
  CHECK(::write(back.get(), "c", 1) == 1);
  back.reset();
  std::array<char, 8> text{};
  std::size_t size = 0;
  for (ssize_t more = 0; (more = ::read(reading.get(), text.data() + size, text.size() - size)) > 0;) size += static_cast<std::size_t>(more);
  CHECK(std::string_view(text.data(), size) == "abc");

  brood::SharedArray<int> array(8);
  pool.map([](brood::SharedArray<int> part) {
    for (int& each : part.span()) each = score(1);
  }, array.split(2));
  CHECK(std::vector<int>(array.span().begin(), array.span().end()) == std::vector<int>(8, 3));
}

TEST_CASE_TEMPLATE("a drop-in: what a pool tells, and how it ends", Policy, DROP_IN) {
  const support::Leftovers audit;
  std::string trace = "/tmp/brood-drop-in-XXXXXX";
  ::close(::mkostemp(trace.data(), O_CLOEXEC));
  {
    Program<Policy> program(trace);
    auto& pool = program.pool;
    pool.submit(&score, 1).wait();
    pool.submit(&odd_only, 2).wait();
    pool.resize(1);
    pool.wait();
    pool.wait([](const brood::Progress&) {});
    const brood::PoolStats stats = pool.stats();
    CHECK(stats.done == 1);
    CHECK(stats.failed == 1);
    CHECK(stats.queued == 0);
    CHECK(stats.running == 0);
    CHECK(stats.seed == 7);
    CHECK(stats.workers_died == 0);
    pool.cancel_pending();
    pool.close();
    CHECK_THROWS_AS(pool.submit(&score, 1), brood::PoolClosed);
    pool.kill();
  }
  const std::string written = support::read_text(trace);
  CHECK(written.find("score(int)") != std::string::npos);
  CHECK(written.find("odd_only(int)") != std::string::npos);
  ::unlink(trace.c_str());

  brood::Pool<Policy> driven({.workers = 1, .helper_thread = false}, Policy{brood::preload_args<Model>("m.bin", 2)});
  auto future = driven.submit(&score, 1);
  CHECK(driven.descriptor() >= 0);
  driven.poll();
  CHECK(future.get() == 2);
}
