// SPDX-License-Identifier: MIT
// Large results and arguments: what is in them arrives as it was, whichever way it took, and a transfer that is cut short
// harms nobody.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/sanitizer.hpp"

namespace {

using brood::FailureKind;
using Numbers = std::vector<double>;

constexpr std::size_t threshold = brood::detail::block_threshold;
constexpr std::size_t mib = std::size_t{1} << 20;

template <class T>
std::vector<T> pattern(std::size_t count, std::uint64_t seed = 1) {
  std::vector<T> made(count);
  for (std::size_t at = 0; at < count; ++at) {
    made[at] = static_cast<T>((at + 1) * (2 * seed + 1) % 251);
  }
  return made;
}
std::string text_pattern(std::size_t count) {
  std::string text(count, ' ');
  for (std::size_t at = 0; at < count; ++at) text[at] = static_cast<char>('a' + at % 23);
  return text;
}

Numbers make_numbers(std::size_t count, std::uint64_t seed) { return pattern<double>(count, seed); }
std::string make_text(std::size_t count) { return text_pattern(count); }

template <class T>
T echo(const T& value) {
  return value;
}

pid_t own_pid() { return ::getpid(); }
int add_one(int n) { return n + 1; }
uid_t own_user() { return ::getuid(); }
void become_nobody() {
  if (::setuid(65'534) != 0) ::_exit(1);
}

struct Several {
  std::string name;
  Numbers first;
  std::vector<std::int32_t> second;
  std::optional<std::vector<std::uint8_t>> third;
  int last = 0;
  bool operator==(const Several&) const = default;
};

Several make_several() {
  return {"several", pattern<double>(100'000), pattern<std::int32_t>(3), pattern<std::uint8_t>(700'001), 17};
}

/// Its Serializer writes what it has just made, and what is gone when it returns.
struct Packed {
  std::uint64_t count = 0;
  bool operator==(const Packed&) const = default;
};

}  // namespace

template <>
struct brood::Serializer<Packed> {
  static void write(brood::Writer& out, const Packed& value) {
    const Numbers unpacked = pattern<double>(value.count);
    out.value(unpacked);
  }
  static Packed read(brood::Reader& in) {
    const auto unpacked = in.value<Numbers>();
    return {unpacked == pattern<double>(unpacked.size()) ? unpacked.size() : 0};
  }
};

TEST_CASE_TEMPLATE("results of every size arrive as they were", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{8}, std::size_t{64} << 10, threshold - 8, threshold, threshold + 8,
                                  mib, mib + 8, 3 * mib + 40}) {
    CAPTURE(bytes);
    const std::size_t count = bytes / sizeof(double);
    const Numbers wanted = make_numbers(count, bytes);
    auto kept = pool.submit(&make_numbers, count, bytes);
    CHECK(kept.get() == wanted);
    CHECK(kept.get() == wanted);  // once more
    CHECK(pool.submit(&make_numbers, count, bytes).get() == wanted);
    CHECK(pool.submit(&make_text, bytes + 1).get() == text_pattern(bytes + 1));
    CHECK(pool.submit(&make_text, bytes).outcome().value() == text_pattern(bytes));
  }
  CHECK(pool.submit([] { return std::string(33 * mib, 'x'); }).get() == std::string(33 * mib, 'x'));  // in huge pages
  CHECK(pool.stats().failed == 0);
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE_TEMPLATE("a future that gave its large value away has no task any more", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit(&make_numbers, mib, std::uint64_t{3});
  const brood::Outcome<Numbers> outcome = std::move(future).outcome();
  CHECK(*outcome == make_numbers(mib, 3));
  CHECK_THROWS_AS(future.get(), brood::Error);  // NOLINT(bugprone-use-after-move): that is what is asked
}

TEST_CASE_TEMPLATE("values with several large parts arrive as they were, both ways", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  CHECK(pool.submit(&make_several).get() == make_several());
  CHECK(pool.submit(&echo<Several>, make_several()).get() == make_several());

  const std::map<std::string, Numbers> named{
      {"empty", {}}, {"large", pattern<double>(200'000)}, {"more", pattern<double>(50'000)}, {"small", {1, 2}}};
  CHECK(pool.submit(&echo<std::map<std::string, Numbers>>, named).get() == named);
  CHECK(pool.submit(&echo<std::map<std::string, Numbers>>, std::map(named)).get() == named);

  std::vector<Numbers> rows;
  for (std::size_t row = 0; row < 20; ++row) rows.push_back(pattern<double>(row * 5'000, row));
  CHECK(pool.submit(&echo<std::vector<Numbers>>, rows).get() == rows);
  CHECK(pool.submit(&echo<std::vector<Numbers>>, std::vector(rows)).get() == rows);

  using Mixed = std::tuple<std::variant<int, std::string>, std::u16string, std::vector<bool>, std::unique_ptr<Numbers>>;
  const auto mixed = pool.submit([](Mixed value) { return value; },
                                 Mixed{text_pattern(2 * mib), std::u16string(300'000, u'x'), std::vector<bool>(3'000'000, true),
                                       std::make_unique<Numbers>(pattern<double>(70'000))})
                         .get();
  CHECK(std::get<1>(std::get<0>(mixed)) == text_pattern(2 * mib));
  CHECK(std::get<1>(mixed) == std::u16string(300'000, u'x'));
  CHECK(std::get<2>(mixed) == std::vector<bool>(3'000'000, true));
  CHECK(*std::get<3>(mixed) == pattern<double>(70'000));
}

TEST_CASE_TEMPLATE("what a Serializer makes while it writes is copied", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  CHECK(pool.submit([] { return Packed{200'000}; }).get() == Packed{200'000});
  CHECK(pool.submit(&echo<Packed>, Packed{300'000}).get() == Packed{300'000});
  const std::vector<Packed> many{{100'000}, {3}, {50'000}};
  CHECK(pool.submit(&echo<std::vector<Packed>>, many).get() == many);
}

TEST_CASE_TEMPLATE("arguments of every size arrive as they were", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{8}, threshold - 8, threshold, threshold + 8, 3 * mib + 40}) {
    CAPTURE(bytes);
    const std::size_t count = bytes / sizeof(double);
    Numbers numbers = pattern<double>(count);
    auto snapshot = pool.submit(&echo<Numbers>, numbers);
    const Numbers wanted = numbers;
    if (count != 0) numbers[count / 2] = -1;  // it is the value at the call that counts
    CHECK(snapshot.get() == wanted);
    CHECK(pool.submit(&echo<Numbers>, Numbers(wanted)).get() == wanted);
    const auto sizes = [](std::string text, std::size_t n, const Numbers& more) { return text.size() + n + more.size(); };
    CHECK(pool.submit(sizes, text_pattern(bytes), 5U, wanted).get() == bytes + 5 + count);
  }
}

TEST_CASE_TEMPLATE("a large argument reaches a worker that may not read the host's memory any more", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  if (::geteuid() != 0) return;  // only what root gives up is given up for good
  brood::Pool<Policy> pool({.workers = 1});
  const auto gives_up = [](const Numbers&) { return ::setuid(65'534) == 0 ? ::getpid() : 0; };
  const pid_t before = pool.submit(gives_up, pattern<double>(mib)).get();
  REQUIRE(before > 0);
  CHECK(pool.submit(&echo<Numbers>, pattern<double>(mib, 3)).get() == pattern<double>(mib, 3));
  CHECK(pool.submit(&own_pid).get() != before);
  brood::Pool<Policy> unprivileged({.workers = 2, .on_worker_start = &become_nobody});
  std::vector<brood::Future<Numbers>> futures;
  for (std::uint64_t n = 0; n < 4; ++n) futures.push_back(unprivileged.submit(&echo<Numbers>, pattern<double>(mib / 4, n)));
  for (std::uint64_t n = 0; n < 4; ++n) CHECK(futures[n].get() == pattern<double>(mib / 4, n));
  CHECK(unprivileged.submit(&own_user).get() == 65'534);
  CHECK(unprivileged.stats().workers_died == 0);
}

TEST_CASE_TEMPLATE("a task that is run again has its large arguments again", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const support::Gate gate;
  const auto dies_once = [](const std::string& path, Numbers numbers) {
    if (::access(path.c_str(), F_OK) == 0) return numbers;
    ::close(::open(path.c_str(), O_CREAT | O_WRONLY, 0600));
    ::_exit(3);
  };
  CHECK(pool.submit({.retries = 1}, dies_once, gate.path(), pattern<double>(mib)).get() == pattern<double>(mib));
}

TEST_CASE_TEMPLATE("a limit on messages counts what is large", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .max_pending_bytes = 3 * mib, .max_message_bytes = 2 * mib});
  const pid_t worker = pool.submit(&own_pid).get();
  CHECK(pool.submit(&make_text, 2 * mib - 64).get().size() == 2 * mib - 64);
  const auto too_large = pool.submit(&make_text, 2 * mib + 1).outcome();
  REQUIRE(!too_large);
  CHECK(too_large.failure().kind() == FailureKind::too_large);
  CHECK_THROWS_AS(pool.submit(&echo<std::string>, text_pattern(2 * mib + 1)), brood::MessageTooLarge);
  const support::Gate gate;
  auto blocker = pool.submit(&support::wait_for_gate, gate.path(), 1);
  auto waiting = pool.submit(&echo<std::string>, text_pattern(2 * mib - 1'000));
  std::string kept = text_pattern(3 * mib / 2);
  CHECK_THROWS_AS(pool.submit(&echo<std::string>, std::move(kept)), brood::QueueFull);
  CHECK(kept == text_pattern(3 * mib / 2));  // NOLINT(bugprone-use-after-move): a call that was not taken takes nothing
  gate.open();
  CHECK(blocker.get() == 1);
  CHECK(waiting.get() == text_pattern(2 * mib - 1'000));
  CHECK(pool.submit(&echo<std::string>, std::move(kept)).get() == text_pattern(3 * mib / 2));
  CHECK(pool.submit(&own_pid).get() == worker);  // nobody had to be killed for it
}

TEST_CASE_TEMPLATE("what a task with a large result has printed is there with it", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .output = brood::Output::capture});
  for (int n = 0; n < 5; ++n) {
    auto future = pool.submit(
        [](int which) {
          std::printf("task %d", which);
          return pattern<double>(mib);
        },
        n);
    CHECK(future.get() == pattern<double>(mib));
    CHECK(future.output() == "task " + std::to_string(n));
  }
}

TEST_CASE_TEMPLATE("the twin of a task that forks does not send its large result", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (int n = 0; n < 3; ++n) {
    CHECK(pool.submit([] {
                const pid_t twin = ::fork();
                if (twin > 0) ::waitpid(twin, nullptr, 0);
                return pattern<double>(mib);
              }).get() == pattern<double>(mib));
  }
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE_TEMPLATE("a worker that dies at any moment of a transfer fails its task, or the value is whole", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (int n = 0; n < 16; ++n) {
    const pid_t worker = pool.submit(&own_pid).get();
    auto bystander = pool.submit(&add_one, n);
    auto future = pool.submit(&echo<Numbers>, pattern<double>(mib, 7));
    future.wait_for(std::chrono::microseconds(500 * n));
    ::kill(worker, SIGKILL);
    const auto outcome = future.outcome();
    if (outcome) {
      CHECK(*outcome == pattern<double>(mib, 7));
    } else {
      CHECK_MESSAGE(outcome.failure().kind() == FailureKind::worker_died, outcome.failure().message());
    }
    const auto other = bystander.outcome();
    CHECK((!other || *other == n + 1));
  }
  CHECK(pool.submit(&make_numbers, mib, std::uint64_t{1}).get() == make_numbers(mib, 1));
}

TEST_CASE_TEMPLATE("a task that is cancelled at any moment of a transfer is cancelled, or the value is whole", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (int n = 0; n < 16; ++n) {
    auto future = pool.submit(&echo<Numbers>, pattern<double>(mib, 7));
    future.wait_for(std::chrono::microseconds(500 * n));
    future.cancel();
    const auto outcome = future.outcome();
    if (outcome) {
      CHECK(*outcome == pattern<double>(mib, 7));
    } else {
      CHECK_MESSAGE(outcome.failure().kind() == FailureKind::cancelled, outcome.failure().message());
    }
  }
  CHECK(pool.submit(&make_numbers, mib, std::uint64_t{1}).get() == make_numbers(mib, 1));
}

TEST_CASE_TEMPLATE("a deadline at any moment of a transfer ends it", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (int n = 1; n < 16; ++n) {
    auto future = pool.submit({.timeout = std::chrono::milliseconds(n)}, &echo<Numbers>, pattern<double>(mib, 7));
    const auto outcome = future.outcome();
    if (outcome) {
      CHECK(*outcome == pattern<double>(mib, 7));
    } else {
      CHECK_MESSAGE(outcome.failure().kind() == FailureKind::timeout, outcome.failure().message());
    }
  }
  CHECK(pool.submit(&make_numbers, mib, std::uint64_t{1}).get() == make_numbers(mib, 1));
}

TEST_CASE_TEMPLATE("kill and the pool's end do not wait for a transfer", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (int n = 0; n < 8; ++n) {
    brood::Pool<Policy> pool({.workers = 1});
    auto future = pool.submit(&echo<Numbers>, pattern<double>(4 * mib, 7));
    future.wait_for(std::chrono::milliseconds(3 * n));
    pool.kill();
    CHECK(future.ready());
    const auto outcome = future.outcome();
    if (outcome) {
      CHECK(*outcome == pattern<double>(4 * mib, 7));
    } else {
      CHECK(outcome.failure().kind() == FailureKind::cancelled);
    }
  }
}

TEST_CASE_TEMPLATE("a result is read from a worker that is stopped meanwhile", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit([] {
    auto* const page = brood::detail::current_context()->page;
    std::thread([page] {
      const auto offered = static_cast<std::uint32_t>(brood::detail::StatusPage::Transfer::offered);
      while (page->transfer.load() != offered) std::this_thread::yield();
      ::kill(::getpid(), SIGSTOP);
    }).detach();
    return pattern<double>(4 * mib, 5);
  });
  CHECK(future.get() == pattern<double>(4 * mib, 5));
  pool.kill();
}

TEST_CASE_TEMPLATE("large results of many workers arrive side by side with small ones", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 3});
  std::vector<brood::Future<Numbers>> large;
  std::vector<brood::Future<int>> small;
  for (int n = 0; n < 12; ++n) {
    large.push_back(pool.submit(&make_numbers, mib / 2, static_cast<std::uint64_t>(n)));
    small.push_back(pool.submit(&add_one, n));
  }
  for (int n = 0; n < 12; ++n) {
    CHECK(small[static_cast<std::size_t>(n)].get() == n + 1);
    CHECK(large[static_cast<std::size_t>(n)].get() == make_numbers(mib / 2, static_cast<std::uint64_t>(n)));
  }
}

TEST_CASE_TEMPLATE("many transfers leave no memory behind, in the host or in the worker", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto resident = [] {
    const std::string text = support::read_text("/proc/self/statm");
    return std::stoull(text.substr(text.find(' '))) * 4096;
  };
  const auto resident_there = [&] {
    return pool.submit([] {
                 const std::string text = support::read_text("/proc/self/statm");
                 return std::stoull(text.substr(text.find(' '))) * 4096;
               }).get();
  };
  const Numbers sent = pattern<double>(mib / 8);
  const auto transfer = [&] { CHECK(pool.submit(&echo<Numbers>, sent).get().size() == mib / 8); };
  for (int n = 0; n < 10; ++n) transfer();
  if (support::has_sanitizer) return;  // it keeps what was freed for a while; it looks for leaks itself
  const auto before = resident();
  const auto before_there = resident_there();
  for (int n = 0; n < 200; ++n) transfer();
  CHECK(resident() < before + 32 * mib);  // of 200 that have crossed
  CHECK(resident_there() < before_there + 32 * mib);
}
