// SPDX-License-Identifier: MIT
// Newer system calls that an old kernel or a container refuses: everything works without them.
//
// clone3 is not in the list: libc makes it and falls back to clone by itself. The same holds for the close_range of
// posix_spawn's closefrom.
#include <doctest/doctest.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "faults/suite.hpp"
#include "support/policies.hpp"

namespace {

using support::FaultAction;
using support::ProcessRole;

constexpr std::array refusable{"pidfd_open", "pidfd_send_signal", "ioctl",   "memfd_create",         "close_range",
                               "execveat",   "waitid",            "madvise", "prctl(PR_SET_NAME)", "unshare",
                               "sched_getaffinity"};
constexpr std::array errors{std::pair{ENOSYS, "ENOSYS"}, std::pair{EPERM, "EPERM"}, std::pair{EINVAL, "EINVAL"}};
constexpr std::array roles{ProcessRole::unknown, ProcessRole::host, ProcessRole::server, ProcessRole::worker};

/// Whether a pool of this policy makes the call at all.
template <class Policy>
bool is_made(const std::string& name) {
  const bool spawns = std::is_same_v<Policy, brood::SpawnPolicy>;
  if (name == "execveat" || name == "close_range") return spawns;
  if (name == "ioctl" || name == "unshare" || name == "sched_getaffinity") return false;  // when something else is missing
  return true;
}

template <class Policy>
void passes(support::Board& board, const std::string& what) {
  const auto verdict =
      support::run_scenario(board, [] { return support::Suite<Policy>(support::Demand::everything).run(); });
  CHECK_MESSAGE(verdict.kind == support::Verdict::Kind::survived, what << ": " << verdict.text);
}

}  // namespace

#define REFUSED_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithPreloads

TEST_CASE_TEMPLATE("a pool works when one newer system call is refused everywhere", Policy, REFUSED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  for (const char* const name : refusable) {
    for (const auto& [error, text] : errors) {
      board.plan({{.action = FaultAction::fail, .value = error, .name = name}});
      passes<Policy>(board, std::string(name) + " is refused with " + text);
      if (is_made<Policy>(name)) CHECK_MESSAGE(board.hits() > 0, std::string(name));
    }
  }
}

TEST_CASE_TEMPLATE("a pool works when all newer system calls are refused, everywhere and in one kind of process", Policy,
                   REFUSED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  for (const ProcessRole role : roles) {
    for (const auto& [error, text] : errors) {
      board.plan({});
      for (const char* const name : refusable) {
        board.add({.action = FaultAction::fail, .value = error, .role = role, .name = name});
      }
      passes<Policy>(board, "all are refused with " + std::string(text) + " in role " +
                                support::role_name(static_cast<unsigned>(role)));
    }
  }
}
