// SPDX-License-Identifier: MIT
// A little of everything that a pool does, with every result checked: the scenario of the faults.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "faults/sweep.hpp"
#include "support/policies.hpp"

namespace support {

inline int add_one(int x) { return x + 1; }
inline int leaves(int code) { ::_exit(code); }
inline int dies_by(int signal) {
  ::kill(::getpid(), signal);
  return 0;
}
inline int sleeps() {
  std::this_thread::sleep_for(std::chrono::seconds(60));
  return 0;
}
inline std::string doubled(const std::string& text) { return text + text; }

inline int prints(int n) {
  std::printf("task %d\n", n);
  std::fflush(stdout);
  std::fprintf(stderr, "and stderr\n");
  return n;
}
inline int own_niceness() { return ::getpriority(PRIO_PROCESS, 0); }
/// Leaves a process behind, which is to end with its worker.
inline int starts_a_process() {
  const pid_t child = ::fork();
  if (child != 0) return child > 0 ? 1 : 0;
  for (;;) ::pause();
}

inline int start_hooks = 0;
inline void start_hook() { ++start_hooks; }
inline int count_of_start_hooks() { return start_hooks; }

/// A Preload with something to do in each worker.
struct Reopening {
  void after_fork() { ++reopened; }
  int reopened = 0;
};
using ForkServerWithHook = brood::ForkServerPolicy<Numbers, Reopening>;

/// Whether a pool must come out of this as if nothing had happened, or typed errors may take the place of values.
enum class Demand { everything, typed_errors };

/// Whether the fault is over before the end of the suite: then the pool must be as fit as before. If it may stay, the
/// suite ends at the first failure.
enum class AfterFault { over, may_stay };

/// One pool's life, in two kinds: run() with a pool as it is by default, run_with_options() with all that PoolOptions and
/// TaskOptions can ask for. Each returns whether everything came out right.
template <class Policy>
class Suite {
 public:
  explicit Suite(Demand demand, AfterFault after = AfterFault::over,
                 std::chrono::milliseconds start_timeout = std::chrono::seconds(10))
      : demand_(demand), after_(after), start_timeout_(start_timeout) {}

  bool run() {
    brood::Pool<Policy> pool({.workers = 2, .start_timeout = start_timeout_, .stop_grace = std::chrono::seconds(2)});
    {
      std::vector<brood::Future<int>> futures;
      for (int n = 0; n < 4; ++n) futures.push_back(pool.submit(&add_one, n));
      for (int n = 0; n < 4; ++n) value(futures[static_cast<std::size_t>(n)].outcome(), n + 1);
    }
    died(pool.submit(&leaves, 3).outcome(), [](const brood::ExitStatus& status) { return status.exited() && status.code() == 3; });
    value(pool.submit(&doubled, std::string(300'000, 'x')).outcome(), std::string(600'000, 'x'));
    died(pool.submit(&dies_by, SIGUSR1).outcome(),
         [](const brood::ExitStatus& status) { return status.signaled() && status.signal() == SIGUSR1; });
    std::vector<int> numbers(40);
    std::iota(numbers.begin(), numbers.end(), 0);
    int item = 0;
    for (auto& outcome : pool.try_map(&add_one, numbers)) value(outcome, ++item);
    ended(pool.submit({.timeout = std::chrono::milliseconds(20)}, &sleeps).outcome(), brood::FailureKind::timeout);
    {
      auto future = pool.submit(&sleeps);
      future.cancel();
      ended(future.outcome(), brood::FailureKind::cancelled);
    }
    goes_on(pool);
    pool.close();
    pool.wait();
    return right_;
  }

  bool run_with_options() {
    const int nice = std::min(own_niceness() + 1, 19);
    brood::PoolOptions options;
    options.workers = 2;
    options.start_timeout = start_timeout_;
    options.stop_grace = std::chrono::seconds(2);
    options.memory_per_worker = std::uint64_t{1} << 40;
    options.limits = {.cpu_time = std::chrono::seconds(60), .open_files = 256, .core_size = 0, .nice = nice, .oom_score_adj = 100,
                      .no_new_privs = true};
    options.output = brood::Output::capture;
    options.kill_tree = true;
    options.on_worker_start = &start_hook;
    brood::Pool<Policy> pool(std::move(options));
    value(pool.submit(&count_of_start_hooks).outcome(), 1);
    {
      auto first = pool.submit(&prints, 1);
      auto second = pool.submit(&prints, 2);
      printed(first, 1);
      printed(second, 2);
    }
    if constexpr (std::is_same_v<Policy, ForkServerWithHook>) {
      value(pool.submit([] { return brood::preloaded<Reopening>().reopened; }).outcome(), 1);
    }
    if constexpr (brood::CopiesHost<Policy>) {
      value(pool.submit([nice] { return nice; }).outcome(), nice);  // a closure: its server is started for it
    }
    value(pool.submit(&own_niceness).outcome(), nice);
    value(pool.submit({.limits = {.core_size = 0, .nice = 19}}, &own_niceness).outcome(), 19);
    died(pool.submit({.retries = 1}, &leaves, 4).outcome(),
         [](const brood::ExitStatus& status) { return status.exited() && status.code() == 4; });
    value(pool.submit(&starts_a_process).outcome(), 1);
    goes_on(pool);
    pool.close();
    pool.wait();
    return right_;
  }

 private:
  void printed(brood::Future<int>& future, int n) {
    const auto outcome = future.outcome();
    value(outcome, n);
    const std::string wanted = "task " + std::to_string(n) + "\nand stderr\n";
    if (outcome && future.output() != wanted) throw Broken("a wrong output: '" + future.output() + "'");
  }
  void failed(const brood::Failure& failure) {
    right_ = false;
    if (!is_typed(failure)) throw Broken("a task failed in a way that is not a fault's: " + failure.message());
    if (demand_ == Demand::everything) throw Broken("a task failed: " + failure.message());
    if (after_ == AfterFault::may_stay) std::rethrow_exception(failure.exception());  // the others would fail like it
    if (failure.message().find("snapshot") != std::string::npos) snapshot_lost_ = true;
  }
  template <class T>
  void value(const brood::Outcome<T>& outcome, const T& wanted) {
    if (!outcome) return failed(outcome.failure());
    if (*outcome != wanted) throw Broken("a wrong value");
  }
  /// The task ended its worker.
  template <class Status>
  void died(const brood::Outcome<int>& outcome, Status right) {
    if (outcome) throw Broken("a task that ended its worker has a value");
    const brood::Failure& failure = outcome.failure();
    if (failure.kind() != brood::FailureKind::worker_died) return failed(failure);
    if (right(failure.status())) return;
    failed(failure);
    // the fault may have killed the worker first, or its server; an end that nobody saw is unknown
    const brood::ExitStatus& status = failure.status();
    const bool possible = !status.known() || (status.signaled() && status.signal() == SIGKILL) ||
                          (status.exited() && status.code() == brood::detail::exit_code_of_broken_worker);
    if (!possible) throw Broken("a made-up end: " + failure.message());
  }
  void ended(const brood::Outcome<int>& outcome, brood::FailureKind wanted) {
    if (outcome) throw Broken("a task that was to be ended has a value");
    if (outcome.failure().kind() != wanted) failed(outcome.failure());
  }
  void goes_on(brood::Pool<Policy>& pool) {
    std::string why;
    for (int tries = 0; tries < 3; ++tries) {
      const auto outcome = pool.submit(&add_one, 41).outcome();
      value(outcome, 42);
      if (outcome) return;
      why = outcome.failure().message();
    }
    if (brood::CopiesHost<Policy> && snapshot_lost_) return;
    throw Broken("the pool does not go on: " + why);
  }

  Demand demand_;
  AfterFault after_;
  std::chrono::milliseconds start_timeout_;
  bool right_ = true;
  bool snapshot_lost_ = false;
};

}  // namespace support
