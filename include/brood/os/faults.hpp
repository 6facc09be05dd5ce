// SPDX-License-Identifier: MIT
// internal
// Faults for the library's own tests; included only with BROOD_FAULT_INJECTION. Every process of a pool's tree passes
// attempt_or_fail at each system call of the library. It counts the call on a board that all of them share, and where a
// plan on the board says so the call fails, or the process is killed, stopped or delayed in front of it.
//
// The board is a file. Forked children inherit its mapping; an exec'ed image finds it by the environment variable
// BROOD_FAULT_BOARD.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace brood::inline v0_1::detail {

enum class FaultAction : std::uint32_t { none, fail, kill, stop, sleep };

/// The name of a system call, in words that processes can share.
class FaultName {
 public:
  void store(const char* name) noexcept {
    std::array<char, 32> text{};
    std::strncpy(text.data(), name, text.size() - 1);
    for (std::size_t at = 0; at < words_.size(); ++at) {
      std::uint64_t word = 0;
      std::memcpy(&word, text.data() + at * sizeof word, sizeof word);
      words_[at].store(word, std::memory_order_relaxed);
    }
  }
  std::array<char, 32> load() const noexcept {
    std::array<char, 32> text{};
    for (std::size_t at = 0; at < words_.size(); ++at) {
      const std::uint64_t word = words_[at].load(std::memory_order_relaxed);
      std::memcpy(text.data() + at * sizeof word, &word, sizeof word);
    }
    return text;
  }

 private:
  std::array<std::atomic<std::uint64_t>, 4> words_{};
};

/// What happens to which calls. Written before the first process of the tree makes a call.
struct FaultPlan {
  FaultAction action = FaultAction::none;
  unsigned role = 0;         ///< a ProcessRole; 0: all
  std::array<char, 32> name{};  ///< "" all, "fcntl" also "fcntl(F_GETFL)"
  int value = 0;             ///< the errno, or milliseconds
  std::uint64_t first = 1;   ///< of the calls that match, counted from 1
  std::uint64_t last = ~std::uint64_t{0};
  std::atomic<std::uint64_t> seen{0};
  FaultName hit;             ///< the call that it was last applied to

  bool matches(unsigned process_role, const char* call) const noexcept {
    if (role != 0 && role != process_role) return false;
    const std::size_t size = std::strlen(name.data());
    return size == 0 || (std::strncmp(name.data(), call, size) == 0 && (call[size] == '\0' || call[size] == '('));
  }
};

struct FaultBoard {
  /// What a process did last, for the report of a test that hangs.
  struct Seen {
    std::atomic<pid_t> pid{0};
    std::atomic<unsigned> role{0};
    FaultName call;
    std::atomic<bool> inside{false};
  };

  std::atomic<bool> armed{false};
  std::atomic<std::uint32_t> plan_count{0};
  std::array<FaultPlan, 16> plans{};
  std::array<Seen, 64> processes{};

  Seen& seen_by(pid_t pid) noexcept {
    Seen* oldest = &processes[static_cast<std::size_t>(pid) % processes.size()];
    for (Seen& each : processes) {
      pid_t free = 0;
      if (each.pid.load(std::memory_order_relaxed) == pid || each.pid.compare_exchange_strong(free, pid)) return each;
    }
    oldest->pid.store(pid, std::memory_order_relaxed);
    return *oldest;
  }
};

/// A ProcessRole; calls of a process that has none are neither counted nor touched.
inline constinit std::atomic<unsigned> fault_role{0};
inline constinit std::atomic<FaultBoard*> fault_board{nullptr};
inline constexpr const char* fault_variable = "BROOD_FAULT_BOARD";

inline FaultBoard* map_fault_board(const char* path) noexcept {
  const int fd = path != nullptr ? ::open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return nullptr;
  void* const at = ::mmap(nullptr, sizeof(FaultBoard), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  return at == MAP_FAILED ? nullptr : static_cast<FaultBoard*>(at);
}

/// What the plans say of this call: the errno with which it fails, or 0.
inline int fault_at(FaultBoard& board, const char* name) noexcept {
  int error = 0;
  for (std::uint32_t at = 0; at < board.plan_count.load(std::memory_order_acquire); ++at) {
    FaultPlan& plan = board.plans[at];
    if (!plan.matches(fault_role, name)) continue;
    const std::uint64_t number = plan.seen.fetch_add(1) + 1;
    if (number < plan.first || number > plan.last) continue;
    plan.hit.store(name);
    switch (plan.action) {
      case FaultAction::none: break;
      case FaultAction::fail: error = plan.value; break;
      case FaultAction::kill: ::kill(::getpid(), SIGKILL); break;
      case FaultAction::stop: ::kill(::getpid(), SIGSTOP); break;
      case FaultAction::sleep: {
        const timespec time{plan.value / 1'000, plan.value % 1'000 * 1'000'000L};
        ::nanosleep(&time, nullptr);
        break;
      }
    }
  }
  return error;
}

/// Makes the call unless a plan has it fail. What gives something back to the kernel is done in any case: when these
/// fail, the descriptor or the mapping is gone all the same.
template <class Call>
auto attempt_or_fail(const char* name, Call& call) noexcept {
  using Result = decltype(call());
  if (fault_role == 0) return call();
  if (fault_board == nullptr) {
    static FaultBoard* const found = map_fault_board(std::getenv(fault_variable));
    if (found == nullptr) return call();
    fault_board = found;
  }
  FaultBoard& board = *fault_board;
  if (!board.armed) return call();
  FaultBoard::Seen& seen = board.seen_by(::getpid());
  seen.role = fault_role.load();
  seen.call.store(name);
  const int error = fault_at(board, name);
  if (error != 0) {
    if (std::strcmp(name, "close") == 0 || std::strcmp(name, "munmap") == 0) call();
    errno = error;
    return static_cast<Result>(-1);
  }
  seen.inside = true;
  const Result result = call();
  seen.inside = false;
  return result;
}

}  // namespace brood::detail
