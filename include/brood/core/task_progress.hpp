// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace brood::inline v0_1 {

/// How far a task has come, by its own account: the numbers of its last this_task::progress(done, total).
/// \snippet reference.cpp Future::progress
struct TaskProgress {
  std::uint64_t done = 0;   ///< in whatever unit the task counts
  std::uint64_t total = 0;  ///< 0: the task has told nothing, or does not know

  /// From 0 to 1; 0 where the total is not known.
  double share() const noexcept {
    if (total == 0) return 0;
    return done >= total ? 1 : static_cast<double>(done) / static_cast<double>(total);
  }
  /// Whether both numbers are the same.
  friend bool operator==(const TaskProgress&, const TaskProgress&) = default;
};

}  // namespace brood
