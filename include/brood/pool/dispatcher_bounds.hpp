// SPDX-License-Identifier: MIT
// internal
// Dispatcher: how long it waits, how often it tries, how much it takes at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include <brood/wire/status_page.hpp>

namespace brood::inline v0_1::detail {

struct DispatcherBounds {
  static constexpr std::size_t scratch_size = std::size_t{256} << 10;
  static constexpr std::size_t max_prefetch = StatusPage::claim_count / 2;
  static constexpr std::uint64_t max_run_ns = 1'000'000'000;
  static constexpr unsigned max_launch_failures = 20;  ///< before the queue fails; one that is nobody else's doing counts
  static constexpr unsigned own_launch_failure = 4;    ///< as so many
  static constexpr unsigned max_start_failures = 30;  ///< before the queue fails; one that is nobody else's doing counts
  static constexpr unsigned own_start_failure = 5;    ///< as so many, one of a worker that had come up, and was idle, not at all
  static constexpr std::uint64_t short_run_ns = 10'000'000;  ///< where the start of a worker counts beside it
  static constexpr std::chrono::milliseconds spare_patience{1};  ///< with a spare worker's successor: its task comes first
  static constexpr std::size_t spares_at_once = 8;  ///< started in one turn: tasks must not wait for spare workers
  static constexpr std::chrono::milliseconds kill_patience{50};    ///< for a kill, where what becomes of the task is known
  static constexpr std::chrono::milliseconds end_patience{1'000};  ///< for a kill
  static constexpr std::chrono::milliseconds report_patience{600};  ///< for the server to report an end that was seen
  static constexpr std::chrono::milliseconds lost_patience{200};   ///< for one that has closed its pipe to end
  static constexpr std::chrono::milliseconds leave_patience{300};  ///< for servers that were told to leave
  static constexpr unsigned max_looks = 5;
  static constexpr std::size_t pipe_capacity = std::size_t{1} << 20;  ///< the most that a pipe holds
  static constexpr std::chrono::milliseconds patrol_interval{1'000};
  static constexpr unsigned max_unstarted_deaths = 5;  ///< of a task: what comes with it may be what ends its workers
};

}  // namespace brood::detail
