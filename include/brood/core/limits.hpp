// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

namespace brood {

/// What a worker, or one task, may use. What is not set stays as the server has it.
struct Limits {
  std::optional<std::uint64_t> address_space{};    ///< bytes (RLIMIT_AS); more is a std::bad_alloc in the task
  std::optional<std::chrono::seconds> cpu_time{};  ///< of CPU (RLIMIT_CPU): ends the worker with SIGXCPU
  std::optional<std::uint64_t> open_files{};       ///< descriptors (RLIMIT_NOFILE)
  std::optional<std::uint64_t> core_size{};        ///< bytes of a core dump (RLIMIT_CORE); 0: none is written
  std::optional<int> nice{};                       ///< -20 (first) to 19 (last)
  std::vector<unsigned> cpus{};                  ///< the CPUs that it may run on, by number; empty: as the server
  std::optional<int> oom_score_adj{};              ///< -1000 to 1000: whom the kernel kills first when memory runs out
  bool no_new_privs = false;                     ///< no program that it runs gains privileges (setuid bits)

  friend bool operator==(const Limits&, const Limits&) = default;
};

}  // namespace brood
