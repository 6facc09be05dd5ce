// SPDX-License-Identifier: MIT
// internal
// Memory of another process: read from where it lies, and a word in shared memory that a process waits for.
#pragma once

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// Reads all of `target` from an address in another process, in one copy. Returns 0 or an errno: ESRCH when there is no such
/// process, EFAULT when the address is not its, EPERM where Yama, seccomp or a container forbids it, ENOSYS in an old kernel.
/// The caller makes sure that the number is the process that it means: before, and once more after the last read.
inline int read_memory_of(pid_t pid, std::uint64_t address, std::span<std::byte> target) noexcept {
  while (!target.empty()) {
    iovec into{target.data(), target.size()};
    iovec from{reinterpret_cast<void*>(address), target.size()};
    const ssize_t count = retried("process_vm_readv", [&] { return ::process_vm_readv(pid, &into, 1, &from, 1, 0); });
    if (count < 0) return errno;
    if (count == 0) return EFAULT;
    address += static_cast<std::uint64_t>(count);
    target = target.subspan(static_cast<std::size_t>(count));
  }
  return 0;
}

/// The number of the process behind a pidfd as this process knows it, which differs from what the process itself says where it
/// lives in another pid namespace. 0 when it has ended or can't be told.
inline pid_t pid_of_pidfd(int pidfd) noexcept {
  std::array<char, 40> path{};
  constexpr std::string_view folder = "/proc/self/fdinfo/";
  folder.copy(path.data(), folder.size());
  std::size_t at = folder.size();
  for (int scale = 1'000'000'000; scale != 0; scale /= 10) {
    if (pidfd >= scale || scale == 1) path[at++] = static_cast<char>('0' + pidfd / scale % 10);
  }
  const int fd = retried("open", [&] { return ::open(path.data(), O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return 0;
  std::array<char, 512> text{};
  const ssize_t size = retried("read", [&] { return ::read(fd, text.data(), text.size() - 1); });
  close_descriptor(fd);
  constexpr std::string_view key = "\nPid:\t";
  const std::string_view all(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  const std::size_t found = all.find(key);
  if (found == std::string_view::npos) return 0;
  const long pid = std::strtol(text.data() + found + key.size(), nullptr, 10);
  return pid > 0 ? static_cast<pid_t>(pid) : 0;
}

/// Sleeps while `word`, in memory that processes share, has this value; for some time at most. May return early.
inline void wait_for_change(const std::atomic<std::uint32_t>& word, std::uint32_t value) noexcept {
  constexpr timespec longest{0, 20'000'000};  // a wake that the kernel refused costs no more than that
  const long result = tried("futex", [&] { return ::syscall(SYS_futex, &word, FUTEX_WAIT, value, &longest, nullptr, 0); });
  if (result == 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT) return;
  constexpr timespec nap{0, 200'000};  // refused: look again soon
  ::nanosleep(&nap, nullptr);
}

/// Wakes whoever waits for the word.
inline void wake_waiter(const std::atomic<std::uint32_t>& word) noexcept {
  tried("futex", [&] { return ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0); });
}
static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t) && std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace brood::detail
