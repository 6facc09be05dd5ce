// SPDX-License-Identifier: MIT
// The sweep: the suite is run once to count its system calls, then again with the k-th call failing, killing its process
// or taking its time, for host, server and worker. ctest takes every n-th of these runs; scripts/faults sets
// BROOD_FAULTS_STEP=1 and takes all.
#include <doctest/doctest.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "faults/suite.hpp"
#include "support/policies.hpp"

namespace {

using support::FaultAction;
using support::ProcessRole;

struct Named {
  const char* name;
  FaultAction action;
  int value;
};

std::vector<Named> actions_for(ProcessRole role) {
  std::vector<Named> actions{{"EAGAIN", FaultAction::fail, EAGAIN}, {"ENOMEM", FaultAction::fail, ENOMEM},
                             {"EMFILE", FaultAction::fail, EMFILE}, {"EINTR", FaultAction::fail, EINTR},
                             {"EPERM", FaultAction::fail, EPERM},   {"ENOSYS", FaultAction::fail, ENOSYS},
                             {"sleep", FaultAction::sleep, 30}};
  if (role != ProcessRole::host) actions.push_back({"kill", FaultAction::kill, 0});
  return actions;
}

template <class Policy>
void sweep(ProcessRole role) {
  support::Board board;
  const support::Leftovers audit;
  const auto scenario = [] { return support::Suite<Policy>(support::Demand::typed_errors).run(); };
  board.plan({{.role = role}});
  const auto plain = support::run_scenario(board, scenario);
  REQUIRE_MESSAGE(plain.kind == support::Verdict::Kind::survived, plain.text);
  const std::uint64_t calls = board.seen();
  REQUIRE(calls > 10);

  const std::uint64_t step = support::sweep_step();
  const std::uint64_t only = support::setting("BROOD_FAULTS_ONLY", 0);  // one k, to look into a finding
  const std::vector<Named> actions = actions_for(role);
  std::uint64_t runs = 0;
  std::uint64_t survived = 0;
  std::uint64_t broken = 0;
  for (std::uint64_t at = 0; at < calls * actions.size(); ++at) {
    const std::uint64_t k = at / actions.size() + 1;
    if (only != 0 ? k != only : at % step != 0) continue;
    const Named& action = actions[at % actions.size()];
    board.plan({{.action = action.action, .value = action.value, .role = role, .first = k, .last = k}});
    const auto verdict = support::run_scenario(board, scenario);
    ++runs;
    survived += verdict.kind == support::Verdict::Kind::survived ? 1U : 0U;
    if (verdict.kind == support::Verdict::Kind::broken) {
      ++broken;
      FAIL_CHECK(std::string(support::role_name(static_cast<unsigned>(role)))
                 << " call " << k << " of " << calls << " (" << board.hit() << "): "
                 << std::string(action.name) << ": " << verdict.text);
    }
    if (only != 0) std::printf("%s %s: %s\n", board.hit().c_str(), action.name, verdict.text.c_str());
  }
  std::printf("%-30s %-7s %5" PRIu64 " calls %6" PRIu64 " runs %6" PRIu64 " as if nothing had happened %6" PRIu64
              " typed errors %4" PRIu64 " broken\n",
              std::string(Policy::name).c_str(), support::role_name(static_cast<unsigned>(role)), calls, runs, survived,
              runs - survived - broken, broken);
  std::fflush(stdout);
}

}  // namespace

#define SWEPT_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithPreloads

TEST_CASE_TEMPLATE("sweep: a system call of the host fails", Policy, SWEPT_POLICIES) { sweep<Policy>(ProcessRole::host); }
TEST_CASE_TEMPLATE("sweep: a system call of the server fails", Policy, SWEPT_POLICIES) { sweep<Policy>(ProcessRole::server); }
TEST_CASE_TEMPLATE("sweep: a system call of a worker fails", Policy, SWEPT_POLICIES) { sweep<Policy>(ProcessRole::worker); }
