// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <pthread.h>
#include <sys/signalfd.h>

#include <array>
#include <csignal>

#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// Blocks every signal of this thread for as long as it lives, so that no handler of the host runs in a child that is
/// being forked.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;
  ~AllSignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

/// What a terminal sends to a whole process group: by Ctrl-C, by Ctrl-Z, and to one in the background that reads from it or
/// writes to it. All that is the host's affair; who ignores the last two may write, and reads EIO.
inline constexpr std::array terminal_signals{SIGINT, SIGTSTP, SIGTTIN, SIGTTOU};

/// Every disposition back to its default, the terminal's signals ignored. In a child only. Async-signal-safe.
inline void reset_dispositions() noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &standard, nullptr);
  standard.sa_handler = SIG_IGN;
  for (const int signal : terminal_signals) ::sigaction(signal, &standard, nullptr);
}

inline void unblock_all_signals() noexcept {
  const sigset_t none{};  // what sigemptyset(3) makes of it
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

inline void block_all_signals() noexcept {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

/// Readable when a child of this process has ended. SIGCHLD must be blocked and have its default disposition: the
/// server's, never the host's.
inline Fd make_child_signal_fd() {
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  return own("signalfd", retried("signalfd", [&] { return ::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK); }));
}

}  // namespace brood::detail
