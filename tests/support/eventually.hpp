// SPDX-License-Identifier: MIT
#pragma once

#include <time.h>

#include <chrono>

namespace support {

/// Waits until the condition holds. False when it still does not after a bound that is far beyond what a loaded machine
/// needs: a watchdog, not a measurement.
template <class Condition>
bool eventually(Condition condition, std::chrono::milliseconds bound = std::chrono::seconds(60)) {
  const auto until = std::chrono::steady_clock::now() + bound;
  for (;;) {
    if (condition()) return true;
    if (std::chrono::steady_clock::now() >= until) return condition();
    timespec moment{0, 1'000'000};
    ::nanosleep(&moment, nullptr);
  }
}

}  // namespace support
