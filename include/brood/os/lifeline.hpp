// SPDX-License-Identifier: MIT
// internal
// A process that is stopped sees nothing, not even that its host has gone. The kernel wakes it: each server has the reading
// end of a pipe into which nobody writes, and the host the other one. When that is closed, by the host's end, the kernel sends
// the reader a signal (O_ASYNC, F_SETSIG in fcntl(2)). It is SIGCONT, which does nothing to a process that runs and lets one
// that is stopped go on, to what it does when it sees its host gone. A process that the host has forked, and that has not
// executed a program since, has the other end, too: while it lives the signal does not come.
#pragma once

#include <brood/core/config.hpp>
#include <brood/os/pipe.hpp>

#if BROOD_BODIES

#include <fcntl.h>
#include <unistd.h>

#include <csignal>

namespace brood::inline v0_1::detail {

/// Has this process go on when the last writer of a pipe is gone. Where the kernel refuses, it stays stopped.
BROOD_INLINE void go_on_without_writer(int pipe) noexcept {
  if (retried("fcntl(F_SETOWN)", [&] { return ::fcntl(pipe, F_SETOWN, ::getpid()); }) != 0) return;
  if (retried("fcntl(F_SETSIG)", [&] { return ::fcntl(pipe, F_SETSIG, SIGCONT); }) != 0)
    return;  // else it is SIGIO, which kills
  retried("fcntl(F_SETFL)", [&] { return ::fcntl(pipe, F_SETFL, O_ASYNC | O_NONBLOCK); });
}

}  // namespace brood::inline v0_1::detail

#endif  // BROOD_BODIES
