// SPDX-License-Identifier: MIT
// Newer system calls that an old kernel or a container refuses: everything works without them.
// For clone3 libc falls back to clone by itself, but only for ENOSYS.
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "faults/suite.hpp"
#include "support/clone3.hpp"
#include "support/policies.hpp"

namespace {

using support::FaultAction;
using support::ProcessRole;

constexpr std::array refusable{"pidfd_open", "pidfd_send_signal", "ioctl",   "memfd_create",         "close_range",
                               "execveat",   "waitid",            "madvise", "prctl(PR_SET_NAME)", "unshare",
                               "sched_getaffinity", "posix_spawn", "process_vm_readv", "futex", "pidfd_getfd"};
constexpr std::array errors{std::pair{ENOSYS, "ENOSYS"}, std::pair{EPERM, "EPERM"}, std::pair{EINVAL, "EINVAL"}};
constexpr std::array refusals{errors[0], errors[1]};
constexpr std::array roles{ProcessRole::unknown, ProcessRole::host, ProcessRole::server, ProcessRole::worker};

/// Whether a pool of this policy makes the call at all.
template <class Policy>
bool is_made(const std::string& name) {
  const bool spawns = std::is_same_v<Policy, brood::SpawnPolicy>;
  if (name == "execveat" || name == "close_range") return spawns;
  if (name == "posix_spawn") return !std::is_same_v<Policy, brood::ForkPolicy>;
  if (name == "pidfd_getfd") return false;  // where descriptors are passed
  if (name == "ioctl" || name == "unshare" || name == "sched_getaffinity") return false;  // when something else is missing
  return true;
}

enum class Life { defaults, all_options, all_options_but_cpus };

template <class Policy>
void passes(support::Board& board, const std::string& what, Life life = Life::defaults) {
  const auto verdict = support::run_scenario(board, [life] {
    support::Suite<Policy> suite(support::Demand::everything);
    return life == Life::defaults ? suite.run() : suite.run_with_all_options(life == Life::all_options);
  });
  CHECK_MESSAGE(verdict.kind == support::Verdict::Kind::survived, what << ": " << verdict.text);
}

}  // namespace

TYPE_TO_STRING_AS("ForkServerPolicy<Numbers, Reopening>", support::ForkServerWithHook);

#define REFUSED_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithPreloads
#define OPTION_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithHook

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

TEST_CASE_TEMPLATE("a pool with all options works when one newer system call is refused, and when all are", Policy, OPTION_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  board.plan({});
  passes<Policy>(board, "nothing is refused", Life::all_options);
  for (const auto& [error, text] : refusals) {
    for (const char* const name : refusable) {
      if (support::has_sanitizer && error != ENOSYS) continue;  // slow; all of them at once meet both
      board.plan({{.action = FaultAction::fail, .value = error, .name = name}});
      const bool no_cpus = std::string_view(name) == "sched_getaffinity";
      passes<Policy>(board, std::string(name) + " is refused with " + text,
                     no_cpus ? Life::all_options_but_cpus : Life::all_options);
      if (is_made<Policy>(name)) CHECK_MESSAGE(board.hits() > 0, std::string(name));
    }
    board.plan({});
    for (const char* const name : refusable) board.add({.action = FaultAction::fail, .value = error, .name = name});
    passes<Policy>(board, "all are refused with " + std::string(text), Life::all_options_but_cpus);
  }
}

TEST_CASE_TEMPLATE("a pool works where clone3 is refused", Policy, REFUSED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  for (const auto& [error, text] : errors) {
    for (const bool close_range_too : {false, true}) {
      CAPTURE(close_range_too);
      board.plan({});
      if (close_range_too) board.add({.action = FaultAction::fail, .value = error, .name = "close_range"});
      const auto verdict = support::run_scenario(board, [refused = error] {
        if (!support::refuse_clone3(refused)) throw support::Broken("clone3 is not refused: no filter of system calls is taken");
        return support::Suite<Policy>(support::Demand::everything).run();
      });
      CHECK_MESSAGE(verdict.kind == support::Verdict::Kind::survived, "clone3 is refused with " << text << ": " << verdict.text);
    }
  }
}
