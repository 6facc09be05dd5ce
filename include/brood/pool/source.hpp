// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include <brood/policy/worker_policy.hpp>
#include <brood/pool/slot.hpp>
#include <brood/pool/task_queue.hpp>

namespace brood::inline v0_1::detail {

/// A server of a dispatcher, or a copy of the host for one call.
struct Source {
  enum class State : std::uint8_t { launching, ready, ended };
  std::uint32_t id = 0;
  bool snapshot = false;
  bool released = false;
  bool stopping = false;
  State state = State::launching;
  std::unique_ptr<WorkerSource> impl;
  std::chrono::steady_clock::time_point deadline;
  TaskQueue queue;            ///< of a snapshot
  std::exception_ptr cause;   ///< of its end
  bool useful = false;        ///< one of its workers has come up
  std::size_t live = 0;       ///< slots that one of its workers fills
  std::size_t outstanding = 0;
};

/// Where workers are given tasks; null: free. At most worker_count(), once those have left that were too many.
struct Places {
  std::vector<Slot*> slots;
  std::size_t taken = 0;
  std::size_t ever = 0;  ///< those that somebody has had
};

}  // namespace brood::detail
