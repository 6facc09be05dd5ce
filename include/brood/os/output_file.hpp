// SPDX-License-Identifier: MIT
// internal
// A file that one writer at a time has, over all processes: a lock of the kernel's, which ends with the writer.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string>

#include <brood/os/fd.hpp>
#include <brood/os/syscall.hpp>

namespace brood::inline v0_1::detail {

/// Opens the file and empties it; makes it where there is none. Nothing while somebody else writes it in this way. Throws
/// SystemError, also for what is no regular file.
inline std::optional<Fd> open_output_file(const std::string& path) {
  constexpr int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;  // a FIFO must not be waited for
  Fd file = own("open", retried("open", [&] { return ::open(path.c_str(), flags, 0666); }));
  struct stat info {};
  checked("fstat", [&] { return ::fstat(file.get(), &info); });
  if (!S_ISREG(info.st_mode)) throw SystemError("open", EINVAL);
  if (retried("flock", [&] { return ::flock(file.get(), LOCK_EX | LOCK_NB); }) != 0) {
    if (errno == EWOULDBLOCK) return std::nullopt;
    if (errno != ENOLCK && errno != EOPNOTSUPP) throw SystemError("flock", errno);  // a file system without locks
  }
  checked("ftruncate", [&] { return ::ftruncate(file.get(), 0); });
  return file;
}

}  // namespace brood::detail
