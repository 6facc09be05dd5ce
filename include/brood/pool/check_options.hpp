// SPDX-License-Identifier: MIT
// internal
// Refuses options that make no sense where they are given, with std::invalid_argument.
#pragma once

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>

#include <brood/core/config.hpp>
#include <brood/os/cpus.hpp>
#include <brood/pool/options.hpp>

namespace brood::inline v0_1::detail {

/// Throw std::invalid_argument, with the name of the member.
BROOD_INLINE void check_options(const PoolOptions& options);
BROOD_INLINE void check_options(const TaskOptions& options);
BROOD_INLINE void check_options(const MapOptions& options);
BROOD_INLINE void check_options(const StreamOptions& options);

#if BROOD_BODIES

[[noreturn]] BROOD_INLINE void refuse_option(const std::string& member, const std::string& value, const std::string& wanted) {
  throw std::invalid_argument("brood: " + member + " is " + value + "; " + wanted);
}

BROOD_INLINE void check_time(const char* member, std::chrono::milliseconds time) {
  if (time.count() < 0) refuse_option(member, std::to_string(time.count()) + " ms", "a time can't be negative");
}

/// `owner`: the member that holds them.
BROOD_INLINE void check_limits(const std::string& owner, const Limits& limits) {
  const auto between = [&](const char* name, const std::optional<int>& value, int low, int high) {
    if (!value || (*value >= low && *value <= high)) return;
    refuse_option(owner + " (Limits::" + name + ")", std::to_string(*value),
                  "it must be from " + std::to_string(low) + " to " + std::to_string(high));
  };
  between("nice", limits.nice, -20, 19);
  between("oom_score_adj", limits.oom_score_adj, -1000, 1000);
  if (limits.cpu_time && limits.cpu_time->count() <= 0) {
    refuse_option(owner + " (Limits::cpu_time)", std::to_string(limits.cpu_time->count()) + " s",
                  "it must be one second or more; leave it out for no limit");
  }
  if (limits.cpus.empty()) return;
  static const unsigned highest = highest_cpu();
  for (const unsigned cpu : limits.cpus) {
    if (cpu > highest) {
      refuse_option(owner + " (Limits::cpus)", "CPU " + std::to_string(cpu),
                    "this machine numbers its CPUs from 0 to " + std::to_string(highest));
    }
  }
}

inline constexpr unsigned most_workers = 1'000'000;  // far beyond what a machine has room for, and what the pool can number

BROOD_INLINE void check_workers(const char* member, unsigned value) {
  if (value > most_workers) {
    refuse_option(member, std::to_string(value), "it can't be more than " + std::to_string(most_workers));
  }
}

BROOD_INLINE void check_options(const PoolOptions& options) {
  check_time("PoolOptions::task_timeout", options.task_timeout);
  check_time("PoolOptions::start_timeout", options.start_timeout);
  check_time("PoolOptions::stop_grace", options.stop_grace);
  if (options.start_timeout.count() == 0) {
    refuse_option("PoolOptions::start_timeout", "0 ms", "nothing comes up in no time; milliseconds::max() is no limit at all");
  }
  check_time("PoolOptions::idle_timeout", options.idle_timeout);
  check_workers("PoolOptions::workers", options.workers);
  check_workers("PoolOptions::spares", options.spares);
  if (options.max_message_bytes == 0) {
    refuse_option("PoolOptions::max_message_bytes", "0", "no call fits into that; leave it out for a limit that nobody meets");
  }
  check_limits("PoolOptions::limits", options.limits);
  for (const std::string& each : options.environment) {
    if (each.empty() || each[0] == '=' || each.find('\0') != std::string::npos) {
      refuse_option("PoolOptions::environment", '"' + each.substr(0, each.find('\0')) + '"',
                    "it must be NAME=value, or NAME to take it away, without a zero byte");
    }
  }
}

BROOD_INLINE void check_options(const TaskOptions& options) {
  check_time("TaskOptions::timeout", options.timeout);
  check_limits("TaskOptions::limits", options.limits);
}

BROOD_INLINE void check_options(const MapOptions& options) { check_time("MapOptions::timeout", options.timeout); }

BROOD_INLINE void check_options(const StreamOptions& options) {
  check_time("StreamOptions::timeout", options.timeout);
  check_time("StreamOptions::exit_grace", options.exit_grace);
}

#endif  // BROOD_BODIES

}  // namespace brood::detail
