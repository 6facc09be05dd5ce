// SPDX-License-Identifier: MIT
// A worker's end fails the one task that it ran, with the exact cause, and the worker is replaced.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <random>
#include <set>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/rounds.hpp"

namespace {

enum class End { kill, segv, abort, term, exit_0, exit_3, exit_function, quick_exit, terminate, pthread_exit, noexcept_throw };

[[noreturn]] void throws() { throw std::runtime_error("through noexcept"); }
void throws_in_noexcept() noexcept { throws(); }

int end_like(End how) {
  switch (how) {
    case End::kill: ::raise(SIGKILL); break;
    case End::segv: ::raise(SIGSEGV); break;
    case End::abort: std::abort();
    case End::term: ::raise(SIGTERM); break;
    case End::exit_0: ::_exit(0);
    case End::exit_3: ::_exit(3);
    case End::exit_function: std::exit(4);
    case End::quick_exit: std::quick_exit(5);
    case End::terminate: std::terminate();
    case End::pthread_exit: ::pthread_exit(nullptr);
    case End::noexcept_throw: throws_in_noexcept(); break;
  }
  return 0;
}

int add_one(int n) { return n + 1; }

void waits_for_gate(const std::string& gate) { support::wait_for_gate(gate, 0); }

/// Makes the kernel end this worker when something is written to a pipe that it reads, unless the gate is open.
void dies_of_what_it_receives(const std::string& gate) {
  if (::access(gate.c_str(), F_OK) == 0) return;
  for (const int fd : support::numbers_in("/proc/self/fd")) {
    struct stat info {};
    if (fd <= STDERR_FILENO || ::fstat(fd, &info) != 0 || !S_ISFIFO(info.st_mode)) continue;
    const int flags = ::fcntl(fd, F_GETFL);
    if ((flags & O_ACCMODE) != O_RDONLY) continue;
    ::fcntl(fd, F_SETOWN, ::getpid());
    ::fcntl(fd, F_SETFL, flags | O_ASYNC);  // SIGIO
  }
}

/// Fails the test unless the task died so; returns what it threw.
template <class R>
void expect_death(brood::Future<R>& future, brood::ExitStatus expected) {
  INFO("expected: " << expected.describe());
  const brood::Outcome<R> outcome = future.outcome();
  REQUIRE_FALSE(outcome.has_value());
  CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
  CHECK(outcome.failure().task() == future.id());
  CHECK(outcome.failure().status().describe() == expected.describe());
  CHECK(outcome.failure().pid() > 0);
  try {
    static_cast<void>(future.get());
    FAIL("no exception");
  } catch (const brood::WorkerDied& died) {
    CHECK(died.status().describe() == expected.describe());
    CHECK(died.pid() == outcome.failure().pid());
    CHECK(died.task() == future.id());
    const std::string text = died.what();
    CHECK_MESSAGE(text.find("task " + std::to_string(future.id())) != std::string::npos, text);
    CHECK_MESSAGE(text.find("worker " + std::to_string(died.pid())) != std::string::npos, text);
    CHECK_MESSAGE(text.find(expected.describe()) != std::string::npos, text);
  }
}

brood::ExitStatus signaled(int signal) { return brood::ExitStatus::from_wait(signal); }
brood::ExitStatus exited(int code) { return brood::ExitStatus::from_wait(code << 8); }

}  // namespace

TEST_CASE_TEMPLATE("WorkerDied has the exact cause, and the next task succeeds", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const std::vector<std::pair<End, brood::ExitStatus>> ends{
      {End::kill, signaled(SIGKILL)},     {End::segv, signaled(SIGSEGV)},       {End::abort, signaled(SIGABRT)},
      {End::term, signaled(SIGTERM)},     {End::exit_0, exited(0)},             {End::exit_3, exited(3)},
      {End::exit_function, exited(4)},    {End::quick_exit, exited(5)},         {End::terminate, signaled(SIGABRT)},
      {End::pthread_exit, exited(0)},     {End::noexcept_throw, signaled(SIGABRT)}};
  std::size_t deaths = 0;
  for (const int round : support::rounds(1, 1'000)) {
    for (const auto& [how, expected] : ends) {
      auto future = pool.submit(&end_like, how);
      expect_death(future, expected);
      ++deaths;
      CHECK(pool.submit(&add_one, round).get() == round + 1);
    }
  }
  CHECK(pool.stats().workers_died == deaths);
  CHECK(pool.stats().failed == deaths);
  CHECK(pool.stats().done == deaths);
}

TEST_CASE_TEMPLATE("a real segmentation fault is WorkerDied with SIGSEGV", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit([] {
    volatile int* const nowhere = nullptr;
    asm volatile("movl $1, (%0)" : : "r"(nowhere) : "memory");  // no sanitizer may look at it
    return 1;
  });
  expect_death(future, signaled(SIGSEGV));
}

TEST_CASE_TEMPLATE("only the task that crashed fails", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 4});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 300; ++n) {
    futures.push_back(pool.submit(
        [](int k) {
          if (k == 150) ::raise(SIGSEGV);
          return k;
        },
        n));
  }
  for (int n = 0; n < 300; ++n) {
    auto outcome = futures[static_cast<std::size_t>(n)].outcome();
    CHECK(outcome.has_value() == (n != 150));
    if (outcome) CHECK(*outcome == n);
  }
  CHECK(pool.stats().failed == 1);
  CHECK(pool.stats().done == 299);
}

TEST_CASE_TEMPLATE("an idle worker that is killed from outside costs no task", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const pid_t first = pool.submit([] { return ::getpid(); }).get();
  for (int round = 0; round < 5; ++round) {
    const auto workers = pool.stats().workers;
    REQUIRE(workers.size() == 1);
    CHECK(workers[0].state == brood::WorkerState::idle);
    const pid_t victim = workers[0].pid;
    REQUIRE(::kill(victim, SIGKILL) == 0);
    CHECK(pool.submit(&add_one, 1).get() == 2);
    CHECK(pool.submit([] { return ::getpid(); }).get() != victim);
  }
  CHECK(pool.submit([] { return ::getpid(); }).get() != first);
  CHECK(pool.stats().failed == 0);
}

TEST_CASE_TEMPLATE("workers that have not run anything yet are killed from outside: no task fails, and the pool is not broken", Policy,
                   EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  constexpr std::size_t all = 8;  // six starts that fail would break the pool
  const support::Gate cancelled;
  brood::Pool<Policy> pool({.workers = all,
                            .start_timeout = std::chrono::minutes(4),
                            .on_worker_start = brood::worker_hook(&waits_for_gate, cancelled.path())});
  std::vector<brood::Future<int>> never;
  for (std::size_t n = 0; n < all; ++n) never.push_back(pool.submit(&add_one, 1));
  REQUIRE(support::eventually([&] { return pool.stats().workers.size() == all; }, std::chrono::seconds(60)));
  for (auto& each : never) each.cancel();
  for (auto& each : never) CHECK(each.outcome().failure().kind() == brood::FailureKind::cancelled);
  cancelled.open();
  std::vector<brood::WorkerStats> workers;
  const bool all_idle = support::eventually(
      [&] {
        workers = pool.stats().workers;
        return std::all_of(workers.begin(), workers.end(), [](const auto& each) { return each.state == brood::WorkerState::idle; });
      },
      std::chrono::seconds(60));
  REQUIRE(all_idle);
  REQUIRE(workers.size() == all);
  for (const auto& each : workers) {
    CHECK(each.tasks_done == 0);
    REQUIRE(::kill(each.pid, SIGKILL) == 0);
  }
  CHECK(support::eventually([&] { return pool.stats().workers_died == all; }, std::chrono::seconds(60)));
  CHECK(pool.stats().state == brood::PoolState::running);
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 40; ++n) futures.push_back(pool.submit(&add_one, n));
  for (int n = 0; n < 40; ++n) {
    const auto outcome = futures[static_cast<std::size_t>(n)].outcome();
    REQUIRE_MESSAGE(outcome.has_value(), outcome.failure().message());
    CHECK(*outcome == n + 1);
  }
  CHECK(pool.stats().state == brood::PoolState::running);
}

TEST_CASE_TEMPLATE("a call whose workers are killed while they receive it fails alone, and in the end", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const std::vector<std::string> large(40'000, std::string(1'000, 'x'));  // in pieces: it goes through the pipe
  std::atomic<bool> over = false;
  auto first = pool.submit([](const std::vector<std::string>& it) { return static_cast<int>(it.size()); }, large);
  std::vector<brood::Future<int>> others;
  for (int n = 0; n < 20; ++n) others.push_back(pool.submit(&add_one, n));
  unsigned kills = 0;
  std::thread killer([&] {
    pid_t last = 0;
    while (!over && kills < 12) {
      const auto workers = pool.stats().workers;
      if (workers.empty() || workers[0].pid == 0 || workers[0].pid == last || workers[0].state == brood::WorkerState::starting || workers[0].tasks_done != 0) continue;
      if (first.ready()) break;  // whoever is next is another's
      last = workers[0].pid;
      if (::kill(last, SIGKILL) == 0) ++kills;
    }
  });
  const auto outcome = first.outcome();
  over = true;
  killer.join();
  if (!outcome) CHECK_MESSAGE(outcome.failure().kind() == brood::FailureKind::worker_died, outcome.failure().message());
  unsigned failures = outcome ? 0 : 1;
  for (auto& each : others) failures += each.outcome() ? 0U : 1U;
  CHECK(failures <= kills);
  CHECK(failures <= 2);  // the last kill may have met the task behind it
  CHECK(pool.stats().state == brood::PoolState::running);
}

TEST_CASE_TEMPLATE("a call, or an item, that no worker lives to begin says so, and how many they were", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  const support::Gate safe;
  brood::Pool<Policy> pool({.workers = 1, .on_worker_start = brood::worker_hook(&dies_of_what_it_receives, safe.path())});
  const std::vector<std::string> large(2'000, std::string(1'000, 'x'));  // more than the pipe holds
  const auto size_of = [](const std::vector<std::string>& it) { return it.size(); };
  const std::string how = ": the worker " + signaled(SIGIO).describe() + " before it had begun the ";
  const auto check = [&](const brood::Failure& failure, const std::string& thing, const std::string& behind) {
    const std::string text = failure.message();
    CHECK(failure.kind() == brood::FailureKind::worker_died);
    CHECK_MESSAGE(text.ends_with(how + thing + ", the last of " + behind), text);
  };
  const std::string only = " workers that ended before they had; only this ";
  {
    const auto outcome = pool.submit(size_of, large).outcome();
    REQUIRE_FALSE(outcome);
    check(outcome.failure(), "task", "6" + only + "task fails, the worker is replaced");
  }
  {
    const auto outcome = pool.submit({.retries = 1}, size_of, large).outcome();
    REQUIRE_FALSE(outcome);
    check(outcome.failure(), "task", "7" + only + "task fails, the worker is replaced; it was tried 2 times (TaskOptions::retries)");
  }
  {
    const auto outcomes = pool.try_map(size_of, std::vector<std::vector<std::string>>{large});
    REQUIRE_FALSE(outcomes[0]);
    check(outcomes[0].failure(), "item", "6" + only + "item fails, the worker is replaced");
  }
  safe.open();
  CHECK(pool.submit(size_of, large).get() == large.size());
}

TEST_CASE_TEMPLATE("a busy worker that is killed from outside fails its task", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit([] {
    for (;;) ::pause();
    return 0;
  });
  auto waiting = pool.submit(&add_one, 1);
  pid_t victim = 0;
  REQUIRE(support::eventually([&] {
    for (const auto& worker : pool.stats().workers) {
      if (worker.task == future.id()) victim = worker.pid;
    }
    return victim != 0;
  }));
  REQUIRE(::kill(victim, SIGKILL) == 0);
  expect_death(future, signaled(SIGKILL));
  CHECK(waiting.get() == 2);
}

TEST_CASE_TEMPLATE("workers killed at random cost at most one task per kill", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  const std::string log = "/tmp/brood_starts_" + std::to_string(::getpid());
  ::unlink(log.c_str());
  constexpr int tasks = 2000;
  std::size_t kills = 0;
  std::size_t failures = 0;
  {
    brood::Pool<Policy> pool({.workers = 4});
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < tasks; ++n) {
      futures.push_back(pool.submit(
          [](const std::string& file, int number) {
            const int fd = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT, 0600);
            if (::write(fd, &number, sizeof number) != sizeof number) return -1;
            ::close(fd);
            return number;
          },
          log, n));
    }
    std::mt19937 random(4711);
    for (int n = 0; n < tasks; n += 40) {
      futures[static_cast<std::size_t>(n)].wait();
      const auto workers = pool.stats().workers;
      if (workers.empty()) continue;
      if (::kill(workers[random() % workers.size()].pid, SIGKILL) == 0) ++kills;
    }
    for (int n = 0; n < tasks; ++n) {
      auto outcome = futures[static_cast<std::size_t>(n)].outcome();
      if (outcome) {
        CHECK(*outcome == n);
      } else {
        ++failures;
        CHECK_MESSAGE(outcome.failure().kind() == brood::FailureKind::worker_died, outcome.failure().message());
      }
    }
    CHECK(pool.submit(&add_one, 1).get() == 2);
    CHECK(pool.stats().failed == failures);
  }
  CHECK(kills > 0);
  CHECK(failures <= kills);
  const std::string bytes = support::read_text(log);
  ::unlink(log.c_str());
  std::multiset<int> started;
  for (std::size_t at = 0; at + sizeof(int) <= bytes.size(); at += sizeof(int)) {
    int number = 0;
    std::memcpy(&number, bytes.data() + at, sizeof number);
    started.insert(number);
  }
  for (int n = 0; n < tasks; ++n) {
    if (started.count(n) > 1) FAIL_CHECK("task " << n << " was started " << started.count(n) << " times");
  }
  CHECK(started.size() + failures >= tasks);
}

TEST_CASE_TEMPLATE("a result that was written whole wins over the death behind it", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const int n : support::rounds(20, 10'000)) {
    const auto outcome = pool.submit(
                                 [](int k) {
                                   std::thread([main = "/proc/self/task/" + std::to_string(::getpid()) + "/syscall"] {
                                     // the main thread reads again only when it has answered
                                     const std::string reading = std::to_string(SYS_read) + " ";
                                     while (!support::read_text(main).starts_with(reading)) {
                                     }
                                     ::raise(SIGKILL);
                                   }).detach();
                                   return k;
                                 },
                                 n)
                             .outcome();
    REQUIRE_MESSAGE(outcome.has_value(), outcome.failure().message());
    CHECK(*outcome == n);
    // not before it is dead may the next task come: that one would be killed while it runs
    REQUIRE(support::eventually([&] { return pool.stats().workers_died == static_cast<std::uint64_t>(n) + 1; }));
  }
}

TEST_CASE_TEMPLATE("Failure tells the peak memory of a worker that died", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto outcome = pool.submit([] {
                             std::vector<char> touched(std::size_t{64} << 20, 'x');
                             ::raise(SIGKILL);
                             return touched[5];
                           }).outcome();
  REQUIRE_FALSE(outcome);
  CHECK(outcome.failure().peak_rss_kib() > 60 << 10);
  CHECK(outcome.failure().signal() == SIGKILL);
}
