// SPDX-License-Identifier: MIT
// internal
// How a process takes limits on, and how much memory it has. For a worker: what is taken on stays.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include <brood/core/limits.hpp>
#include <brood/os/syscall.hpp>

namespace brood::inline v0_1::detail {

/// What a worker was told to take on and could not.
class NotTakenOn : public std::runtime_error {
 public:
  NotTakenOn(const std::string& what, const char* call, int error) : std::runtime_error(what), call_(call), error_(error) {}

  /// The system call that refused.
  const char* call() const noexcept { return call_; }
  int error() const noexcept { return error_; }

 private:
  const char* call_;
  int error_;
};

[[noreturn]] inline void refuse_limit(const std::string& member, const char* call, int error, const std::string& why = {}) {
  const char* const meaning = strerrordesc_np(error);
  throw NotTakenOn("could not take on Limits::" + member + ": " +
                       (why.empty() ? std::string(call) + ": " + (meaning != nullptr ? meaning : "unknown error") : why),
                   call, error);
}

// ---- memory --------------------------------------------------------------------------------------------------------

/// Bytes of this process: its address space, and what is resident of it, shared pages too.
struct OwnMemory {
  std::uint64_t address_space = 0;  ///< 0: not known
  std::uint64_t resident = 0;
};

/// From /proc/self/statm; where that can't be read, the most that has been resident.
inline OwnMemory own_memory() noexcept {
  std::array<char, 128> text{};
  const int fd = retried("open", [] { return ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC); });
  ssize_t size = -1;
  if (fd >= 0) {
    size = retried("read", [&] { return ::read(fd, text.data(), text.size()); });
    ::close(fd);
  }
  std::uint64_t pages = 0;
  std::uint64_t resident_pages = 0;
  const char* const end = text.data() + std::max<ssize_t>(size, 0);
  const auto first = std::from_chars(text.data(), end, pages);
  if (first.ec == std::errc() && first.ptr != end && std::from_chars(first.ptr + 1, end, resident_pages).ec == std::errc()) {
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return {pages * page, resident_pages * page};
  }
  struct rusage usage {};
  tried("getrusage", [&] { return ::getrusage(RUSAGE_SELF, &usage); });
  return {0, static_cast<std::uint64_t>(usage.ru_maxrss) * 1024};
}

/// Lifts the soft limit of the address space for as long as it lives: what is to be said about a task that has used it
/// up needs some itself.
class AddressSpaceLifted {
 public:
  explicit AddressSpaceLifted(bool wanted) noexcept {
    if (!wanted || tried("getrlimit", [&] { return ::getrlimit(RLIMIT_AS, &before_); }) != 0) return;
    const rlimit lifted{before_.rlim_max, before_.rlim_max};
    lifted_ = tried("setrlimit", [&] { return ::setrlimit(RLIMIT_AS, &lifted); }) == 0;
  }
  AddressSpaceLifted(const AddressSpaceLifted&) = delete;
  AddressSpaceLifted& operator=(const AddressSpaceLifted&) = delete;
  ~AddressSpaceLifted() {
    if (lifted_) tried("setrlimit", [&] { return ::setrlimit(RLIMIT_AS, &before_); });
  }

 private:
  rlimit before_{};
  bool lifted_ = false;
};

// ---- limits --------------------------------------------------------------------------------------------------------

/// Both limits of a resource; `hard_too` false: the hard one only where it would be below the soft one.
template <class Resource>
void set_resource(const char* member, Resource resource, std::uint64_t value, bool hard_too) {
  const rlim_t wanted = value;
  rlimit now{};
  tried("getrlimit", [&] { return ::getrlimit(resource, &now); });
  const rlimit next{wanted, hard_too ? wanted : std::max(wanted, now.rlim_max)};
  if (tried("setrlimit", [&] { return ::setrlimit(resource, &next); }) == 0) return;
  refuse_limit(member + (" = " + std::to_string(value)), "setrlimit", errno);
}

inline void limit_address_space(std::uint64_t bytes) {
  if (const std::uint64_t used = own_memory().address_space; used > bytes) {
    refuse_limit("address_space = " + std::to_string(bytes), "setrlimit", ENOMEM,
                 "the worker has " + std::to_string(used) + " bytes already");
  }
  set_resource("address_space", RLIMIT_AS, bytes, false);
}

/// From now on. Returns the CPU time of the process, in whole seconds, at which SIGXCPU comes. A limit that is there
/// already and is lower stays.
inline std::uint64_t limit_cpu_time(std::chrono::seconds time) {
  constexpr std::uint64_t ages = std::uint64_t{1} << 40;
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  const std::uint64_t spent = static_cast<std::uint64_t>(used.tv_sec) + (used.tv_nsec != 0 ? 1 : 0);
  rlimit now{};
  tried("getrlimit", [&] { return ::getrlimit(RLIMIT_CPU, &now); });
  const rlim_t soft = spent + std::min<std::uint64_t>(static_cast<std::uint64_t>(time.count()), ages);
  const rlimit next{std::min(soft, now.rlim_cur), std::min(soft + 1, now.rlim_max)};
  if (tried("setrlimit", [&] { return ::setrlimit(RLIMIT_CPU, &next); }) == 0) return next.rlim_cur;
  refuse_limit("cpu_time = " + std::to_string(time.count()) + " s", "setrlimit", errno);
}

/// A set of CPUs of any size.
class CpuSet {
 public:
  explicit CpuSet(std::size_t cpus) : size_(CPU_ALLOC_SIZE(cpus)), set_(CPU_ALLOC(cpus)) {
    if (set_ == nullptr) throw std::bad_alloc();
    CPU_ZERO_S(size_, set_.get());
  }

  void add(unsigned cpu) noexcept { CPU_SET_S(cpu, size_, set_.get()); }
  bool has(unsigned cpu) const noexcept { return CPU_ISSET_S(cpu, size_, set_.get()); }

  bool set_affinity() const noexcept {
    return tried("sched_setaffinity", [&] { return ::sched_setaffinity(0, size_, set_.get()); }) == 0;
  }
  bool get_affinity() noexcept {
    return tried("sched_getaffinity", [&] { return ::sched_getaffinity(0, size_, set_.get()); }) == 0;
  }

 private:
  struct Free {
    void operator()(cpu_set_t* set) const noexcept { CPU_FREE(set); }
  };
  std::size_t size_;
  std::unique_ptr<cpu_set_t, Free> set_;
};

/// The kernel takes those that it may use and is silent about the others; all or none is meant here.
inline void limit_cpus(const std::vector<unsigned>& cpus) {
  std::string text;
  for (const unsigned cpu : cpus) text += (text.empty() ? "" : ", ") + std::to_string(cpu);
  const std::string member = "cpus = {" + text + "}";
  std::size_t room = std::size_t{*std::max_element(cpus.begin(), cpus.end())} + 1;
  CpuSet wanted(room);
  for (const unsigned cpu : cpus) wanted.add(cpu);
  if (!wanted.set_affinity()) refuse_limit(member, "sched_setaffinity", errno);
  for (room = std::max<std::size_t>(room, 1024);; room *= 2) {
    CpuSet got(room);
    if (!got.get_affinity()) {
      if (errno == EINVAL && room < (std::size_t{1} << 22)) continue;  // the kernel's sets are larger
      refuse_limit(member, "sched_getaffinity", errno);
    }
    for (const unsigned cpu : cpus) {
      if (got.has(cpu)) continue;
      refuse_limit(member, "sched_setaffinity", EINVAL, "this process may not run on CPU " + std::to_string(cpu));
    }
    return;
  }
}

inline void set_oom_score_adj(int value) {
  const std::string member = "oom_score_adj = " + std::to_string(value);
  const int fd = retried("open", [] { return ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); });
  if (fd < 0) refuse_limit(member, "open", errno, std::string("open(/proc/self/oom_score_adj): ") + std::strerror(errno));
  const std::string text = std::to_string(value);
  const bool written = retried("write", [&] { return ::write(fd, text.data(), text.size()); }) >= 0;
  const int error = errno;
  ::close(fd);
  if (!written) refuse_limit(member, "write", error, std::string("write(/proc/self/oom_score_adj): ") + std::strerror(error));
}

/// Takes on every limit that is set, or throws NotTakenOn with what it could not take on; those before it stay. Returns
/// the CPU time of the process, in seconds, at which it will have used up its share; 0: none.
inline std::uint64_t take_on(const Limits& limits) {
  std::uint64_t cpu_end = 0;
  if (limits.oom_score_adj) set_oom_score_adj(*limits.oom_score_adj);
  if (limits.nice && tried("setpriority", [&] { return ::setpriority(PRIO_PROCESS, 0, *limits.nice); }) != 0) {
    refuse_limit("nice = " + std::to_string(*limits.nice), "setpriority", errno);
  }
  if (!limits.cpus.empty()) limit_cpus(limits.cpus);
  if (limits.core_size) set_resource("core_size", RLIMIT_CORE, *limits.core_size, true);
  if (limits.no_new_privs &&
      tried("prctl(PR_SET_NO_NEW_PRIVS)", [] { return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }) != 0) {
    refuse_limit("no_new_privs", "prctl", errno);
  }
  if (limits.cpu_time) cpu_end = limit_cpu_time(*limits.cpu_time);
  if (limits.address_space) limit_address_space(*limits.address_space);
  if (limits.open_files) set_resource("open_files", RLIMIT_NOFILE, *limits.open_files, true);
  return cpu_end;
}

/// Becomes the leader of a process group of its own.
inline void lead_group() {
  if (tried("setpgid", [&] { return ::setpgid(0, 0); }) == 0) return;
  const int error = errno;
  throw NotTakenOn(std::string("could not lead a process group (PoolOptions::kill_tree): setpgid: ") + std::strerror(error),
                   "setpgid", error);
}

}  // namespace brood::detail
