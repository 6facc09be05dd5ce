// SPDX-License-Identifier: MIT
// internal
// How an exec'ed image learns that it was started as a server or as a worker: from sealed memory on descriptor 3,
// which begins with a magic text and names the parent that it was written by. Nothing is in the environment or in the
// arguments, and a program that is started from a task has neither the descriptor nor that parent.
#pragma once

#include <brood/core/config.hpp>
#include <brood/core/bytes.hpp>
#include <brood/core/version.hpp>
#include <brood/os/image.hpp>
#include <brood/os/mapping.hpp>

#if BROOD_BODIES

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace brood::inline v0_1::detail {

enum class Role : std::uint32_t { server = 1, worker = 2 };

/// Pools may be nested this deep: a pool in a task of a pool in a task of a pool.
inline constexpr std::uint32_t max_depth = 3;

struct HandOverHeader {
  static constexpr std::array<char, 16> magic_value{'b', 'r', 'o', 'o', 'd', ' ', 'h', 'a',
                                                    'n', 'd', '-', 'o', 'v', 'e', 'r', '\n'};

  std::array<char, 16> magic = magic_value;
  std::uint32_t protocol = protocol_version;
  Role role{};
  std::int32_t parent = 0;   ///< the pid of the process that wrote it
  std::uint32_t depth = 0;   ///< how many pools this process is inside of
  std::uint32_t host_pidfd = 0;  ///< server: whether descriptor 6 is the host's pidfd
  std::uint32_t output = 0;      ///< worker: whether descriptor 7 is a pipe that takes its output
  std::uint64_t size = 0;  ///< bytes behind the header
  ModuleIdentity identity;   ///< of the program that wrote it
};
static_assert(std::is_trivially_copyable_v<HandOverHeader> && sizeof(HandOverHeader) == 88);

/// Descriptors in an exec'ed server: 3 the hand-over, 4 the control socket, 5 the lifeline, 6 the host's pidfd.
/// Descriptors in an exec'ed worker: 3 the hand-over, 4 the task pipe, 5 the result pipe, 6 the status memory,
/// 7 the pipe that takes its output.
inline constexpr int hand_over_fd = first_handed_fd;

struct HandOver {
  HandOverHeader header;
  Bytes body;
};

BROOD_INLINE Fd make_hand_over(HandOverHeader header, std::span<const std::byte> body) {
  header.size = body.size();
  Bytes bytes;
  bytes.append(&header, sizeof header);
  bytes.append(body.data(), body.size());
  return make_sealed_bytes("brood-hand-over", bytes.view());
}

/// The header on descriptor 3, when this process was started by a pool. Reads at an offset of its own, so an ordinary
/// program that happens to have the descriptor open loses nothing. Whether the parent that wrote it still lives is to
/// be checked.
BROOD_INLINE std::optional<HandOverHeader> peek_hand_over() noexcept {
  struct stat info {};
  const bool there = tried("fstat", [&] { return ::fstat(hand_over_fd, &info); }) == 0;
  if (!there || !S_ISREG(info.st_mode) || info.st_nlink != 0) return std::nullopt;
  HandOverHeader header;
  const ssize_t size = retried("pread", [&] { return ::pread(hand_over_fd, &header, sizeof header, 0); });
  if (size != static_cast<ssize_t>(sizeof header) || header.magic != HandOverHeader::magic_value) return std::nullopt;
  return header;
}

/// Reads the whole hand-over. Throws SystemError, or std::bad_alloc. Asks for no memory that the file has no bytes for.
BROOD_INLINE HandOver take_hand_over(const HandOverHeader& header) {
  struct stat info {};
  checked("fstat", [&] { return ::fstat(hand_over_fd, &info); });
  const auto there = static_cast<std::uint64_t>(info.st_size);
  if (there < sizeof header || header.size > there - sizeof header) throw SystemError("pread", EIO);
  HandOver result{header, {}};
  std::byte* const target = result.body.extend(static_cast<std::size_t>(header.size));
  for (std::size_t done = 0; done < header.size;) {
    const auto count = checked("pread", [&] {
      return ::pread(hand_over_fd, target + done, std::min(static_cast<std::size_t>(header.size) - done, max_transfer),
                     static_cast<off_t>(sizeof header + done));
    });
    if (count == 0) throw SystemError("pread", EIO);
    done += static_cast<std::size_t>(count);
  }
  return result;
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
