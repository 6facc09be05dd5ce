// SPDX-License-Identifier: MIT
// Newer system calls that an old kernel or a container refuses: everything works without them.
//
// clone3 is made by libc, and no seam is there: a filter of system calls refuses it. libc falls back to clone by itself, but
// only for ENOSYS.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
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
                               "sched_getaffinity", "posix_spawn", "process_vm_readv", "futex"};
constexpr std::array errors{std::pair{ENOSYS, "ENOSYS"}, std::pair{EPERM, "EPERM"}, std::pair{EINVAL, "EINVAL"}};
constexpr std::array roles{ProcessRole::unknown, ProcessRole::host, ProcessRole::server, ProcessRole::worker};

/// Whether a pool of this policy makes the call at all.
template <class Policy>
bool is_made(const std::string& name) {
  const bool spawns = std::is_same_v<Policy, brood::SpawnPolicy>;
  if (name == "execveat" || name == "close_range") return spawns;
  if (name == "posix_spawn") return !std::is_same_v<Policy, brood::ForkPolicy>;
  if (name == "ioctl" || name == "unshare" || name == "sched_getaffinity") return false;  // when something else is missing
  return true;
}

template <class Policy>
void passes(support::Board& board, const std::string& what) {
  const auto verdict =
      support::run_scenario(board, [] { return support::Suite<Policy>(support::Demand::everything).run(); });
  CHECK_MESSAGE(verdict.kind == support::Verdict::Kind::survived, what << ": " << verdict.text);
}

/// From here on, in this process and all that it starts.
void refuse_clone3(int error) {
  std::array filter{sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                    sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
                    sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
                    sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    throw support::Broken("this kernel takes no filter of system calls");
  }
  if (::syscall(SYS_clone3, nullptr, 0) != -1 || errno != error) throw support::Broken("clone3 is not refused");
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

TEST_CASE_TEMPLATE("a pool works where clone3 is refused", Policy, REFUSED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  for (const auto& [error, text] : errors) {
    for (const bool close_range_too : {false, true}) {
      CAPTURE(close_range_too);
      board.plan({});
      if (close_range_too) board.add({.action = FaultAction::fail, .value = error, .name = "close_range"});
      const auto verdict = support::run_scenario(board, [refused = error] {
        refuse_clone3(refused);
        return support::Suite<Policy>(support::Demand::everything).run();
      });
      CHECK_MESSAGE(verdict.kind == support::Verdict::Kind::survived, "clone3 is refused with " << text << ": " << verdict.text);
    }
  }
}
