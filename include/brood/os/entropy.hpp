// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include <brood/core/random_engine.hpp>
#include <brood/os/syscall.hpp>

namespace brood::inline v0_1::detail {

/// A number that nobody could have told before: the kernel's; where it gives none (a filter of system calls, no entropy yet),
/// one from clock, process and place in memory, which differs in each process and each call all the same.
inline std::uint64_t fresh_seed() noexcept {
  std::uint64_t seed = 0;
  if (retried("getrandom", [&] { return ::getrandom(&seed, sizeof seed, GRND_NONBLOCK); }) == sizeof seed) return seed;
  static std::atomic<std::uint64_t> calls{0};
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto time = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
  return philox4x64({time, static_cast<std::uint64_t>(::getpid()), calls.fetch_add(1), 0},
                    {reinterpret_cast<std::uintptr_t>(&now), reinterpret_cast<std::uintptr_t>(&calls)})[0];
}

}  // namespace brood::detail
