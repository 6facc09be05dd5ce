// SPDX-License-Identifier: MIT
// The seam itself: a plan reaches the process, the call and the count that it names, and no other.
#include <doctest/doctest.h>

#include <brood/brood.hpp>
#include <brood/os/process.hpp>

#include "faults/board.hpp"
#include "support/child.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

int add_one(int x) { return x + 1; }

int fails_with(const char* name) {
  errno = 0;
  const int result = brood::detail::tried(name, [] { return 7; });
  return result == 7 ? 0 : errno;
}

}  // namespace

TEST_CASE("fail: the k-th call of a name returns -1 with that errno, the others are made") {
  support::Board board;
  const support::Leftovers audit;
  board.plan({{.action = support::FaultAction::fail, .value = ENOMEM, .name = "pick", .first = 2, .last = 3}});
  CHECK(fails_with("pick") == 0);
  CHECK(fails_with("other") == 0);
  CHECK(fails_with("pick") == ENOMEM);
  CHECK(fails_with("pick(part)") == ENOMEM);
  CHECK(fails_with("picks") == 0);
  CHECK(fails_with("pick") == 0);
  CHECK(board.seen() == 4);
  CHECK(board.hits() == 2);
  CHECK(board.hit() == "pick(part)");
  board.lift();
  CHECK(fails_with("pick") == 0);
}

TEST_CASE("fail: close gives its descriptor back all the same; an interrupted call is made again") {
  support::Board board;
  const support::Leftovers audit;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  board.plan({{.action = support::FaultAction::fail, .value = EINTR, .last = 1},
              {.action = support::FaultAction::fail, .value = EIO, .name = "close"}});
  CHECK(brood::detail::retried("made", [] { return 7; }) == 7);
  CHECK(board.seen() == 2);
  brood::detail::close_descriptor(ends[0]);
  brood::detail::close_descriptor(ends[1]);
  CHECK(::fcntl(ends[0], F_GETFD) == -1);
}

TEST_CASE("kill, stop: in front of the call, in a process of that role") {
  support::Board board;
  const support::Leftovers audit;
  for (const auto action : {support::FaultAction::kill, support::FaultAction::stop}) {
    board.plan({{.action = action, .role = support::ProcessRole::server, .name = "made", .first = 2, .last = 2}});
    CHECK(fails_with("made") == 0);  // a host
    const pid_t child = ::fork();
    if (child == 0) {
      brood::detail::take_role(support::ProcessRole::server);
      fails_with("made");
      fails_with("made");
      ::_exit(3);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, WUNTRACED) == child);
    if (action == support::FaultAction::kill) {
      CHECK(WIFSIGNALED(status));
      continue;
    }
    REQUIRE(WIFSTOPPED(status));
    CHECK(board.who_waits().find("server " + std::to_string(child) + " (state T) was last in made") != std::string::npos);
    ::kill(child, SIGCONT);
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) == 3);
  }
}

TEST_CASE_TEMPLATE("host, server and worker pass the seam, each by its own role", Policy, WORKER_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  board.plan({{.role = support::ProcessRole::host},
              {.role = support::ProcessRole::server},
              {.role = support::ProcessRole::worker},
              {.role = support::ProcessRole::server, .name = "fork"},
              {.role = support::ProcessRole::worker, .name = "fork"}});
  {
    brood::Pool<Policy> pool({.workers = 2});
    CHECK(pool.submit(&add_one, 1).get() == 2);
    CHECK(pool.submit(&add_one, 2).get() == 3);
  }
  for (std::size_t role = 0; role < 3; ++role) CHECK(board.seen(role) > 5);
  CHECK(board.seen(3) >= 1);
  CHECK(board.seen(4) == 0);
}

TEST_CASE_TEMPLATE("a task that starts this program again gets one without a role", Policy, WORKER_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  board.plan({});
  brood::Pool<Policy> pool({.workers = 1});
  const int code = pool.submit([] {
                         return support::run_program({"/proc/self/exe", "--count", "--test-case=none"}).status.code();
                       }).get();
  CHECK(code == 0);
}
