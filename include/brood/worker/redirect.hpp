// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <brood/core/config.hpp>
#include <brood/os/fd.hpp>
#include <brood/worker/leave.hpp>

#if BROOD_BODIES

#include <cstdio>

namespace brood::inline v0_1::detail {

/// From here on what this worker writes to stdout and stderr goes to `target`, in whole lines, so that a crash takes along
/// no line that was finished.
BROOD_INLINE void redirect_output(const Fd& target) {
  flush_output(false);
  for (const int standard : {STDOUT_FILENO, STDERR_FILENO}) {
    checked("dup2", [&] { return ::dup2(target.get(), standard); });
  }
  static char buffer[BUFSIZ];  // a stream that was used keeps to its old way as long as it has its old buffer
  std::setvbuf(stdout, buffer, _IOLBF, sizeof buffer);
}

BROOD_INLINE Fd open_null_output() {
  return own("open(/dev/null)", retried("open", [] { return ::open("/dev/null", O_WRONLY | O_CLOEXEC); }));
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
