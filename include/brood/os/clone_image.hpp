// SPDX-License-Identifier: MIT
// internal
// Starting a program as posix_spawn(3) does, where that can't: libc makes it of clone3(2), and of clone(2) only when the kernel
// says ENOSYS. Containers say EPERM.
#pragma once

#include <brood/core/config.hpp>
#include <brood/os/signals.hpp>

#if BROOD_BODIES

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <memory>
#include <span>

namespace brood::inline v0_1::detail {

/// What a child by clone_image is to become. It runs in the memory of its parent, which waits for it meanwhile.
struct CloneStart {
  std::span<const int> sources;  ///< what becomes descriptor `first_target`, and the next ones; all above those
  int first_target = 3;
  std::span<const char* const> paths;  ///< the second one where the first is not to be had
  char* const* argv = nullptr;
  char* const* environment = nullptr;
  int directory = -1;  ///< its working directory, not one of `sources`; -1: ours
  int error = 0;  ///< why it did not start
};

/// The child: /dev/null as stdin, the sources in their places, every other descriptor but stdout and stderr closed: at once, for
/// until then no program that another thread of the host was writing can run (ETXTBSY); where that is refused, by the exec.
/// Allocates nothing, writes no memory but its stack and `start`, and returns rather than to call what does not return: that
/// would have a sanitizer clear a stack which is not this one.
BROOD_INLINE int run_clone(void* argument) noexcept {
  CloneStart& start = *static_cast<CloneStart*>(argument);
  const auto failed = [&] {
    start.error = errno;
    return 1;
  };
  if (start.directory >= 0 && retried("fchdir", [&] { return ::fchdir(start.directory); }) != 0) return failed();
  const int null = retried("open", [] { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); });
  if (null < 0) return failed();
  const int moved = null == 0 ? retried("fcntl", [] { return ::fcntl(0, F_SETFD, 0); })
                              : retried("dup2", [&] { return ::dup2(null, 0); });
  if (moved < 0) return failed();
  int next = start.first_target;
  for (const int source : start.sources) {
    if (retried("dup2", [&] { return ::dup2(source, next); }) < 0) return failed();
    ++next;
  }
  const auto behind = static_cast<unsigned>(next);
  if (retried("close_range", [&] { return ::syscall(SYS_close_range, behind, ~0U, 0); }) != 0) {
    rlimit limit{};
    if (tried("getrlimit", [&] { return ::getrlimit(RLIMIT_NOFILE, &limit); }) != 0) return failed();
    const int end = limit.rlim_cur < DescriptorSet::capacity ? static_cast<int>(limit.rlim_cur) : int{DescriptorSet::capacity};
    for (int fd = next; fd < end; ++fd) tried("fcntl", [&] { return ::fcntl(fd, F_SETFD, FD_CLOEXEC); });
  }
  reset_dispositions();  // behind the closing: it is 64 system calls
  unblock_all_signals();
  for (const char* const path : start.paths) {
    tried("execve", [&] { return ::execve(path, start.argv, start.environment); });
    if (errno != ENOENT && errno != EACCES) break;
  }
  return failed();
}

/// Starts a program without a copy of any page table. Its pid, or -1 with errno.
BROOD_INLINE pid_t clone_image(CloneStart& start) {
  constexpr std::size_t room = std::size_t{64} << 10;
  const auto stack = std::make_unique<std::byte[]>(room);
  const AllSignalsBlocked blocked;  // no handler of the host may run in the child, which has the host's memory
  int cancel = 0;
  ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);  // nor may a pending cancellation unwind it
  const pid_t pid = retried("clone", [&] {
    return ::clone(&run_clone, stack.get() + room, CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
  });
  if (pid < 0) start.error = errno;
  if (pid > 0 && start.error != 0) retried("waitpid", [&] { return ::waitpid(pid, nullptr, 0); });
  ::pthread_setcancelstate(cancel, nullptr);
  errno = start.error;
  return start.error == 0 ? pid : -1;
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
