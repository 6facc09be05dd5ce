// SPDX-License-Identifier: MIT
// An audit that sees nothing and a watchdog that never barks are worth nothing: cases that leave something and one that
// hangs, each run by itself in this program.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/program.hpp"
#include "support/rounds.hpp"
#include "support/watchdog.hpp"

namespace {

constexpr const char* orphan_name = "brood-orphan";

/// A process of init's, which leads a session of its own.
void leave_orphan() {
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_NAME, orphan_name);
    ::setsid();
    if (::fork() != 0) ::_exit(0);
    ::close(STDOUT_FILENO);
    ::close(STDERR_FILENO);
    for (;;) ::pause();
  }
  ::waitpid(child, nullptr, 0);
}

/// Runs one of the cases below as ctest would; with a variable in its environment.
support::Ran run_case(const std::string& name, const char* variable = nullptr, const char* value = "") {
  return support::run_in_child([&]() -> int {
    ::unsetenv(support::Watchdog::run_variable);
    if (variable != nullptr) ::setenv(variable, value, 1);
    support::exec({support::own_path(), "--no-skip", "--test-case=" + name});
  });
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

int never_ends() {
  for (;;) ::pause();
}

}  // namespace

TEST_CASE("hangs" * doctest::skip()) {
  brood::Pool<support::ForkServer> pool({.workers = 1, .name = "hung"});
  pool.submit(&never_ends).wait();
}
TEST_CASE("hangs in its own code" * doctest::skip()) {
  ::signal(SIGABRT, SIG_IGN);
  never_ends();
}
TEST_CASE("leaves an orphan" * doctest::skip()) { leave_orphan(); }
TEST_CASE("leaves an orphan behind its audit" * doctest::skip()) {
  const support::Leftovers audit;
  leave_orphan();
}
TEST_CASE("leaves a descriptor" * doctest::skip()) { CHECK(::open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0); }
TEST_CASE("leaves a zombie" * doctest::skip()) {
  if (::fork() == 0) ::_exit(0);
}
TEST_CASE("leaves a variable" * doctest::skip()) { CHECK(::setenv("BROOD_TEST_LEFT", "1", 1) == 0); }
TEST_CASE("leaves a limit" * doctest::skip()) {
  rlimit limit{};
  CHECK(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  --limit.rlim_cur;
  CHECK(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
}
TEST_CASE("leaves a subreaper" * doctest::skip()) { CHECK(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); }
TEST_CASE("comes back as a child" * doctest::skip()) {
  const int before = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const pid_t child = ::fork();
  if (child == 0) return;  // with a descriptor more: that is the host's
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  ::close(before);
}
TEST_CASE("goes round" * doctest::skip()) {
  int seen = 0;
  for (const int round : support::rounds(2, 5)) CHECK(round == seen++);
  CHECK(support::run_in_child([] {
          for (const int round : support::rounds(1, 4)) static_cast<void>(round);
          return 0;
        }).status.code() == 0);
}
TEST_CASE("leaves nothing" * doctest::skip()) { CHECK(brood::async<brood::SpawnPolicy>([] { return 1; }).get() == 1); }

TEST_CASE("the watchdog ends a case that hangs, and says who waits for whom") {
  const support::Leftovers audit;
  const support::Ran ran = run_case("hangs", support::Watchdog::case_variable, "2");
  CAPTURE(ran.output);
  CHECK(ran.status.signaled());
  CHECK(ran.status.signal() == SIGABRT);
  CHECK(contains(ran.output, "WATCHDOG: the case has not ended after"));
  CHECK(contains(ran.output, "It is in \"hangs\" ("));
  CHECK(contains(ran.output, "self_test.cpp:"));
  CHECK(contains(ran.output, "\n  thread "));
  CHECK(contains(ran.output, "\n  process, child of "));
  CHECK(contains(ran.output, " (hung-0): state S, in "));
  CHECK(contains(ran.output, ", system call "));
}

TEST_CASE("rounds are few but at full size, and counted there, those of children too") {
  const support::Leftovers audit;
  const support::Ran full = run_case("goes round", support::full_variable, "1");
  CHECK_MESSAGE(full.status.code() == 0, full.output);
  CHECK_MESSAGE(contains(full.output, "rounds: 9\n"), full.output);
  const support::Ran few = run_case("goes round");
  CHECK_MESSAGE(few.status.code() == 0, few.output);
  CHECK_FALSE(contains(few.output, "rounds: "));
}

TEST_CASE("the watchdog has a bound for the whole run, and kills what does not abort") {
  const support::Leftovers audit;
  const support::Ran ran = run_case("hangs in its own code", support::Watchdog::run_variable, "2");
  CAPTURE(ran.output);
  CHECK(ran.status.signaled());
  CHECK(ran.status.signal() == SIGKILL);
  CHECK(contains(ran.output, "WATCHDOG: the run has not ended after"));
}

TEST_CASE("what a case leaves fails its run, with an audit of its own and without") {
  const support::Leftovers audit;
  struct Left {
    const char* name;
    const char* text;
    bool audited = false;
  };
  for (const Left& each :
       {Left{"leaves an orphan", "came: process "}, Left{"leaves an orphan behind its audit", "came: process ", true},
        Left{"leaves a descriptor", "came: descriptor "}, Left{"leaves a zombie", "came: zombie "},
        Left{"leaves a variable", "came: environment BROOD_TEST_LEFT=1"}, Left{"leaves a limit", "came: limit "},
        Left{"leaves a subreaper", "came: subreaper flag"}}) {
    const support::Ran ran = run_case(each.name);
    CAPTURE(each.name);
    CAPTURE(ran.output);
    CHECK(ran.status.exited());
    CHECK(ran.status.code() == 1);
    CHECK(contains(ran.output, each.text));
    CHECK(contains(ran.output, "the host is not as it was"));
    CHECK(contains(ran.output, "LEFTOVERS of ") == !each.audited);  // said once
    for (const auto& process : support::processes_of(::getpid())) {
      if (process.name == orphan_name) ::kill(process.pid, SIGKILL);
    }
  }
}

TEST_CASE("a case that leaves nothing passes, also when a child comes back from it") {
  const support::Leftovers audit;
  for (const char* const name : {"leaves nothing", "comes back as a child"}) {
    const support::Ran ran = run_case(name);
    CAPTURE(ran.output);
    CHECK(ran.status.exited());
    CHECK(ran.status.code() == 0);
    CHECK_FALSE(contains(ran.output, "LEFTOVERS"));
  }
}

TEST_CASE("the watchdog is no child of the host, no thread of it, and in no group of it") {
  const support::Leftovers audit;
  std::size_t watchdogs = 0;
  for (const auto& each : support::all_processes()) {
    if (each.name != support::watchdog_name || !support::is_marked(each.pid)) continue;
    ++watchdogs;
    CHECK(each.parent != ::getpid());
    CHECK(each.group != ::getpgrp());
  }
  CHECK(watchdogs == 1);
  if (!support::has_thread_sanitizer) CHECK(support::numbers_in("/proc/self/task").size() == 1);
}
