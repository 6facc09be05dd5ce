// SPDX-License-Identifier: MIT
#pragma once

#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <string>

namespace brood::inline v0_1 {

/// How a process ended: it exited with a code, a signal ended it, or that is unknown: another part of the program reaped
/// it, the process that was to report it died too, or none ended at all.
/// \snippet reference.cpp ExitStatus
class ExitStatus {
 public:
  /// An end that nobody saw, or none.
  constexpr ExitStatus() noexcept = default;

  /// From the status word of wait(2).
  static constexpr ExitStatus from_wait(int status) noexcept { return ExitStatus(status); }

  /// From the two fields that waitid(2) fills in.
  static constexpr ExitStatus from_siginfo(int code, int value) noexcept {
    if (code == CLD_EXITED) return ExitStatus((value & 0xff) << 8);
    return ExitStatus((value & 0x7f) | (code == CLD_DUMPED ? 0x80 : 0));
  }

  /// The status word of wait(2), -1 when unknown.
  constexpr int wait_word() const noexcept { return known_ ? status_ : -1; }

  /// Whether anybody saw the end.
  constexpr bool known() const noexcept { return known_; }
  /// Whether it called exit or returned from main.
  constexpr bool exited() const noexcept { return known_ && WIFEXITED(status_); }
  /// Whether a signal ended it.
  constexpr bool signaled() const noexcept { return known_ && WIFSIGNALED(status_); }

  /// The exit code, 0 to 255. Precondition: exited().
  constexpr int code() const noexcept { return WEXITSTATUS(status_); }

  /// The signal's number. Precondition: signaled().
  constexpr int signal() const noexcept { return WTERMSIG(status_); }

  /// Whether a core dump was written.
  constexpr bool dumped_core() const noexcept { return signaled() && WCOREDUMP(status_); }

  /// "exited with code 3", "was killed by signal 11 (SIGSEGV, Segmentation fault)", "ended unseen, or not at all".
  std::string describe() const {
    if (exited()) return "exited with code " + std::to_string(code());
    if (!signaled()) return "ended unseen, or not at all";
    const char* name = sigabbrev_np(signal());
    const char* meaning = sigdescr_np(signal());
    std::string text = "was killed by signal " + std::to_string(signal());
    if (name != nullptr && meaning != nullptr) text += std::string(" (SIG") + name + ", " + meaning + ')';
    return text;
  }

  /// Whether both are the same end.
  friend constexpr bool operator==(const ExitStatus&, const ExitStatus&) noexcept = default;

 private:
  constexpr explicit ExitStatus(int status) noexcept : status_(status), known_(true) {}

  int status_ = 0;
  bool known_ = false;
};

}  // namespace brood
