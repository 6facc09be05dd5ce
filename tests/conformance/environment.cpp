// SPDX-License-Identifier: MIT
// Which of the host's surroundings a worker has: those of the host when the pool's server was started, under every
// policy. What the host changes later reaches nobody, until a server has to be started anew; environment and working directory
// not even then (surroundings.cpp).
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

struct Surroundings {
  std::string variable;
  std::string folder;
  unsigned umask = 0;
  std::uint64_t soft_files = 0;
  int cpus = 0;
  int nice = 0;

  friend bool operator==(const Surroundings&, const Surroundings&) = default;

  std::string text() const {
    return variable + " in " + folder + ", umask " + std::to_string(umask) + ", " + std::to_string(soft_files) + " files, " +
           std::to_string(cpus) + " CPUs, nice " + std::to_string(nice);
  }
};

Surroundings look() {
  Surroundings found;
  const char* const variable = std::getenv("BROOD_TEST_STALE");
  found.variable = variable != nullptr ? variable : "(none)";
  found.folder = std::filesystem::current_path().string();
  found.umask = ::umask(0);
  ::umask(found.umask);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  found.soft_files = files.rlim_cur;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  ::sched_getaffinity(0, sizeof cpus, &cpus);
  found.cpus = CPU_COUNT(&cpus);
  found.nice = ::getpriority(PRIO_PROCESS, 0);
  return found;
}

/// Changes all of it. A machine with one CPU keeps its one.
void change() {
  ::setenv("BROOD_TEST_STALE", "later", 1);
  std::filesystem::current_path("/");
  ::umask(077);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_cur > 300 ? 300 : files.rlim_cur - 1;
  ::setrlimit(RLIMIT_NOFILE, &files);
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(::sched_getcpu(), &cpus);
  ::sched_setaffinity(0, sizeof cpus, &cpus);
  ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + 3);
}

int expect(const char* what, const Surroundings& found, const Surroundings& expected) {
  if (found == expected) return 0;
  std::printf("%s: %s\n  instead of %s\n", what, found.text().c_str(), expected.text().c_str());
  return 1;
}

}  // namespace

TEST_CASE_TEMPLATE("workers have the surroundings that the host had when the pool was made", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    ::setenv("BROOD_TEST_STALE", "early", 1);
    std::filesystem::current_path("/tmp");
    ::umask(026);
    const Surroundings early = look();
    brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 2});
    int wrong = 0;
    change();
    const Surroundings late = look();
    for (int n = 0; n < 4; ++n) wrong += expect("a worker", pool.submit(&look).get(), early);  // started now, and replaced
    wrong += expect("the host", look(), late);
    if constexpr (!brood::CopiesHost<Policy>) {
      const pid_t server = pool.stats().server_pid;
      ::kill(server, SIGKILL);
      support::eventually([&] {
        return pool.submit(&look).outcome().has_value() && pool.stats().server_pid != server;
      });
      Surroundings next = late;  // but for what a pool keeps
      next.variable = early.variable;
      next.folder = early.folder;
      wrong += expect("a worker of the next server", pool.submit(&look).get(), next);
    }
    return wrong;
  });
  CHECK_MESSAGE(ran.status.describe() == "exited with code 0", ran.output);
}

TEST_CASE("a closure has the surroundings that the host has at the call") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    brood::Pool<brood::ForkPolicy> pool({.workers = 1});
    change();
    const Surroundings late = look();
    const int captured = 1;
    return expect("a closure", pool.submit([&] {
                                     static_cast<void>(captured);
                                     return look();
                                   }).get(), late);
  });
  CHECK_MESSAGE(ran.status.describe() == "exited with code 0", ran.output);
}

TEST_CASE_TEMPLATE("what a task changes of its surroundings stays in its worker", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Surroundings before = look();
  brood::Pool<Policy> pool({.workers = 1});
  const Surroundings changed = pool.submit([] {
                                     change();
                                     return look();
                                   }).get();
  CHECK_MESSAGE(pool.submit(&look).get() == changed, changed.text());  // it is the task's own worker until it is replaced
  const auto died = pool.submit([] { return ::raise(SIGKILL); }).outcome();
  REQUIRE_FALSE(died);
  const Surroundings next = pool.submit(&look).get();
  CHECK_MESSAGE(next == before, next.text());
  CHECK(look() == before);
}
