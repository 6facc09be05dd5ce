// SPDX-License-Identifier: MIT
// A server that is stopped (SIGSTOP) and never goes on: every task resolves, and the pool goes on with a new server.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "faults/suite.hpp"
#include "support/policies.hpp"

namespace {

using support::FaultAction;
using support::ProcessRole;

/// The suite with a server that stops in front of some call.
template <class Policy>
support::Verdict stopped_at(support::Board& board, const std::string& name, std::uint64_t k) {
  board.plan({{.action = FaultAction::stop, .role = ProcessRole::server, .name = name, .first = k, .last = k}});
  return support::run_scenario(board, [] {
    return support::Suite<Policy>(support::Demand::typed_errors, support::AfterFault::over, support::short_start_timeout).run();
  });
}

}  // namespace

#define STOPPED_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithPreloads

TEST_CASE_TEMPLATE("a server that stops between two steps of its work", Policy, STOPPED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  std::vector<std::pair<std::string, std::uint64_t>> moments{
      {"wait4", 1},  // between a worker's death and its report
      {"poll", 2},   // while it is idle
  };
  if (brood::CopiesHost<Policy>) {
    moments.emplace_back("pidfd_open", 2);  // between a fork and `started`, with the ends of the worker's pipes still open
  } else {
    moments.emplace_back("sendmsg", 4);  // in front of an answer
  }
  if (support::sweep_step() == 1) {
    moments.clear();
    // also in front of a fork, and between hearing and answering
    for (const char* const name : {"fork", "pidfd_open", "waitid", "wait4", "poll", "recvmsg", "sendmsg"}) {
      for (std::uint64_t k = 1; k <= 6; ++k) moments.emplace_back(name, k);
    }
  }
  for (const auto& [name, k] : moments) {
    const auto verdict = stopped_at<Policy>(board, name, k);
    CHECK_MESSAGE(verdict.kind != support::Verdict::Kind::broken, name << " number " << k << ": " << verdict.text);
  }
}

TEST_CASE("a server that is stopped while workers run leaves their results alone") {
  support::Board board;
  const support::Leftovers audit;
  board.plan({});
  brood::Pool<brood::SpawnPolicy> pool({.workers = 2});
  CHECK(pool.map(&support::add_one, std::vector{1, 2, 3, 4}) == std::vector{2, 3, 4, 5});
  const pid_t server = pool.stats().server_pid;
  REQUIRE(::kill(server, SIGSTOP) == 0);
  for (int n = 0; n < 20; ++n) CHECK(pool.submit(&support::add_one, n).get() == n + 1);
}
