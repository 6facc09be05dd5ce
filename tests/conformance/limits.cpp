// SPDX-License-Identifier: MIT
// PoolOptions::limits and TaskOptions::limits: what a task sees of them, what happens at them, and what can't be taken on.
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>
#include <set>
#include <stdexcept>
#include <fstream>
#include <string>
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

using namespace std::chrono_literals;

namespace {

/// What a process has of each kind of limit.
struct Seen {
  std::uint64_t address_space = 0;
  std::uint64_t cpu_time = 0;
  std::uint64_t cpu_time_hard = 0;
  std::uint64_t open_files = 0;
  std::uint64_t core_size = 0;
  int nice = 0;
  std::vector<unsigned> cpus;
  int oom_score_adj = 0;
  bool no_new_privs = false;
  pid_t pid = 0;

  friend bool operator==(const Seen&, const Seen&) = default;
};

template <class Resource>
rlimit limit_of(Resource resource) {
  rlimit limit{};
  ::getrlimit(resource, &limit);
  return limit;
}

Seen look() {
  Seen seen;
  seen.address_space = limit_of(RLIMIT_AS).rlim_cur;
  seen.cpu_time = limit_of(RLIMIT_CPU).rlim_cur;
  seen.cpu_time_hard = limit_of(RLIMIT_CPU).rlim_max;
  seen.open_files = limit_of(RLIMIT_NOFILE).rlim_cur;
  seen.core_size = limit_of(RLIMIT_CORE).rlim_cur;
  seen.nice = ::getpriority(PRIO_PROCESS, 0);
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof set, &set);
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) seen.cpus.push_back(cpu);
  }
  seen.oom_score_adj = std::atoi(support::read_text("/proc/self/oom_score_adj").c_str());
  seen.no_new_privs = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
  seen.pid = ::getpid();
  return seen;
}

constexpr std::uint64_t large = std::uint64_t{1} << 32;

/// Every member, but for the address space under a sanitizer, which has reserved more of it than there is anywhere.
brood::Limits all_limits() {
  brood::Limits limits;
  if (!support::has_sanitizer) limits.address_space = large;
  limits.cpu_time = 500s;
  limits.open_files = 77;
  limits.core_size = 0;
  limits.nice = 7;
  limits.cpus = {look().cpus.back()};
  limits.oom_score_adj = 321;
  limits.no_new_privs = true;
  return limits;
}

void check_taken_on(const Seen& seen, const brood::Limits& limits) {
  if (limits.address_space) CHECK(seen.address_space == *limits.address_space);
  // the worker's start may have taken some CPU time, under SpawnPolicy and a sanitizer
  CHECK(seen.cpu_time > 500);
  CHECK(seen.cpu_time < 510);
  CHECK(seen.cpu_time_hard == seen.cpu_time + 1);
  CHECK(seen.open_files == 77);
  CHECK(seen.core_size == 0);
  CHECK(seen.nice == 7);
  CHECK(seen.cpus == limits.cpus);
  CHECK(seen.oom_score_adj == 321);
  CHECK(seen.no_new_privs);
}

void burn() {
  for (std::atomic<std::uint64_t> turns{0};;) ++turns;
}

int burn_ignoring_the_signal(int n) {
  ::signal(SIGXCPU, SIG_IGN);
  if (n != 0) burn();
  return n;
}

/// Allocates until there is no more, and leaks it: telling of it must work all the same.
std::uint64_t allocate_everything() {
  std::uint64_t sum = 0;
  for (std::size_t size = std::size_t{1} << 28; size >= 16; size /= 2) {
    for (;;) {
      void* const more = std::malloc(size);
      if (more == nullptr) break;
      sum += reinterpret_cast<std::uintptr_t>(more) & 1;
    }
  }
  return sum + std::vector<char>(std::size_t{1} << 20).size();
}

int open_until_refused() {
  int count = 0;
  while (::open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) ++count;
  return errno == EMFILE ? count : -1;
}

int add_one(int n) { return n + 1; }

/// Runs `body` in a child that has no privileges.
support::Ran run_as_nobody(const std::function<int()>& body) {
  return support::run_in_child([&] {
    const passwd* const nobody = ::getpwnam("nobody");
    if (::getuid() == 0 && (nobody == nullptr || ::setgid(nobody->pw_gid) != 0 || ::setuid(nobody->pw_uid) != 0)) return 98;
    ::prctl(PR_SET_DUMPABLE, 1);  // else /proc/self is still root's
    return body();
  });
}

}  // namespace

TEST_CASE_TEMPLATE("PoolOptions::limits: every worker has them", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Seen before = look();
  const brood::Limits limits = all_limits();
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 2, .limits = limits});
  for (int n = 0; n < 5; ++n) check_taken_on(pool.submit(&look).get(), limits);
  CHECK(look() == before);
}

TEST_CASE_TEMPLATE("PoolOptions::limits are there before the start hook", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  static int seen_by_hook = 0;
  brood::PoolOptions options{.workers = 1};
  options.limits.nice = 9;
  options.on_worker_start = [] { seen_by_hook = ::getpriority(PRIO_PROCESS, 0); };
  brood::Pool<Policy> pool(options);
  CHECK(pool.submit([] { return seen_by_hook; }).get() == 9);
}

TEST_CASE_TEMPLATE("TaskOptions::limits: one task has them, no other", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const Seen plain = pool.submit(&look).get();
  const brood::Limits limits = all_limits();
  std::vector<brood::Future<Seen>> limited;
  std::vector<brood::Future<Seen>> others;
  for (int n = 0; n < 8; ++n) {
    limited.push_back(pool.submit({.limits = limits}, &look));
    others.push_back(pool.submit(&look));
    others.push_back(pool.submit(&look));
  }
  std::set<pid_t> pids;
  for (auto& each : limited) {
    const Seen seen = each.get();
    check_taken_on(seen, limits);
    CHECK(pids.insert(seen.pid).second);  // a worker ends with such a task
  }
  for (auto& each : others) {
    Seen seen = each.get();
    seen.pid = plain.pid;
    CHECK(seen == plain);
  }
  pool.wait();
  CHECK(pool.stats().workers_died == 0);
  CHECK(pool.stats().done == 25);
}

TEST_CASE_TEMPLATE("TaskOptions::limits: short tasks before and behind are not held up or lost", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 50});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 300; ++n) {
    brood::TaskOptions options;
    if (n % 60 == 30) options.limits.nice = 5;
    futures.push_back(pool.submit(options, &add_one, n));
  }
  for (int n = 0; n < 300; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == n + 1);
}

TEST_CASE_TEMPLATE("TaskOptions::limits: a task that is cancelled before it starts strands nothing", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  auto busy = pool.submit(&support::wait_for_gate, gate.path(), 1);
  CHECK(support::wait_until_running(pool, 1));
  brood::TaskOptions options;
  options.limits.nice = 3;
  auto cancelled = pool.submit(options, &add_one, 1);
  auto behind = pool.submit(&add_one, 2);
  CHECK(cancelled.cancel());
  gate.open();
  CHECK(busy.get() == 1);
  CHECK(behind.get() == 3);
}

TEST_CASE("TaskOptions::limits: closures take them, too") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  const int more = 1;
  brood::TaskOptions options;
  options.limits.nice = 4;
  CHECK(pool.submit(options, [&] { return ::getpriority(PRIO_PROCESS, 0) + more; }).get() == 5);
}

TEST_CASE("InlinePolicy takes no limits on") {
  const support::Leftovers audit;
  const Seen before = look();
  brood::PoolOptions options;
  options.limits = all_limits();
  brood::Pool<brood::InlinePolicy> pool(options);
  CHECK(pool.submit({.limits = all_limits()}, &look).get() == before);
}

/// A task that was ended by its CPU time limit of a second, and one behind it that was not.
template <class Result>
void check_cpu_limit(brood::Future<Result>& late, brood::Future<int>& behind, int signal) {
  const brood::Outcome<Result> outcome = late.outcome();
  REQUIRE(!outcome);
  CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
  CHECK(outcome.failure().signal() == signal);
  const std::string wanted = "because the CPU time limit was reached (Limits::cpu_time, 1 s)";
  CHECK_MESSAGE(outcome.failure().message().find(wanted) != std::string::npos, outcome.failure().message());
  CHECK(behind.get() == 3);
}

TEST_CASE("Limits::cpu_time ends the worker, also one that ignores the signal, and says so") {
  const support::Leftovers audit;
  brood::PoolOptions options{.workers = 1};
  options.limits.cpu_time = 1s;
  brood::TaskOptions task;
  task.limits.cpu_time = 1s;
  // side by side: each takes seconds
  brood::Pool<brood::SpawnPolicy> of_pool(options);
  brood::Pool<support::ForkServer> ignored({.workers = 1});
  CHECK(of_pool.submit(&add_one, 1).get() == 2);
  CHECK(ignored.submit(task, &burn_ignoring_the_signal, 0).get() == 0);
  auto first = of_pool.submit(&burn);
  auto second = ignored.submit(task, &burn_ignoring_the_signal, 1);
  auto behind_first = of_pool.submit(&add_one, 2);
  auto behind_second = ignored.submit(&add_one, 2);
  check_cpu_limit(first, behind_first, SIGXCPU);
  check_cpu_limit(second, behind_second, SIGKILL);
}

TEST_CASE("Limits::cpu_time is not blamed for other deaths") {
  const support::Leftovers audit;
  brood::Pool<support::ForkServer> pool({.workers = 1});
  brood::TaskOptions options;
  options.limits.cpu_time = 1s;
  const auto killed = pool.submit(options, [] { ::raise(SIGKILL); }).outcome();
  REQUIRE(!killed);
  CHECK(killed.failure().signal() == SIGKILL);
  CHECK(killed.failure().message().find("Limits::cpu_time") == std::string::npos);
  const auto raised = pool.submit([] { ::raise(SIGXCPU); }).outcome();  // without a limit
  REQUIRE(!raised);
  CHECK(raised.failure().signal() == SIGXCPU);
  CHECK(raised.failure().message().find("Limits::cpu_time") == std::string::npos);
}

TEST_CASE_TEMPLATE("Limits::address_space: more is a std::bad_alloc", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  if (support::has_sanitizer) {
    MESSAGE("skipped: AddressSanitizer reserves more address space than any limit allows");
    return;
  }
  const auto allocate = [](std::size_t bytes) { return std::vector<char>(bytes).size(); };
  brood::PoolOptions options{.workers = 1};
  brood::TaskOptions task;
  SUBCASE("of the pool") { options.limits.address_space = large; }
  SUBCASE("of a task") { task.limits.address_space = large; }
  brood::Pool<Policy> pool(options);
  CHECK(pool.submit(task, allocate, 1000).get() == 1000);
  CHECK_THROWS_AS(static_cast<void>(pool.submit(task, allocate, 2 * large).get()), std::bad_alloc);
  CHECK_THROWS_AS(static_cast<void>(pool.submit(task, &allocate_everything).get()), std::bad_alloc);
  CHECK(pool.submit(task, allocate, 1000).get() == 1000);
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE_TEMPLATE("arguments that a worker has no memory for are a std::bad_alloc of their task alone", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  if (support::has_sanitizer) {
    MESSAGE("skipped: AddressSanitizer reserves more address space than any limit allows");
    return;
  }
  brood::PoolOptions options{.workers = 1};
  constexpr auto margin = std::uint64_t{96} << 20;  // a worker may have reserved 64 MiB more than another
  const auto own_size = [] {
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  };
  options.limits.address_space = brood::Pool<Policy>(options).submit(own_size).get() + margin;
  brood::Pool<Policy> pool(options);
  const auto count = [](const std::vector<std::string>& it) { return it.size(); };
  const std::vector<std::string> much(140'000, std::string(1'500, 'x'));  // in pieces: it goes through the pipe
  auto first = pool.submit(count, much);
  std::vector<brood::Future<int>> others;
  for (int n = 0; n < 20; ++n) others.push_back(pool.submit(&add_one, n));
  CHECK_THROWS_AS(static_cast<void>(first.get()), std::bad_alloc);
  for (int n = 0; n < 20; ++n) CHECK(others[static_cast<std::size_t>(n)].get() == n + 1);
  std::vector<std::vector<std::string>> items(5);
  items[3] = much;
  const auto outcomes = pool.try_map(count, items, {.chunk_size = 1});
  for (std::size_t n = 0; n < items.size(); ++n) CHECK(outcomes[n].has_value() == (n != 3));
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE_TEMPLATE("Limits::open_files: no descriptor beyond it", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::PoolOptions options{.workers = 1};
  options.limits.open_files = 40;
  brood::Pool<Policy> pool(options);
  const int opened = pool.submit(&open_until_refused).get();
  CHECK(opened > 20);
  CHECK(opened < 40);
  CHECK(pool.submit(&add_one, 1).get() == 2);  // with no descriptor left
}

TEST_CASE_TEMPLATE("Limits that make no sense are refused where they are given", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto refused = [&](const brood::Limits& limits, const char* member) {
    CAPTURE(member);
    CHECK_THROWS_WITH_AS(brood::Pool<Policy>({.workers = 1, .limits = limits}), doctest::Contains(member),
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(pool.submit({.limits = limits}, &add_one, 1), doctest::Contains(member), std::invalid_argument);
  };
  refused({.nice = 20}, "Limits::nice");
  refused({.nice = -21}, "Limits::nice");
  refused({.oom_score_adj = 1001}, "Limits::oom_score_adj");
  refused({.oom_score_adj = -1001}, "Limits::oom_score_adj");
  refused({.cpu_time = 0s}, "Limits::cpu_time");
  refused({.cpu_time = -1s}, "Limits::cpu_time");
  refused({.cpus = {0, 100'000}}, "Limits::cpus");
  refused({.cpus = {~0U}}, "Limits::cpus");
  CHECK_THROWS_WITH_AS(brood::Pool<Policy>({.task_timeout = -1ms}), doctest::Contains("PoolOptions::task_timeout"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(brood::Pool<Policy>({.start_timeout = -1ms}), doctest::Contains("PoolOptions::start_timeout"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(brood::Pool<Policy>({.stop_grace = -1ms}), doctest::Contains("PoolOptions::stop_grace"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(pool.submit({.timeout = -1ms}, &add_one, 1), doctest::Contains("TaskOptions::timeout"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(pool.map(&add_one, std::vector{1}, {.timeout = -1ms}), doctest::Contains("MapOptions::timeout"),
                       std::invalid_argument);
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("a limit that can't be taken on says which, and why", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  struct Case {
    brood::Limits limits;
    std::string text;
    std::string stage;
    int error;
  };
  const unsigned own_cpu = look().cpus.front();
  const std::uint64_t too_many = limit_of(RLIMIT_NOFILE).rlim_max + 1;
  std::vector<Case> cases{
      {{.nice = -20}, "Limits::nice = -20: setpriority: Permission denied", "setpriority", EACCES},
      {{.oom_score_adj = -1000},
       "Limits::oom_score_adj = -1000: write(/proc/self/oom_score_adj): Permission denied",
       "write",
       EACCES},
      {{.open_files = too_many}, "Limits::open_files = " + std::to_string(too_many), "setrlimit", EPERM},
  };
  if (!support::has_sanitizer) {
    cases.push_back({{.address_space = 4096}, "Limits::address_space = 4096: the worker has ", "setrlimit", ENOMEM});
  }
  const auto ran = run_as_nobody([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(own_cpu, &one);
    int wrong = 0;
    const auto check = [&](brood::Pool<Policy>& pool, const brood::TaskOptions& options, const Case& each, const char* where) {
      const auto outcome = pool.submit(options, &add_one, 1).outcome();
      if (outcome || outcome.failure().kind() != brood::FailureKind::launch) {
        std::printf("%s: %s did not fail\n", where, each.text.c_str());
        ++wrong;
        return;
      }
      try {
        outcome.failure().raise();
      } catch (const brood::LaunchError& error) {
        const bool told = std::string(error.what()).find("could not take on " + each.text) != std::string::npos;
        if (told && error.stage() == each.stage && error.error() == each.error) return;
        std::printf("%s: %s; stage %s, error %d\n", where, error.what(), error.stage().c_str(), error.error());
        ++wrong;
      }
    };
    for (const Case& each : cases) {
      brood::PoolOptions options{.workers = 1};
      options.limits = each.limits;
      brood::Pool<Policy> pool(options);
      check(pool, {}, each, "the pool");
    }
    brood::Pool<Policy> pool({.workers = 1});
    for (const Case& each : cases) {
      check(pool, {.limits = each.limits}, each, "a task");
      if (pool.submit(&add_one, 1).get() != 2) ++wrong;  // nothing else fails
    }
    if (pool.stats().workers_died != 0) ++wrong;
    return wrong;
  });
  CHECK_MESSAGE(ran.status.exited(), ran.output);
  CHECK_MESSAGE(ran.status.code() == 0, ran.output);
}
