// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

namespace brood::inline v0_1 {

/// What a worker, or one task, may use. What is not set stays as the server has it. Processes that a task starts inherit
/// all of it; CPU time counts anew in each. A bound on accidents, not a sandbox.
/// \snippet reference.cpp Limits
struct Limits {
  /// Bytes of address space (RLIMIT_AS, the soft limit); more is a std::bad_alloc in the task. A program with
  /// AddressSanitizer has terabytes of it to begin with.
  std::optional<std::uint64_t> address_space{};
  /// CPU time (RLIMIT_CPU) of the worker in its whole life, or of the task from its start, rounded up to whole seconds.
  /// At its end SIGXCPU ends the worker (WorkerDied); a task that ignores it is killed a second later.
  std::optional<std::chrono::seconds> cpu_time{};
  /// The number that a new descriptor must be below (RLIMIT_NOFILE, soft and hard).
  std::optional<std::uint64_t> open_files{};
  /// Bytes of a core dump (RLIMIT_CORE, soft and hard); 0: none is written.
  std::optional<std::uint64_t> core_size{};
  /// -20 (first) to 19 (last). Less than the server has needs a privilege.
  std::optional<int> nice{};
  /// The CPUs that it may run on, by number; empty: as the server.
  std::vector<unsigned> cpus{};
  /// -1000 to 1000: whom the kernel kills first when memory runs out. Less than the server has needs a privilege.
  std::optional<int> oom_score_adj{};
  /// No program that it runs gains privileges (setuid bits).
  bool no_new_privs = false;

  /// Whether both bound the same in the same way.
  friend bool operator==(const Limits&, const Limits&) = default;
};

}  // namespace brood
