// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <utility>

#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// How many threads of this process are the library's own helpers.
inline constinit std::atomic<int> helper_threads{0};

/// Starts a helper thread. Throws SystemError, std::system_error.
template <class Body>
std::thread start_thread(Body body) {
  checked("pthread_create", [] { return 0; });  // libc's own call, told to the seam
  return std::thread(std::move(body));
}

/// Whether this process has one thread, without /proc: the kernel lets a process unshare its thread group only if it is
/// alone in it, and then does nothing (unshare(2)). False where that call is forbidden.
inline bool is_single_threaded() noexcept {
  return tried("unshare", [] { return ::unshare(CLONE_THREAD); }) == 0;
}

/// How many threads this process has; 0 when that is not to be seen, because /proc is not mounted and there are several.
inline int count_threads() noexcept {
  const int fd = retried("open", [] { return ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return is_single_threaded() ? 1 : 0;
  char text[1024];
  const ssize_t size = retried("read", [&] { return ::read(fd, text, sizeof text - 1); });
  close_descriptor(fd);
  if (size <= 0) return 0;
  text[size] = '\0';
  // the command's name, in brackets, may hold anything; the number of threads is the 18th field behind it
  const std::string_view fields(text, static_cast<std::size_t>(size));
  std::size_t at = fields.rfind(')');
  for (int field = 0; field < 18 && at != std::string_view::npos; ++field) at = fields.find(' ', at + 1);
  return at == std::string_view::npos ? 0 : std::atoi(text + at);
}

}  // namespace brood::detail
