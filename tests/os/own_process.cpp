// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <brood/os/own_process.hpp>

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "support/leftovers.hpp"

using namespace brood::detail;

namespace {

/// What the copy answers, -1 when it could not be made.
template <class Ask>
int ask_copy(bool by_libc, Ask ask) {
  const pid_t child = by_libc ? ::fork() : static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
  if (child < 0) return -1;
  if (child == 0) ::_exit(ask());
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("OwnProcess tells a process from its copies, however they are made") {
  const support::Leftovers audit;
  const OwnProcess own;
  CHECK(own.same());
  for (const bool by_libc : {true, false}) {
    CAPTURE(by_libc);
    CHECK(ask_copy(by_libc, [&] { return own.same() ? 1 : 2; }) == 2);
    CHECK(ask_copy(by_libc, [&] { return ask_copy(by_libc, [&] { return own.same() ? 1 : 2; }); }) == 2);
    CHECK(ask_copy(by_libc, [] { return OwnProcess().same() ? 1 : 2; }) == 1);  // one that a copy makes is its own
  }
  CHECK(own.same());
}
