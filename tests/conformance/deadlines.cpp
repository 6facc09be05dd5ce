// SPDX-License-Identifier: MIT
// TaskOptions and MapOptions: a deadline ends the task at its deadline, and nothing else; a retry follows a death only.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/rounds.hpp"

using namespace std::chrono_literals;

namespace {

int add_one(int n) { return n + 1; }

void hang() {
  for (;;) ::pause();
}
int hang_with_signals_blocked() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  std::atomic<int> turns = 0;
  for (;;) ++turns;
}
int stop_yourself() { return ::raise(SIGSTOP); }
int spin_for(std::chrono::microseconds time) {
  const auto until = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < until) {
  }
  return 1;
}

/// A file to which each start of a task adds a line.
class StartCount {
 public:
  StartCount() : path_("/tmp/brood_starts_" + std::to_string(::getpid())) { ::unlink(path_.c_str()); }
  StartCount(const StartCount&) = delete;
  StartCount& operator=(const StartCount&) = delete;
  ~StartCount() { ::unlink(path_.c_str()); }

  const std::string& path() const { return path_; }
  std::size_t count() const { return lines().size(); }
  bool any_twice() const {
    const std::vector<int> all = lines();
    return std::set<int>(all.begin(), all.end()).size() != all.size();
  }

  /// In a task, or in item n: one more start. Returns how many there have been, when all numbers have one digit.
  static long add(const std::string& path, int n = 0) {
    const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    const std::string line = std::to_string(n) + "\n";
    static_cast<void>(!::write(fd, line.data(), line.size()));
    const long count = ::lseek(fd, 0, SEEK_END) / 2;
    ::close(fd);
    return count;
  }

 private:
  std::vector<int> lines() const {
    std::vector<int> all;
    std::istringstream text(support::read_text(path_));
    for (int n = 0; text >> n;) all.push_back(n);
    return all;
  }

  std::string path_;
};

int dies_until(const std::string& path, long start) {
  if (StartCount::add(path) < start) ::raise(SIGKILL);
  return 7;
}

std::vector<int> numbers(int count) {
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("TaskOptions::timeout ends a task, whatever it does", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  auto hanging = pool.submit({.timeout = 100ms}, &hang);
  auto deaf = pool.submit({.timeout = 100ms}, &hang_with_signals_blocked);
  auto stopped = pool.submit({.timeout = 100ms}, &stop_yourself);
  auto quick = pool.submit({.timeout = 60s}, &add_one, 1);
  CHECK_THROWS_WITH_AS(hanging.get(), doctest::Contains("it ran longer than 100 ms (TaskOptions::timeout"), brood::TaskTimeout);
  CHECK_THROWS_AS(static_cast<void>(deaf.get()), brood::TaskTimeout);
  CHECK_THROWS_AS(static_cast<void>(stopped.get()), brood::TaskTimeout);
  CHECK(quick.get() == 2);
  const brood::Failure failure = deaf.outcome().failure();
  CHECK(failure.kind() == brood::FailureKind::timeout);
  CHECK(failure.pid() > 0);
  CHECK_FALSE(failure.status().exited());  // killed, or not known
  CHECK(failure.task() == deaf.id());
  CHECK_MESSAGE(failure.message().find("hang_with_signals_blocked") != std::string::npos, failure.message());
  CHECK(pool.stats().failed == 3);
  CHECK(pool.map(&add_one, numbers(3)) == std::vector{1, 2, 3});
}

TEST_CASE_TEMPLATE("PoolOptions::task_timeout is the limit of tasks that have none of their own", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .task_timeout = 100ms});
  auto hanging = pool.submit(&hang);
  const brood::TaskOptions unlimited{.timeout = std::chrono::milliseconds::max()};
  auto longer = pool.submit(unlimited, [](std::chrono::microseconds time) { return spin_for(time); }, 300ms);
  CHECK_THROWS_AS(hanging.get(), brood::TaskTimeout);
  CHECK(longer.get() == 1);
  const auto outcomes = pool.try_map(
      [](int n) {
        if (n == 5) hang();
        return n;
      },
      numbers(10));
  for (int n = 0; n < 10; ++n) CHECK(outcomes[static_cast<std::size_t>(n)].has_value() == (n != 5));
}

TEST_CASE_TEMPLATE("the time in the queue does not count, also behind another task of the same worker", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (int n = 0; n < 100; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);  // short tasks: work is handed out ahead
  auto first = pool.submit([] { return spin_for(700ms); });
  std::vector<brood::Future<int>> behind;
  for (int n = 0; n < 20; ++n) behind.push_back(pool.submit({.timeout = 500ms}, &add_one, n));
  CHECK(first.get() == 1);
  for (int n = 0; n < 20; ++n) CHECK(behind[static_cast<std::size_t>(n)].get() == n + 1);
}

TEST_CASE_TEMPLATE("a deadline costs no task but its own", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const StartCount starts;
  brood::Pool<Policy> pool({.workers = 1});
  for (int n = 0; n < 100; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);
  auto hanging = pool.submit({.timeout = 50ms}, &hang);
  std::vector<brood::Future<long>> behind;
  for (int n = 0; n < 30; ++n) behind.push_back(pool.submit(&StartCount::add, starts.path(), n));
  CHECK_THROWS_AS(hanging.get(), brood::TaskTimeout);
  for (auto& future : behind) CHECK(future.get() > 0);
  CHECK(starts.count() == 30);
  CHECK_FALSE(starts.any_twice());
}

TEST_CASE_TEMPLATE("tasks that end just at their deadline: a value or TaskTimeout, and the next task is never hit", Policy,
                   brood::ForkPolicy, support::ForkServer) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  int late = 0;
  for (const int round : support::rounds(300, 50'000)) {
    auto close = pool.submit({.timeout = 2ms}, &spin_for, std::chrono::microseconds(1'600 + 3 * (round % 300)));
    auto next = pool.submit(&add_one, round);
    const auto outcome = close.outcome();
    if (!outcome) {
      ++late;
      REQUIRE(outcome.failure().kind() == brood::FailureKind::timeout);
    }
    REQUIRE(next.get() == round + 1);
  }
  CHECK(late > 0);
  CHECK(pool.stats().failed == static_cast<std::uint64_t>(late));
}

TEST_CASE_TEMPLATE("MapOptions::timeout ends one item, and no other", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const std::size_t chunk : {0U, 1U, 100U}) {
    CAPTURE(chunk);
    const StartCount starts;
    brood::Pool<Policy> pool({.workers = 2});
    std::vector<std::tuple<int, std::string>> items;
    for (int n = 0; n < 100; ++n) items.emplace_back(n, starts.path());
    const auto outcomes = pool.try_map(
        [](int n, const std::string& path) {
          StartCount::add(path, n);
          if (n == 30 || n == 31) hang();
          return n;
        },
        items, {.chunk_size = chunk, .timeout = 200ms});
    REQUIRE(outcomes.size() == 100);
    for (int n = 0; n < 100; ++n) {
      CAPTURE(n);
      REQUIRE(outcomes[static_cast<std::size_t>(n)].has_value() == (n != 30 && n != 31));
    }
    CHECK(outcomes[30].failure().kind() == brood::FailureKind::timeout);
    const std::string text = outcomes[31].failure().message();
    CHECK_MESSAGE(text.find(", item 31 in worker ") != std::string::npos, text);
    CHECK_MESSAGE(text.ends_with("and was killed with its worker; only this item fails"), text);
    CHECK_THROWS_AS(outcomes[31].value(), brood::TaskTimeout);
    CHECK(starts.count() == 100);
    CHECK_FALSE(starts.any_twice());
    CHECK(pool.stats().done == 98);
    CHECK(pool.stats().failed == 2);
  }
}

TEST_CASE_TEMPLATE("items that end just at their deadline: none runs twice, none is forgotten", Policy, brood::ForkPolicy,
                   support::ForkServer) {
  const support::Leftovers audit;
  const StartCount starts;
  brood::Pool<Policy> pool({.workers = 2});
  std::vector<std::tuple<int, std::string>> items;
  for (int n = 0; n < 400; ++n) items.emplace_back(n, starts.path());
  const auto outcomes = pool.try_map(
      [](int n, const std::string& path) {
        StartCount::add(path, n);
        return n + spin_for(std::chrono::microseconds(1'500 + 2 * n)) - 1;
      },
      items, {.chunk_size = 20, .timeout = 2ms});
  std::uint64_t failed = 0;
  for (int n = 0; n < 400; ++n) {
    const auto& outcome = outcomes[static_cast<std::size_t>(n)];
    if (outcome) {
      REQUIRE(*outcome == n);
    } else {
      REQUIRE(outcome.failure().kind() == brood::FailureKind::timeout);
      ++failed;
    }
  }
  CHECK_FALSE(starts.any_twice());
  CHECK(starts.count() >= 400 - failed);
  CHECK(pool.stats().failed == failed);
  CHECK(pool.stats().done == 400 - failed);
}

TEST_CASE_TEMPLATE("TaskOptions::retries runs a task again whose worker died", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  {
    const StartCount starts;
    CHECK(pool.submit({.retries = 3}, &dies_until, starts.path(), 3L).get() == 7);
    CHECK(starts.count() == 3);
    CHECK(pool.stats().failed == 0);
  }
  const StartCount starts;
  const auto outcome = pool.submit({.retries = 2}, &dies_until, starts.path(), 1000L).outcome();  // poison
  CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
  CHECK(starts.count() == 3);
  CHECK(pool.stats().failed == 1);
}

TEST_CASE_TEMPLATE("nothing is run again without TaskOptions::retries, nor after anything but a death", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const StartCount starts;
  CHECK_THROWS_AS(static_cast<void>(pool.submit(&dies_until, starts.path(), 2L).get()), brood::WorkerDied);
  CHECK(starts.count() == 1);
  auto throws = pool.submit(
      {.retries = 5},
      [](const std::string& path) {
        StartCount::add(path);
        throw std::out_of_range("once");
      },
      starts.path());
  CHECK_THROWS_AS(throws.get(), std::out_of_range);
  CHECK(starts.count() == 2);
  auto hangs = pool.submit(
      {.timeout = 100ms, .retries = 5},
      [](const std::string& path) {
        StartCount::add(path);
        hang();
      },
      starts.path());
  CHECK_THROWS_AS(hangs.get(), brood::TaskTimeout);
  CHECK(starts.count() == 3);
  const support::Gate gate;
  auto cancelled = pool.submit({.retries = 5}, &support::wait_for_gate, gate.path(), 1);
  REQUIRE(support::wait_until_running(pool, 1));
  CHECK(cancelled.cancel());
  CHECK_THROWS_AS(static_cast<void>(cancelled.get()), brood::TaskCancelled);
  CHECK(pool.stats().queued == 0);
}

TEST_CASE_TEMPLATE("MapOptions::retries runs an item again whose worker died, and no other", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const std::size_t chunk : {0U, 1U, 50U}) {
    CAPTURE(chunk);
    const StartCount starts;
    brood::Pool<Policy> pool({.workers = 2});
    std::vector<std::tuple<int, std::string>> items;
    for (int n = 0; n < 50; ++n) items.emplace_back(n, starts.path());
    const auto outcomes = pool.try_map(
        [](int n, const std::string& path) {
          if (n == 20 && StartCount::add(path) < 3) ::raise(SIGKILL);
          if (n == 21) ::raise(SIGKILL);
          return n;
        },
        items, {.chunk_size = chunk, .retries = 2});
    for (int n = 0; n < 50; ++n) CHECK(outcomes[static_cast<std::size_t>(n)].has_value() == (n != 21));
    CHECK(starts.count() == 3);
    CHECK(outcomes[21].failure().signal() == SIGKILL);
    const std::string text = outcomes[21].failure().message();
    CHECK_MESSAGE(text.find(", item 21 in worker ") != std::string::npos, text);
    // between these a guess at the memory, should the kernel kill another test's process for it just now
    CHECK_MESSAGE(text.find("while it ran the item; ") != std::string::npos, text);
    CHECK_MESSAGE(text.ends_with("; only this item fails, the worker is replaced; it was run 3 times (MapOptions::retries)"), text);
    CHECK(pool.stats().done == 49);
    CHECK(pool.stats().failed == 1);
    CHECK(pool.stats().workers_died == 5);
  }
}

TEST_CASE("a closure is run again in the same snapshot, and ends at its deadline") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  const StartCount starts;
  int captured = 1;
  auto retried = pool.submit({.retries = 2}, [&] { return captured + dies_until(starts.path(), 3); });
  captured = 100;
  CHECK(retried.get() == 8);
  CHECK_THROWS_AS(pool.submit({.timeout = 100ms}, [&] { hang(); }).get(), brood::TaskTimeout);
}
