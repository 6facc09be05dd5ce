// SPDX-License-Identifier: MIT
// What the modes share: what the host has, memory that tasks and host share, kills that hit the right process, hosts to
// be killed.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include <brood/brood.hpp>

#include "chaos/ours.hpp"
#include "chaos/watchdog.hpp"
#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/proc.hpp"

namespace chaos {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

inline double ms_since(Clock::time_point then) {
  return std::chrono::duration<double, std::milli>(Clock::now() - then).count();
}

/// The task of a future whose result is a number.
brood::detail::TaskPtr task_of(const brood::Future<std::uint64_t>& future);

/// Processes of ours, zombies among them, descriptors, threads, mappings of shared memory.
inline std::set<std::string> belongings() {
  std::set<std::string> found;
  for (const std::string& each : support::own_descriptors()) found.insert("descriptor " + each);
  for (const auto& each : support::all_processes()) {
    if (each.state == 'Z' && each.parent != ::getpid()) continue;  // for init to reap
    if (!is_ours(each)) continue;
    found.insert("process " + std::to_string(each.pid) + " (" + each.name + ", child of " + std::to_string(each.parent) + ")");
  }
  for (const int thread : support::numbers_in("/proc/self/task")) found.insert("thread " + std::to_string(thread));
  std::istringstream maps(support::read_text("/proc/self/maps"));
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:") != std::string::npos) found.insert("mapping " + line);
  }
  return found;
}

/// An ended thread is listed for a moment longer, and so is a killed process.
inline std::chrono::milliseconds leaving_patience = 3s;

/// What is there now and was not before.
inline std::set<std::string> left_behind(const std::set<std::string>& before) {
  std::set<std::string> more;
  support::eventually(
      [&] {
        more.clear();
        for (const std::string& each : belongings()) {
          if (!before.contains(each)) more.insert(each);
        }
        return more.empty();
      },
      leaving_patience);
  return more;
}

template <class Report>
void report_left_behind(Report& report, const std::set<std::string>& left) {
  for (const std::string& each : left) report.say("left behind: " + each);
  report.count("left behind", static_cast<double>(left.size()));
}

/// An array in a file that all processes share; tasks open it by its path.
template <class T>
class SharedArray {
 public:
  SharedArray(std::string path, std::size_t count) : path_(std::move(path)), count_(count) {
    const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const std::size_t bytes = count_ * sizeof(T);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) throw std::runtime_error(path_ + " can't be written");
    void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    if (memory == MAP_FAILED) throw std::runtime_error(path_ + " can't be mapped");
    items_ = static_cast<std::atomic<T>*>(memory);
  }
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;
  ~SharedArray() {
    ::munmap(items_, count_ * sizeof(T));
    ::unlink(path_.c_str());
  }

  const std::string& path() const noexcept { return path_; }
  std::size_t size() const noexcept { return count_; }
  std::atomic<T>& operator[](std::size_t at) const noexcept { return items_[at]; }

 private:
  static_assert(sizeof(std::atomic<T>) == sizeof(T));
  std::string path_;
  std::size_t count_;
  std::atomic<T>* items_ = nullptr;
};

inline std::string own_file(const char* what) {
  return "/tmp/brood_chaos_" + std::to_string(::getpid()) + "_" + what;
}

/// Sends a signal to a child of `parent`, and to no other process that has come to its number. Whether it did.
inline bool signal_child_of(pid_t parent, pid_t pid, int signal = SIGKILL) {
  const brood::detail::Fd pidfd = brood::detail::open_pidfd(pid);
  if (!pidfd) return false;
  const auto info = support::process_info(pid);
  return info && info->parent == parent && info->state != 'Z' && brood::detail::signal_pidfd(pidfd.get(), signal);
}

/// A child that plays a host, in a process group of its own, and with a mark of its own: whatever it starts can be found by
/// its number.
template <class Body>
pid_t fork_host(Body body) {
  std::fflush(nullptr);
  const pid_t host = ::fork();
  if (host == 0) {
    ::setpgid(0, 0);
    mark_host();
    brood::detail::helper_threads.store(0);  // they are the parent's
    Watchdog::one = nullptr;
    body();
    std::fflush(nullptr);
    ::_exit(0);
  }
  ::setpgid(host, host);  // whoever comes first
  return host;
}

/// How a host ended that counts its rounds; the watchdog hears of each.
inline brood::ExitStatus end_of_host(pid_t host, const std::atomic<unsigned>& rounds, const char* what) {
  int status = 0;
  unsigned seen = ~0U;
  while (::waitpid(host, &status, WNOHANG) == 0) {
    if (seen != rounds) {
      seen = rounds;
      Watchdog::beat(what, seen);
    }
    std::this_thread::sleep_for(1ms);
  }
  ::kill(-host, SIGKILL);  // nothing, unless the host was ended
  return brood::ExitStatus::from_wait(status);
}

/// A fault: a process that has left its parent, its group and its session, and never ends.
inline pid_t leave_orphan() {
  const support::Shared<std::atomic<pid_t>> orphan;
  const pid_t between = ::fork();
  if (between == 0) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::setsid();
      *orphan = ::getpid();
      for (;;) ::pause();
    }
    while (child > 0 && *orphan == 0) ::usleep(100);
    ::_exit(0);
  }
  ::waitpid(between, nullptr, 0);
  return *orphan;
}

/// The memory that a process has resident, in KiB; 0 when it is gone.
inline double resident_kib(pid_t pid) {
  std::istringstream file(support::read_text("/proc/" + std::to_string(pid) + "/statm"));
  double all = 0;
  double resident = 0;
  file >> all >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1024;
}

}  // namespace chaos
