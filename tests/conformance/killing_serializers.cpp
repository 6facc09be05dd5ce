// SPDX-License-Identifier: MIT
// Serializers that throw, exit or die at any byte, on both sides of the pipe: one task fails, of the right kind.
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/rounds.hpp"
#include "support/sanitizer.hpp"

namespace app {

enum class Fault { none, throws, throws_int, exits, killed, crashes };
enum class Step { write_argument, read_argument, write_result, read_result };

/// Some bytes, with a fault at one of them, in one of the four steps that a value takes.
struct Bytes {
  static constexpr std::size_t size = std::size_t{200} << 10;  // more than a pipe holds

  Fault fault = Fault::none;
  Step step = Step::write_argument;
  std::uint64_t at = 0;
  bool is_result = false;
};

inline void befall(Fault fault) {
  switch (fault) {
    case Fault::none: return;
    case Fault::throws: throw std::range_error("the fault");
    case Fault::throws_int: throw 42;
    case Fault::exits: std::exit(9);
    case Fault::killed: ::raise(SIGKILL); return;
    case Fault::crashes: ::raise(SIGSEGV); return;
  }
}

/// An argument, or a result, whose destructor ends the worker, when the task has returned.
struct Grenade {
  bool armed = false;  // the host's are not

  Grenade() = default;
  explicit Grenade(bool is_armed) : armed(is_armed) {}
  Grenade(Grenade&& other) noexcept : armed(std::exchange(other.armed, false)) {}
  Grenade& operator=(Grenade&&) = delete;
  ~Grenade() {
    if (armed) ::raise(SIGKILL);
  }
};

}  // namespace app

template <>
struct brood::Serializer<app::Grenade> {
  static void write(brood::Writer& writer, const app::Grenade& grenade) { writer.value(!grenade.armed); }
  static app::Grenade read(brood::Reader& reader) { return app::Grenade(reader.value<bool>()); }
};

template <>
struct brood::Serializer<app::Bytes> {
  static void write(brood::Writer& writer, const app::Bytes& bytes) {
    const bool here = bytes.step == (bytes.is_result ? app::Step::write_result : app::Step::write_argument);
    if (here && bytes.at == 0) app::befall(bytes.fault);
    writer.value(bytes.fault);
    writer.value(bytes.step);
    writer.value(bytes.at);
    writer.value(bytes.is_result);
    static const std::vector<std::byte> all(app::Bytes::size, std::byte{0x5a});
    const std::size_t before = here ? static_cast<std::size_t>(bytes.at) : 0;
    writer.raw(all.data(), before);
    if (before != 0) app::befall(bytes.fault);
    writer.raw(all.data() + before, all.size() - before);
  }
  static app::Bytes read(brood::Reader& reader) {
    app::Bytes bytes;
    bytes.fault = reader.value<app::Fault>();
    bytes.step = reader.value<app::Step>();
    bytes.at = reader.value<std::uint64_t>();
    bytes.is_result = reader.value<bool>();
    const bool here = bytes.step == (bytes.is_result ? app::Step::read_result : app::Step::read_argument);
    if (here && bytes.at == 0) app::befall(bytes.fault);
    const std::size_t before = here ? bytes.at : 0;
    reader.raw(before);
    if (before != 0) app::befall(bytes.fault);
    for (const std::byte each : reader.raw(app::Bytes::size - before)) {
      if (each != std::byte{0x5a}) brood::Reader::fail("a wrong byte");
    }
    return bytes;
  }
};

namespace {

using app::Fault;
using app::Step;
using brood::FailureKind;

constexpr std::uint64_t places[] = {0, 1, app::Bytes::size / 2, app::Bytes::size};

/// A task: the value comes in and goes out.
app::Bytes through(app::Bytes bytes) {
  bytes.is_result = true;
  return bytes;
}

app::Bytes value(Fault fault, Step step, std::uint64_t at) { return {fault, step, at, false}; }

/// What becomes of a task whose value meets with a fault in the worker, or in the host while its result is read.
void fits(const brood::Outcome<app::Bytes>& outcome, Fault fault, Step step) {
  REQUIRE_FALSE(outcome);
  const brood::Failure& failure = outcome.failure();
  const std::string text = failure.message();
  if (step == Step::read_result) {
    CHECK_MESSAGE(failure.kind() == FailureKind::serialization, text);
    CHECK_THROWS_AS(outcome.value(), brood::SerializationError);
    return;
  }
  switch (fault) {
    case Fault::throws: CHECK_THROWS_WITH_AS(outcome.value(), "the fault", std::range_error); return;
    case Fault::throws_int: CHECK_THROWS_AS(outcome.value(), brood::TaskError); return;
    case Fault::exits: CHECK_MESSAGE(failure.status().describe() == "exited with code 9", text); break;
    case Fault::killed: CHECK_MESSAGE(failure.signal() == SIGKILL, text); break;
    case Fault::crashes:
      if constexpr (!support::has_sanitizer) CHECK_MESSAGE(failure.signal() == SIGSEGV, text);  // it exits with a report
      break;
    case Fault::none: break;
  }
  CHECK_MESSAGE(failure.kind() == FailureKind::worker_died, text);
  CHECK_THROWS_AS(outcome.value(), brood::WorkerDied);
}

template <class Policy>
void still_works(brood::Pool<Policy>& pool) {
  CHECK(pool.submit(&through, value(Fault::none, Step::read_result, 0)).outcome().has_value());
}

}  // namespace

TEST_CASE_TEMPLATE("a serializer that throws or dies in a worker, at any byte, fails its task, and the next succeeds", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const Step step : {Step::read_argument, Step::write_result}) {
    for (const Fault fault : {Fault::throws, Fault::throws_int, Fault::exits, Fault::killed, Fault::crashes}) {
      for (const std::uint64_t at : places) {
        CAPTURE(static_cast<int>(step));
        CAPTURE(static_cast<int>(fault));
        CAPTURE(at);
        auto future = pool.submit(&through, value(fault, step, at));
        fits(future.outcome(), fault, step);
        still_works(pool);
      }
    }
  }
}

TEST_CASE_TEMPLATE("a serializer that throws in the host, at any byte, fails its call or its result only", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const std::uint64_t at : places) {
    CAPTURE(at);
    CHECK_THROWS_AS(static_cast<void>(pool.submit(&through, value(Fault::throws, Step::write_argument, at))), std::range_error);
    still_works(pool);
    CHECK_THROWS_AS(static_cast<void>(pool.submit(&through, value(Fault::throws_int, Step::write_argument, at))), int);
    still_works(pool);
    for (const Fault fault : {Fault::throws, Fault::throws_int}) {
      auto future = pool.submit(&through, value(fault, Step::read_result, at));
      fits(future.outcome(), fault, Step::read_result);
      fits(future.outcome(), fault, Step::read_result);  // and again
      still_works(pool);
    }
  }
  CHECK(pool.stats().queued == 0);
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE_TEMPLATE("serializers that throw or die while the pool ends", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const bool killing : {false, true}) {
    std::vector<brood::Future<app::Bytes>> futures;
    std::vector<std::pair<Fault, Step>> faults;
    {
      brood::Pool<Policy> pool({.workers = 2});
      for (const Step step : {Step::read_argument, Step::write_result, Step::read_result}) {
        for (const Fault fault : {Fault::throws, Fault::throws_int, Fault::exits, Fault::killed, Fault::crashes}) {
          if (step == Step::read_result && fault != Fault::throws && fault != Fault::throws_int) continue;
          futures.push_back(pool.submit(&through, value(fault, step, app::Bytes::size / 2)));
          faults.emplace_back(fault, step);
          CHECK_THROWS_AS(static_cast<void>(pool.submit(&through, value(Fault::throws, Step::write_argument, 1))),
                          std::range_error);
        }
      }
      pool.close();
      if (killing) pool.kill();
    }
    for (std::size_t n = 0; n < futures.size(); ++n) {
      REQUIRE(futures[n].ready());
      const auto outcome = futures[n].outcome();
      REQUIRE_FALSE(outcome);
      if (!killing || outcome.failure().kind() != FailureKind::cancelled) fits(outcome, faults[n].first, faults[n].second);
    }
  }
}

TEST_CASE_TEMPLATE("in map, a serializer that dies costs its item and no other", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t chunk : {1U, 6U}) {
    std::vector<app::Bytes> items(12, value(Fault::none, Step::read_result, 0));
    items[2] = value(Fault::killed, Step::read_argument, 1);
    items[5] = value(Fault::exits, Step::write_result, app::Bytes::size / 2);
    items[7] = value(Fault::throws, Step::read_result, app::Bytes::size);
    items[11] = value(Fault::crashes, Step::write_result, app::Bytes::size);
    const auto outcomes = pool.try_map(&through, items, {.chunk_size = chunk});
    REQUIRE(outcomes.size() == 12);
    for (std::size_t n = 0; n < 12; ++n) {
      CAPTURE(n);
      if (items[n].fault == Fault::none) {
        CHECK(outcomes[n].has_value());
      } else {
        fits(outcomes[n], items[n].fault, items[n].step);
      }
    }
  }
  still_works(pool);
}

TEST_CASE_TEMPLATE("arguments and results are destroyed before the answer: a destructor that kills the worker is WorkerDied",
                   Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto fails = [&](auto future) {
    const auto outcome = future.outcome();
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == FailureKind::worker_died);
    CHECK(outcome.failure().signal() == SIGKILL);
    still_works(pool);
  };
  for (const int n : support::rounds(20, 5'000)) {
    fails(pool.submit([](const app::Grenade&, int k) { return k; }, app::Grenade(), n));
    fails(pool.submit([](app::Grenade, int k) { return k; }, app::Grenade(), n));
    fails(pool.submit([] { return app::Grenade(true); }));
  }
}

TEST_CASE_TEMPLATE("an answer that was written whole stays, though its worker dies with unread input", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto echo = [](std::string text) { return text; };
  for (int n = 0; n < 30; ++n) pool.submit(echo, std::string()).wait();  // short tasks: then work is handed out ahead
  for (const int n : support::rounds(20, 10'000)) {
    CAPTURE(n);
    auto future = pool.submit(
        [](int k) {
          brood::detail::StatusPage* const page = brood::detail::require_context("a test").page;
          std::thread([page, mine = page->task.load()] {
            // until it has answered
            while (page->task.load(std::memory_order_acquire) == mine) std::this_thread::yield();
            ::raise(SIGKILL);
          }).detach();
          return k;
        },
        n);
    const std::size_t size = n % 2 == 0 ? 8 : std::size_t{300} << 10;
    std::vector<brood::Future<std::string>> behind;
    for (int more = 0; more < 4; ++more) behind.push_back(pool.submit(echo, std::string(size, 'b')));
    const auto outcome = future.outcome();
    REQUIRE_MESSAGE(outcome, outcome.failure().message());
    CHECK(*outcome == n);
    int failed = 0;
    for (const auto& each : behind) {
      const auto echoed = each.outcome();
      if (echoed) {
        CHECK(*echoed == std::string(size, 'b'));
      } else {
        ++failed;
        CHECK_MESSAGE(echoed.failure().signal() == SIGKILL, echoed.failure().message());
      }
    }
    CHECK(failed <= 1);
    REQUIRE(support::eventually([&] { return pool.stats().workers_died == static_cast<std::uint64_t>(n) + 1; }));
  }
}

TEST_CASE_TEMPLATE("an answer that was written whole stays, though the worker is killed right after it", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const int n : support::rounds(20, 10'000)) {
    const std::size_t size = n % 2 == 0 ? 8 : std::size_t{300} << 10;  // what fits into a pipe, and what does not
    auto future = pool.submit(
        [](std::size_t length) {
          brood::detail::StatusPage* const page = brood::detail::require_context("a test").page;
          std::thread([page] {
            while (page->task.load(std::memory_order_acquire) != 0) std::this_thread::yield();  // until it has answered
            ::raise(SIGKILL);
          }).detach();
          return std::string(length, 'v');
        },
        size);
    const auto outcome = future.outcome();
    REQUIRE_MESSAGE(outcome, outcome.failure().message());
    CHECK(*outcome == std::string(size, 'v'));
    REQUIRE(support::eventually([&] { return pool.stats().workers_died == static_cast<std::uint64_t>(n) + 1; }));
    still_works(pool);
  }
}
