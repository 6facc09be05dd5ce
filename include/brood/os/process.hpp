// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstdint>

#include <brood/core/exit_status.hpp>
#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// A descriptor that stands for a process, readable when it has ended. Empty where the kernel or a container refuses
/// pidfd_open(2), or when there is no such process. Precondition: `pid` can't have been reaped.
inline Fd open_pidfd(pid_t pid) noexcept {
  const long fd = retried("pidfd_open", [&] { return ::syscall(SYS_pidfd_open, pid, 0U); });
  if (fd < 0) return Fd();
  return fd > 2 ? Fd(static_cast<int>(fd)) : own("pidfd_open", static_cast<int>(fd));
}

/// Sends a signal through a pidfd: it can't reach another process that got the same number. False when refused.
inline bool signal_pidfd(int pidfd, int signal) noexcept {
  return retried("pidfd_send_signal", [&] { return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0U); }) == 0;
}

/// Sends a signal to every process of the group that the process behind a pidfd leads, or has led: its number can't be
/// another's. False when refused (before Linux 6.9), or when there is no such group.
inline bool signal_group_of_pidfd(int pidfd, int signal) noexcept {
  constexpr unsigned process_group = 1U << 2;  // PIDFD_SIGNAL_PROCESS_GROUP
  return retried("pidfd_send_signal", [&] { return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, process_group); }) == 0;
}

/// How the process behind a pidfd ended, also when somebody else has reaped it (Linux 6.15); unknown otherwise.
inline ExitStatus status_from_pidfd(int pidfd) noexcept {
  struct Info {  // the first 64 bytes of struct pidfd_info in linux/pidfd.h, which older headers lack
    std::uint64_t mask, cgroup;
    std::uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    std::int32_t exit_code;
  } info{};
  static_assert(sizeof(Info) == 64);
  constexpr std::uint64_t exit_info = 1U << 3;  // PIDFD_INFO_EXIT
  info.mask = exit_info;
  constexpr auto get_info = _IOWR(0xFF, 11, Info);  // PIDFD_GET_INFO
  const int refused = retried("ioctl(PIDFD_GET_INFO)", [&] { return ::ioctl(pidfd, get_info, &info); });
  if (refused != 0 || (info.mask & exit_info) == 0) return {};
  return ExitStatus::from_wait(info.exit_code);
}

/// Whether the process behind a pidfd has ended.
inline bool has_ended(int pidfd) noexcept {
  pollfd watched{pidfd, POLLIN, 0};
  return retried("poll", [&] { return ::poll(&watched, 1, 0); }) == 1;
}

/// Reaps the process behind a pidfd if it has become our child: a host that adopts orphans (process 1 of a container, a
/// subreaper) inherits the workers of a server that died. Unknown when it has not.
inline ExitStatus reap_adopted(int pidfd) noexcept {
  siginfo_t info{};
  const auto pidfd_type = static_cast<idtype_t>(3);  // P_PIDFD, which older headers lack
  const int result =
      retried("waitid", [&] { return ::waitid(pidfd_type, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG); });
  return result == 0 && info.si_pid != 0 ? ExitStatus::from_siginfo(info.si_code, info.si_status) : ExitStatus();
}

/// How a child ended, the most memory that it had resident, and its CPU time.
struct Ended {
  ExitStatus status;
  long peak_rss_kib = 0;
  std::uint64_t cpu_ms = 0;
};

/// Reaps one child of ours without waiting. False when it still runs, or can't be asked for just now. A child that
/// somebody else has reaped counts as ended in an unknown way.
inline bool reap(pid_t pid, Ended& ended) noexcept {
  int status = 0;
  struct rusage usage {};
  const pid_t result = retried("wait4", [&] { return ::wait4(pid, &status, WNOHANG | __WALL, &usage); });
  if (result == 0 || (result < 0 && errno != ECHILD)) return false;
  const auto ms = [](const timeval& time) { return static_cast<std::uint64_t>(time.tv_sec * 1000 + time.tv_usec / 1000); };
  ended = result == pid ? Ended{ExitStatus::from_wait(status), usage.ru_maxrss, ms(usage.ru_utime) + ms(usage.ru_stime)}
                        : Ended{};
  return true;
}

/// Kills what is left of the group that a child of ours has led, when the child has ended. False when it still runs. To
/// be called before the child is reaped: until then the group's number can't be another's. There is no later occasion, so
/// what is refused is tried twice.
inline bool kill_group_of_ended(pid_t leader) noexcept {
  siginfo_t info{};
  const auto look = [&] {
    return retried("waitid", [&] { return ::waitid(P_PID, static_cast<id_t>(leader), &info, WEXITED | WNOHANG | WNOWAIT); });
  };
  if (look() != 0 && (errno == ECHILD || look() != 0)) return true;  // somebody else has reaped it
  if (info.si_pid != leader) return false;
  const auto kill_group = [&] { return retried("kill", [&] { return ::kill(-leader, SIGKILL); }); };
  if (kill_group() != 0 && errno != ESRCH) kill_group();
  return true;
}

/// Ends this process when the thread that started it ends; to be called first thing in a child of a single-threaded
/// parent. False when the parent has gone already (the signal would never come).
inline bool die_with_parent(pid_t parent) noexcept {
  retried("prctl(PR_SET_PDEATHSIG)", [] { return ::prctl(PR_SET_PDEATHSIG, SIGKILL); });
  return ::getppid() == parent;
}

/// The name in ps and top, of which the kernel keeps 15 bytes: the end of a long `name` gives way to the suffix.
inline void name_process(std::string_view name, std::string_view suffix = {}) noexcept {
  std::array<char, 16> text{};
  const std::size_t room = text.size() - 1;
  suffix = suffix.substr(0, room);
  if (name.size() > room - suffix.size()) {
    std::size_t size = room - suffix.size();
    while (size != 0 && (name[size] & 0xc0) == 0x80) --size;  // no half of a character
    name = name.substr(0, size);
  }
  const auto end = std::copy(name.begin(), name.end(), text.begin());
  std::copy(suffix.begin(), suffix.end(), end);
  tried("prctl(PR_SET_NAME)", [&] { return ::prctl(PR_SET_NAME, text.data()); });
}

/// The same with a number.
inline void name_process(std::string_view name, std::uint64_t number) noexcept {
  std::array<char, 21> text{};
  std::size_t at = text.size();
  do text[--at] = static_cast<char>('0' + number % 10);
  while ((number /= 10) != 0);
  text[--at] = '-';
  name_process(name, std::string_view(text.data() + at, text.size() - at));
}

/// Sends a signal to a child that has not been reaped, so that its number can't be another's. False when refused.
inline bool signal_child(pid_t pid, int signal) noexcept {
  return retried("kill", [&] { return ::kill(pid, signal); }) == 0;
}

}  // namespace brood::detail
