// SPDX-License-Identifier: MIT
// The test's end of the fault board: who fails, when and how.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

#include <brood/os/syscall.hpp>

#include "support/proc.hpp"

#if !BROOD_FAULT_INJECTION
#error "tests/faults are compiled with -DBROOD_FAULT_INJECTION=1"
#endif

namespace support {

using brood::detail::FaultAction;
using brood::detail::FaultBoard;
using brood::detail::FaultPlan;
using brood::detail::ProcessRole;

inline const char* role_name(unsigned role) {
  constexpr std::array names{"nobody", "host", "server", "worker"};
  return role < names.size() ? names[role] : "?";
}

/// A plan to be put on a board.
struct Fault {
  FaultAction action = FaultAction::none;
  int value = 0;
  ProcessRole role = ProcessRole::unknown;  ///< unknown: all
  std::string name{};                       ///< of the call; empty: all
  std::uint64_t first = 1;
  std::uint64_t last = ~std::uint64_t{0};
};

/// Owns a board and makes this process a host while it lives. To be made before the audit: it is in the environment.
class Board {
 public:
  Board() : path_("/dev/shm/brood_faults_" + std::to_string(::getpid())) {
    const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, sizeof(FaultBoard)) != 0) throw std::runtime_error("no fault board in " + path_);
    ::close(fd);
    board_ = brood::detail::map_fault_board(path_.c_str());
    if (board_ == nullptr) throw std::runtime_error("no fault board in " + path_);
    new (board_) FaultBoard();
    ::setenv(brood::detail::fault_variable, path_.c_str(), 1);
    brood::detail::fault_board = board_;
    brood::detail::take_role(ProcessRole::host);
  }
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;
  ~Board() {
    brood::detail::take_role(ProcessRole::unknown);
    brood::detail::fault_board = nullptr;
    ::unsetenv(brood::detail::fault_variable);
    ::unlink(path_.c_str());
    ::munmap(board_, sizeof(FaultBoard));
  }

  /// Replaces all plans. Not while processes of a pool make calls: see lift for that.
  void plan(std::initializer_list<Fault> faults) {
    board_->armed = false;
    board_->plan_count = 0;
    for (auto& each : board_->processes) {
      each.pid = 0;
      each.inside = false;
    }
    for (const Fault& fault : faults) add(fault);
    board_->armed = true;
  }

  void add(const Fault& fault) {
    const std::uint32_t at = board_->plan_count;
    if (at == board_->plans.size()) throw std::runtime_error("too many faults on one board");
    FaultPlan& plan = board_->plans[at];
    plan.action = fault.action;
    plan.role = static_cast<unsigned>(fault.role);
    plan.name = {};
    std::strncpy(plan.name.data(), fault.name.c_str(), plan.name.size() - 1);
    plan.value = fault.value;
    plan.first = fault.first;
    plan.last = fault.last;
    plan.seen = 0;
    plan.hit.store("");
    board_->plan_count = at + 1;
  }

  /// Nothing fails any more, from now on.
  void lift() { board_->plan_count = 0; }

  std::uint64_t seen(std::size_t plan = 0) const { return board_->plans[plan].seen; }
  /// How many calls were touched.
  std::uint64_t hits(std::size_t plan = 0) const {
    const FaultPlan& each = board_->plans[plan];
    const std::uint64_t count = each.seen;
    return count < each.first ? 0 : (count < each.last ? count : each.last) - each.first + 1;
  }
  std::string hit(std::size_t plan = 0) const { return board_->plans[plan].hit.load().data(); }

  /// Whether a plan has killed a process in this role.
  bool kills(ProcessRole role) const {
    for (std::uint32_t at = 0; at < board_->plan_count; ++at) {
      const FaultPlan& each = board_->plans[at];
      if (each.action == FaultAction::kill && each.role == static_cast<unsigned>(role) && hits(at) > 0) return true;
    }
    return false;
  }

  /// Which processes there are and what each waits for: for the report of a watchdog.
  std::string who_waits() const {
    std::ostringstream text;
    for (const auto& each : board_->processes) {
      const pid_t pid = each.pid;
      if (pid == 0) continue;
      const auto info = process_info(pid);
      if (!info) continue;
      text << "\n  " << role_name(each.role) << " " << pid << " (state " << info->state << ") "
           << (each.inside ? "waits in " : "was last in ") << each.call.load().data();
    }
    return text.str();
  }

 private:
  std::string path_;
  FaultBoard* board_ = nullptr;
};

}  // namespace support
