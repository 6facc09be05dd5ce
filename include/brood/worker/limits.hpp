// SPDX-License-Identifier: MIT
// internal
// Limits on the wire, and what a worker watches of itself.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <brood/os/limits.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/writer.hpp>

namespace brood::inline v0_1::detail {

inline void write_limits(Writer& out, const Limits& limits) {
  const auto put = [&](const auto& value) {
    out.number(value.has_value());
    if (value) out.number(*value);
  };
  put(limits.address_space);
  out.number(limits.cpu_time.has_value());
  if (limits.cpu_time) out.number<std::int64_t>(limits.cpu_time->count());
  put(limits.open_files);
  put(limits.core_size);
  put(limits.nice);
  out.count(limits.cpus.size());
  for (const unsigned cpu : limits.cpus) out.number(cpu);
  put(limits.oom_score_adj);
  out.number(limits.no_new_privs);
}

inline Limits read_limits(Reader& in) {
  const auto take = [&]<class T>(std::optional<T>& value) {
    if (in.number<bool>()) value = in.number<T>();
  };
  Limits limits;
  take(limits.address_space);
  if (in.number<bool>()) limits.cpu_time = std::chrono::seconds(in.number<std::int64_t>());
  take(limits.open_files);
  take(limits.core_size);
  take(limits.nice);
  for (std::size_t left = in.count(sizeof(unsigned)); left != 0; --left) limits.cpus.push_back(in.number<unsigned>());
  take(limits.oom_score_adj);
  limits.no_new_privs = in.number<bool>();
  return limits;
}

/// Whether this process has more memory resident than it may. Looks once in a millisecond at most: a look costs some
/// microseconds, and in a millisecond no process grows by much.
class MemoryWatch {
 public:
  /// 0: never full. Throws NotTakenOn when the process is beyond it already: it would be replaced after each task.
  void set_limit(std::uint64_t bytes) {
    limit_ = bytes;
    if (bytes == 0) return;
    const std::uint64_t resident = own_memory().resident;
    if (resident <= bytes) return;
    throw NotTakenOn("has " + std::to_string(resident) + " bytes resident before its first task, more than " +
                         "PoolOptions::memory_per_worker (" + std::to_string(bytes) +
                         "); raise it, or 0 for no limit",
                     "memory_per_worker", 0);
  }

  bool full() noexcept {
    if (limit_ == 0 || full_) return full_;
    const auto now = std::chrono::steady_clock::now();
    if (now - looked_ < std::chrono::milliseconds(1)) return false;
    looked_ = now;
    return full_ = own_memory().resident > limit_;
  }

 private:
  std::uint64_t limit_ = 0;
  std::chrono::steady_clock::time_point looked_{};
  bool full_ = false;
};

}  // namespace brood::detail
