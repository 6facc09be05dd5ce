// SPDX-License-Identifier: MIT
// The sweep: the suite is run to count its system calls, then again with the k-th call failing, killing its process or
// taking its time, for host, server and worker. ctest takes every n-th of these runs; scripts/faults sets
// BROOD_FAULTS_STEP=1 and takes all.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

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

constexpr std::array actions{Named{"EAGAIN", FaultAction::fail, EAGAIN}, Named{"ENOMEM", FaultAction::fail, ENOMEM},
                             Named{"EMFILE", FaultAction::fail, EMFILE}, Named{"EINTR", FaultAction::fail, EINTR},
                             Named{"EPERM", FaultAction::fail, EPERM},   Named{"ENOSYS", FaultAction::fail, ENOSYS},
                             Named{"sleep", FaultAction::sleep, 30},     Named{"kill", FaultAction::kill, 0}};

enum class Scenario { defaults, options };

template <class Policy>
void sweep(ProcessRole role, Scenario which) {
  support::Board board;
  const support::Leftovers audit;
  const auto scenario = [&] {
    support::Suite<Policy> suite(support::Demand::typed_errors);
    return which == Scenario::defaults ? suite.run() : suite.run_with_options();
  };
  // how many calls there are depends on who is faster: each aim must be reached in most runs
  std::uint64_t calls = ~std::uint64_t{0};
  for (int count = 0; count < 3; ++count) {
    board.plan({{.role = role}});
    const auto plain = support::run_scenario(board, scenario);
    REQUIRE_MESSAGE(plain.kind == support::Verdict::Kind::survived, plain.text);
    calls = std::min(calls, board.seen());
  }
  REQUIRE(calls > 10);

  const std::uint64_t step = support::sweep_step();
  const std::uint64_t only = support::setting("BROOD_FAULTS_ONLY", 0);  // one k, to look into a finding
  std::uint64_t runs = 0;
  std::uint64_t missed = 0;
  std::uint64_t survived = 0;
  std::uint64_t typed = 0;
  std::uint64_t broken = 0;
  for (std::uint64_t at = step / 2; at < calls * actions.size(); ++at) {
    const std::uint64_t k = at / actions.size() + 1;
    if (only != 0 ? k != only : at % step != step / 2) continue;
    const Named& action = actions[at % actions.size()];
    board.plan({{.action = action.action, .value = action.value, .role = role, .first = k, .last = k}});
    const auto verdict = support::run_scenario(board, scenario);
    ++runs;
    const bool reached = board.hits() > 0;
    if (verdict.kind == support::Verdict::Kind::broken) {
      ++broken;
      FAIL_CHECK(std::string(support::role_name(static_cast<unsigned>(role)))
                 << " call " << k << " of " << calls << " (" << board.hit() << "): "
                 << std::string(action.name) << ": " << verdict.text);
    } else if (!reached) {
      ++missed;
    } else {
      ++(verdict.kind == support::Verdict::Kind::survived ? survived : typed);
    }
    if (only != 0) std::printf("%s %s: %s\n", board.hit().c_str(), action.name, verdict.text.c_str());
  }
  std::printf("%-30s %-8s %-7s %5" PRIu64 " calls %6" PRIu64 " runs %6" PRIu64 " missed %6" PRIu64
              " as if nothing had happened %6" PRIu64 " typed errors %4" PRIu64 " broken\n",
              std::string(Policy::name).c_str(), which == Scenario::defaults ? "defaults" : "options",
              support::role_name(static_cast<unsigned>(role)), calls, runs, missed, survived, typed, broken);
  std::fflush(stdout);
  const bool aimed_well = missed * 100 <= runs * 15 || (runs < 50 && missed * 4 <= runs);
  CHECK_MESSAGE(aimed_well, missed << " of " << runs << " runs never came to the call that was to be hit");
}

template <class Policy>
void sweep(ProcessRole role) {
  sweep<Policy>(role, Scenario::defaults);
  sweep<Policy>(role, Scenario::options);
}

}  // namespace

TYPE_TO_STRING_AS("ForkServerPolicy<Numbers, Reopening>", support::ForkServerWithHook);

#define SWEPT_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithHook

TEST_CASE_TEMPLATE("sweep: a system call of the host fails", Policy, SWEPT_POLICIES) { sweep<Policy>(ProcessRole::host); }
TEST_CASE_TEMPLATE("sweep: a system call of the server fails", Policy, SWEPT_POLICIES) { sweep<Policy>(ProcessRole::server); }
TEST_CASE_TEMPLATE("sweep: a system call of a worker fails", Policy, SWEPT_POLICIES) { sweep<Policy>(ProcessRole::worker); }
