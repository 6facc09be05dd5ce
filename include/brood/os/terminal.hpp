// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstddef>
#include <string_view>

#include <brood/os/syscall.hpp>

namespace brood::inline v0_1::detail {

inline bool is_terminal(int fd) noexcept { return ::isatty(fd) == 1; }

/// Columns of a terminal; 80 where it does not say.
inline std::size_t terminal_width(int fd) noexcept {
  winsize size{};
  const bool told = tried("ioctl(TIOCGWINSZ)", [&] { return ::ioctl(fd, TIOCGWINSZ, &size); }) == 0;
  return told && size.ws_col != 0 ? size.ws_col : 80;
}

/// Writes all of it to a descriptor that is not the library's. False when that is not possible.
inline bool write_text(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t count = retried("write", [&] { return ::write(fd, text.data(), text.size()); });
    if (count <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace brood::detail
