// SPDX-License-Identifier: MIT
// A little of everything that a pool does, with every result checked: the scenario of the faults.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "faults/sweep.hpp"
#include "support/eventually.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/sanitizer.hpp"

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
inline int start_hooks = 0;
inline void start_hook() { ++start_hooks; }
inline int count_of_start_hooks() { return start_hooks; }
inline void stop_hook() { std::fprintf(stderr, "leaves\n"); }

inline int own_niceness() { return ::getpriority(PRIO_PROCESS, 0); }
/// What PoolOptions say of a worker, as it sees it.
inline std::string own_state() {
  const auto limit = [](auto which) {
    rlimit is{};
    ::getrlimit(which, &is);
    return std::to_string(is.rlim_cur);
  };
  const auto variable = [](const char* name) { return std::string(std::getenv(name) != nullptr ? std::getenv(name) : "none"); };
  cpu_set_t cpus;
  ::sched_getaffinity(0, sizeof cpus, &cpus);
  std::string score = read_text("/proc/self/oom_score_adj");
  return "cpu time " + std::string(limit(RLIMIT_CPU).size() <= 3 ? "limited" : "not limited") + ", files " +
         limit(RLIMIT_NOFILE) + ", core " + limit(RLIMIT_CORE) + ", memory " + limit(RLIMIT_AS) + ", nice " + std::to_string(own_niceness()) + ", cpus " + (CPU_COUNT(&cpus) == 1 ? "one" : "all") + ", oom " +
         score.substr(0, score.find('\n')) + ", privileges " + std::to_string(::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)) +
         ", folder " + std::filesystem::current_path().string() + ", variables " + variable("BROOD_SUITE") + " " + variable("PATH") +
         ", hooks " + std::to_string(start_hooks);
}

inline brood::Fd copy_of(const brood::Fd& file) { return brood::Fd(::fcntl(file.get(), F_DUPFD_CLOEXEC, 3)); }

/// Leaves a process behind, which is to end with its worker.
inline int starts_a_process() {
  const pid_t child = ::fork();
  if (child != 0) return child > 0 ? 1 : 0;
  for (;;) ::pause();
}

/// A Preload with something to do in each worker.
struct Reopening {
  void after_fork() { ++reopened; }
  int reopened = 0;
};
using ForkServerWithHook = brood::ForkServerPolicy<Numbers, Reopening>;

/// The same, and does not return.
inline int starts_a_process_and_sleeps() {
  starts_a_process();
  return sleeps();
}

/// Whether a pool must come out of this as if nothing had happened, or typed errors may take the place of values.
enum class Demand { everything, typed_errors };

/// Whether the fault is over before the end of the suite: then the pool must be as fit as before. If it may stay, the
/// suite ends at the first failure.
enum class AfterFault { over, may_stay };

/// One pool's life, in three kinds: run() with a pool as it is by default, run_with_options() with what PoolOptions and
/// TaskOptions can ask for of workers, run_with_all_options() with all that they can, and what recycles workers. Each returns
/// whether everything came out right.
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

  /// `limit_cpus`: with Limits::cpus, which is looked at with sched_getaffinity.
  bool run_with_all_options(bool limit_cpus) {
    const int nice = std::min(own_niceness() + 1, 19);
    cpu_set_t cpus;
    ::sched_getaffinity(0, sizeof cpus, &cpus);
    unsigned cpu = 0;
    while (!CPU_ISSET(cpu, &cpus)) ++cpu;
    brood::PoolOptions options;
    options.workers = 2;
    options.spares = 1;
    options.tasks_per_worker = 4;
    options.memory_per_worker = std::uint64_t{1} << 40;
    options.task_timeout = std::chrono::seconds(60);
    options.start_timeout = start_timeout_;
    options.stop_grace = std::chrono::seconds(2);
    options.idle_timeout = std::chrono::milliseconds(20);
    options.limits = {.cpu_time = std::chrono::seconds(60), .open_files = 256, .core_size = 0, .nice = nice,
                      .oom_score_adj = 100, .no_new_privs = true};
    if (limit_cpus) options.limits.cpus = {cpu};
    if (!has_sanitizer) options.limits.address_space = std::uint64_t{1} << 44;
    options.output = brood::Output::capture;
    options.kill_tree = true;
    options.on_worker_start = &start_hook;
    options.on_worker_stop = &stop_hook;
    options.working_directory = "/";
    options.environment = {"BROOD_SUITE=on", "PATH"};
    options.seed = 7;
    options.name = "suite";
    options.max_pending_bytes = 10'000'000;
    std::atomic<int> logged = 0;
    options.log = [&](brood::LogLevel, std::string_view) { ++logged; };
    brood::Pool<Policy> pool(std::move(options));
    const std::string state = "cpu time limited, files 256, core 0, memory " +
                              std::to_string(has_sanitizer ? ~rlim_t{0} : rlim_t{1} << 44) + ", nice " + std::to_string(nice) +
                              ", cpus " + (limit_cpus || CPU_COUNT(&cpus) == 1 ? "one" : "all") +
                              ", oom 100, privileges 1, folder /, variables on none, hooks 1";
    if (const auto seen = pool.submit(&own_state).outcome(); !seen) failed(seen.failure());
    else if (*seen != state) throw Broken("a worker is not as PoolOptions say, but: " + *seen);
    for (int n = 0; n < 6; ++n) {
      auto future = pool.submit(&prints, n);
      printed(future, n);
    }
    if constexpr (std::is_same_v<Policy, ForkServerWithHook>) {
      value(pool.submit([] { return brood::preloaded<Reopening>().reopened; }).outcome(), 1);
    }
    if constexpr (brood::CopiesHost<Policy>) {
      value(pool.submit([nice] { return nice; }).outcome(), nice);
    }
    std::vector<int> numbers(20);
    std::iota(numbers.begin(), numbers.end(), 0);
    int item = 0;
    for (auto& outcome : pool.try_map(&add_one, numbers, {.timeout = std::chrono::seconds(60), .retries = 1})) value(outcome, ++item);
    value(pool.submit(&doubled, std::string(300'000, 'x')).outcome(), std::string(600'000, 'x'));
    if (const auto copy = pool.submit(&copy_of, brood::Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC))).outcome(); !copy) {
      failed(copy.failure());
    }
    value(pool.submit({.limits = {.cpu_time = std::chrono::seconds(60), .nice = 19}}, &own_niceness).outcome(), 19);
    died(pool.submit({.retries = 1}, &leaves, 4).outcome(),
         [](const brood::ExitStatus& status) { return status.exited() && status.code() == 4; });
    ended(pool.submit({.timeout = std::chrono::milliseconds(20)}, &starts_a_process_and_sleeps).outcome(), brood::FailureKind::timeout);
    {
      auto future = pool.submit(&starts_a_process_and_sleeps);
      while (!future.ready() && pool.stats().running == 0) std::this_thread::yield();
      future.cancel();
      ended(future.outcome(), brood::FailureKind::cancelled);
    }
    const auto idle = [&] {  // the spare worker stays
      const auto stats = pool.stats();
      return stats.workers.size() <= 1;
    };
    if (!eventually(idle)) throw Broken("idle workers do not leave");
    goes_on(pool);
    if (pool.stats().workers_recycled == 0) throw Broken("no worker was replaced, not even after a task with limits");
    if (logged == 0) throw Broken("nothing was logged");
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
