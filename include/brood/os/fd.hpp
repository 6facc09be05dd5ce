// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <brood/os/syscall.hpp>

namespace brood::inline v0_1::detail {

/// Which descriptors of this process belong to the library. A forked child closes them: it must not keep the pipes of
/// other pools open. Lock-free, so that the child of a threaded process may read it. Descriptors past the end are not
/// remembered.
class DescriptorSet {
 public:
  static constexpr std::size_t capacity = std::size_t{1} << 20;

  void insert(int fd) noexcept {
    if (auto* word = word_of(fd)) word->fetch_or(bit_of(fd), std::memory_order_relaxed);
  }
  void erase(int fd) noexcept {
    if (auto* word = word_of(fd)) word->fetch_and(~bit_of(fd), std::memory_order_relaxed);
  }

  /// Calls visit(fd) for each. Async-signal-safe.
  template <class Visit>
  void for_each(Visit visit) const noexcept {
    for (std::size_t group = 0; group < groups_.size(); ++group) {
      if (!groups_[group].load(std::memory_order_relaxed)) continue;
      for (std::size_t at = group * 64; at < (group + 1) * 64; ++at) {
        for (std::uint64_t bits = words_[at].load(std::memory_order_relaxed); bits != 0; bits &= bits - 1) {
          visit(static_cast<int>(at * 64 + static_cast<std::size_t>(__builtin_ctzll(bits))));
        }
      }
    }
  }

 private:
  static std::uint64_t bit_of(int fd) noexcept { return std::uint64_t{1} << (static_cast<unsigned>(fd) % 64); }
  std::atomic<std::uint64_t>* word_of(int fd) noexcept {
    const auto at = static_cast<std::size_t>(fd) / 64;
    if (fd < 0 || at >= words_.size()) return nullptr;
    auto& group = groups_[at / 64];
    if (!group.load(std::memory_order_relaxed)) group.store(true, std::memory_order_relaxed);  // writes copy a forked page
    return &words_[at];
  }

  std::array<std::atomic<std::uint64_t>, capacity / 64> words_{};
  alignas(256) std::array<std::atomic<bool>, capacity / 64 / 64> groups_{};
};

inline constinit DescriptorSet library_descriptors{};

/// Owns one descriptor of the library. An `int` borrows.
class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_(fd) { library_descriptors.insert(fd); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    Fd taken(std::move(other));
    taken.swap(*this);
    return *this;
  }
  ~Fd() { reset(); }

  void swap(Fd& other) noexcept { std::swap(fd_, other.fd_); }
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

  /// Gives the descriptor up without closing it: in a forked copy of its process the number may be another's.
  void forget() noexcept { fd_ = -1; }

  /// The same for one that is somebody else's from now on.
  int release() noexcept {
    if (fd_ >= 0) library_descriptors.erase(fd_);
    return std::exchange(fd_, -1);
  }

  void reset() noexcept {
    if (fd_ < 0) return;
    library_descriptors.erase(fd_);
    close_descriptor(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

/// Takes over a descriptor that the kernel has just handed out, off the numbers 0 to 2, which belong to stdio even in a
/// program that started without them.
inline Fd own(const char* call, int fd) {
  if (fd < 0) throw SystemError(call, errno);
  if (fd > 2) return Fd(fd);
  const int moved = retried("fcntl", [&] { return ::fcntl(fd, F_DUPFD_CLOEXEC, 3); });
  const int error = errno;
  close_descriptor(fd);
  if (moved < 0) throw SystemError("fcntl(F_DUPFD_CLOEXEC)", error);
  return Fd(moved);
}

/// A second descriptor for the same open file, not below `lowest`.
inline Fd duplicate(int fd, int lowest = 3) {
  return own("fcntl(F_DUPFD_CLOEXEC)", retried("fcntl", [&] { return ::fcntl(fd, F_DUPFD_CLOEXEC, lowest); }));
}

/// For a descriptor that has no other flag, such as a fresh pipe's.
inline void set_nonblocking(int fd) {
  checked("fcntl(F_SETFL)", [&] { return ::fcntl(fd, F_SETFL, O_NONBLOCK); });
}

}  // namespace brood::detail
