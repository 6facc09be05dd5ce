// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <chrono>

namespace brood::inline v0_1::detail {

/// Now plus `time`, or the end of all time where that is later than the clock can say.
inline std::chrono::steady_clock::time_point time_after(std::chrono::milliseconds time) {
  using Clock = std::chrono::steady_clock;
  const auto now = Clock::now();
  return time > std::chrono::duration_cast<std::chrono::milliseconds>(Clock::time_point::max() - now) ? Clock::time_point::max()
                                                                                                   : now + time;
}

}  // namespace brood::detail
