// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <sys/ioctl.h>

#include <cstddef>
#include <span>

#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// The two ends of one pipe(7), both closed on exec.
struct Pipe {
  Fd read;
  Fd write;

  static Pipe make() {
    int ends[2];
    checked("pipe2", [&] { return ::pipe2(ends, O_CLOEXEC); });
    Pipe pipe;
    pipe.read = own("pipe2", ends[0]);
    pipe.write = own("pipe2", ends[1]);
    return pipe;
  }
};

/// What one read(2) or write(2) achieved.
struct Moved {
  std::size_t bytes = 0;
  bool blocked = false;  ///< nothing moved now: a non-blocking descriptor is full or empty
  bool ended = false;    ///< end of file, or nobody reads any more
};

/// How many bytes wait in a pipe now.
inline std::size_t bytes_waiting(int fd) noexcept {
  int count = 0;
  const int failed = tried("ioctl(FIONREAD)", [&] { return ::ioctl(fd, FIONREAD, &count); });
  return failed == 0 && count > 0 ? static_cast<std::size_t>(count) : 0;
}

/// One system call moves at most this much (man 2 read).
inline constexpr std::size_t max_transfer = 0x7ffff000;

/// One read(2). Throws SystemError on anything but success, "not now" and "end".
inline Moved read_some(int fd, std::span<std::byte> target) {
  const std::size_t size = target.size() < max_transfer ? target.size() : max_transfer;
  const ssize_t count = retried("read", [&] { return ::read(fd, target.data(), size); });
  if (count > 0) return {static_cast<std::size_t>(count), false, false};
  if (count == 0) return {0, false, true};
  if (errno == EAGAIN) return {0, true, false};
  throw SystemError("read", errno);
}

/// One write(2). A pipe without a reader counts as ended; the caller sees to it that no SIGPIPE is raised.
inline Moved write_some(int fd, std::span<const std::byte> source) {
  const std::size_t size = source.size() < max_transfer ? source.size() : max_transfer;
  const ssize_t count = retried("write", [&] { return ::write(fd, source.data(), size); });
  if (count >= 0) return {static_cast<std::size_t>(count), false, false};
  if (errno == EAGAIN) return {0, true, false};
  if (errno == EPIPE) return {0, false, true};
  throw SystemError("write", errno);
}

}  // namespace brood::detail
