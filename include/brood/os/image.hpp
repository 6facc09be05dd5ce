// SPDX-License-Identifier: MIT
// internal
// Starting this program again. The image is the running one, reached through /proc/self/exe, so that an upgrade or a
// removal on disk can't mix versions. Where /proc is not mounted it is the file that the kernel was given at the
// start; the handshake then finds out whether that is still the same program. So it does under valgrind, whose own program
// /proc/self/exe is there: what reads the link is told the name of ours.
#pragma once

#include <brood/core/config.hpp>
#include <brood/os/clone_image.hpp>
#include <brood/os/module.hpp>
#include <brood/os/signals.hpp>
#include <brood/os/surroundings.hpp>

#if BROOD_BODIES

#include <spawn.h>
#include <sys/syscall.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace brood::inline v0_1::detail {

/// Where the first descriptor of a hand-over lands in an exec'ed child; the next follow. Everything behind the last is
/// closed there.
inline constexpr int first_handed_fd = 3;

/// Where this program is to be found.
BROOD_INLINE std::string own_image_path() {
  const char* const preloaded = std::getenv("LD_PRELOAD");
  if (preloaded != nullptr && std::strstr(preloaded, "/vgpreload_core") != nullptr) {
    std::array<char, 4096> name;
    const auto size = tried("readlink", [&] { return ::readlink("/proc/self/exe", name.data(), name.size()); });
    if (size > 0) return std::string(name.data(), static_cast<std::size_t>(size));
  }
  return "/proc/self/exe";
}

/// The image of this program, to be executed.
BROOD_INLINE Fd open_own_image() {
  const std::string path = own_image_path();
  int fd = retried("open", [&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  // a program that may be executed but not read
  if (fd < 0) fd = retried("open", [&] { return ::open(path.c_str(), O_PATH | O_CLOEXEC); });
  if (fd < 0) fd = retried("open", [] { return ::open(ModuleTable::program_path(), O_PATH | O_CLOEXEC); });
  return own("open(/proc/self/exe)", fd);
}

/// The arguments of this program, for code that main's can't reach; its name alone where /proc is not mounted.
BROOD_INLINE std::vector<std::string> read_own_arguments() {
  std::vector<std::string> result;
  const int fd = retried("open", [] { return ::open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC); });
  if (fd >= 0) {
    const Fd file = own("open(/proc/self/cmdline)", fd);
    std::string text;
    std::array<char, 4096> part;
    for (;;) {
      const auto size = retried("read", [&] { return ::read(file.get(), part.data(), part.size()); });
      if (size <= 0) break;
      text.append(part.data(), static_cast<std::size_t>(size));
    }
    for (std::size_t at = 0; at < text.size(); at += result.back().size() + 1) result.emplace_back(text.c_str() + at);
  }
  if (result.empty()) result.emplace_back(ModuleTable::program_path());
  return result;
}

/// Starts this program as a child without copying any page table, whatever this process' size and threads: vfork
/// semantics with all signals blocked, as posix_spawn(3) does it, or by the library's own hand where that is refused. The child gets `handed` as the descriptors 3, 4, ...
/// and /dev/null as its stdin; no other descriptor but stdout and stderr, clean signals, these arguments and
/// surroundings; the terminal's signals are blocked until it ignores them. Returns its pid. Throws SystemError.
BROOD_INLINE pid_t spawn_own_image(std::span<const int> handed, const std::vector<std::string>& arguments,
                             const Surroundings& surroundings = {}) {
  struct Actions {
    posix_spawn_file_actions_t value;
    Actions() { ::posix_spawn_file_actions_init(&value); }
    Actions(const Actions&) = delete;
    Actions& operator=(const Actions&) = delete;
    ~Actions() { ::posix_spawn_file_actions_destroy(&value); }
  } actions;
  struct Attributes {
    posix_spawnattr_t value;
    Attributes() { ::posix_spawnattr_init(&value); }
    Attributes(const Attributes&) = delete;
    Attributes& operator=(const Attributes&) = delete;
    ~Attributes() { ::posix_spawnattr_destroy(&value); }
  } attributes;
  const auto check = [](const char* call, int error) {
    if (error != 0) throw SystemError(call, error);
  };

  if (surroundings.directory >= 0) {  // first: a target below may have this descriptor's number
    check("posix_spawn_file_actions_addfchdir_np",
          ::posix_spawn_file_actions_addfchdir_np(&actions.value, surroundings.directory));
  }
  check("posix_spawn_file_actions_addopen",
        ::posix_spawn_file_actions_addopen(&actions.value, 0, "/dev/null", O_RDONLY, 0));
  std::vector<Fd> sources;  // high numbers, so that no target overwrites a source that is still needed
  for (const int fd : handed) sources.push_back(duplicate(fd, first_handed_fd + 8));
  int next = first_handed_fd;
  for (const Fd& source : sources) {
    check("posix_spawn_file_actions_adddup2",
          ::posix_spawn_file_actions_adddup2(&actions.value, source.get(), next++));
  }
  check("posix_spawn_file_actions_addclosefrom_np",
        ::posix_spawn_file_actions_addclosefrom_np(&actions.value, next));

  sigset_t blocked;
  sigset_t all;
  ::sigemptyset(&blocked);
  for (const int signal : terminal_signals) ::sigaddset(&blocked, signal);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes.value, &blocked);
  ::posix_spawnattr_setsigdefault(&attributes.value, &all);
  ::posix_spawnattr_setflags(&attributes.value, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  char* const* const environment = surroundings.environment != nullptr ? surroundings.environment : ::environ;
  pid_t pid = -1;
  const auto spawn = [&](const char* path) {
    return retried("posix_spawn", [&] {
      errno = ::posix_spawn(&pid, path, &actions.value, &attributes.value, argv.data(), environment);
      return errno == 0 ? 0 : -1;
    });
  };
  const std::string image = own_image_path();
  const std::array paths{image.c_str(), ModuleTable::program_path()};
  int failed = spawn(paths[0]);
  if (failed != 0 && (errno == ENOENT || errno == EACCES)) failed = spawn(paths[1]);
  if (failed == 0) return pid;
  if (!not_available(errno)) throw SystemError("posix_spawn", errno);
  std::vector<int> numbers;
  for (const Fd& source : sources) numbers.push_back(source.get());
  CloneStart start{numbers, first_handed_fd, paths, argv.data(), environment, surroundings.directory};
  pid = clone_image(start);
  if (pid < 0) throw SystemError("clone", errno);
  return pid;
}

/// Replaces this process, a fresh child, by the image. Returns only when that failed, with errno. Async-signal-safe.
BROOD_INLINE void execute_image(int image, char* const* argv, char* const* environment) noexcept {
  tried("execveat", [&] { return ::syscall(SYS_execveat, image, "", argv, environment, AT_EMPTY_PATH); });
  tried("execve", [&] { return ::execve("/proc/self/exe", argv, environment); });
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
