// SPDX-License-Identifier: MIT
// Moments that are too short to be met by chance: the seam holds them open.
#include <doctest/doctest.h>

#include <string>

#include "faults/suite.hpp"
#include "support/policies.hpp"

using support::FaultAction;
using support::ProcessRole;

#define MOMENT_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithPreloads

TEST_CASE_TEMPLATE("kill() between the first and the last byte of a result", Policy, MOMENT_POLICIES) {
  for (int round = 0; round < 5; ++round) {
    support::Board board;
    const support::Leftovers audit;
    brood::Pool<Policy> pool({.workers = 1});
    // nobody reads before kill() does; the signal comes late enough for the worker to write the rest
    board.plan({{.action = FaultAction::fail, .value = EAGAIN, .role = ProcessRole::host, .name = "pthread_create"},
                {.action = FaultAction::sleep, .value = 100, .role = ProcessRole::host, .name = "pidfd_send_signal"},
                {.role = ProcessRole::worker, .name = "write"}});
    auto future = pool.submit(&support::doubled, std::string(50'000, 'x'));
    REQUIRE(support::eventually([&] {  // hello, and the result that does not fit into the pipe
      if (board.seen(2) < 2) static_cast<void>(pool.stats());  // hears of a server or a worker that comes up
      return board.seen(2) >= 2;
    }));
    ::usleep(5'000);  // until it is in the pipe; should that take longer, this round shows nothing
    pool.kill();
    const auto outcome = future.outcome();
    if (outcome) {
      CHECK(*outcome == support::doubled(std::string(50'000, 'x')));
    } else {
      CHECK_MESSAGE(outcome.failure().kind() == brood::FailureKind::cancelled, outcome.failure().message());
    }
  }
}
