// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

namespace brood::inline v0_1::detail {

/// When a worker is to be looked at next.
struct SlotTimer {
  std::chrono::steady_clock::time_point when;
  std::uint32_t index;
  std::uint64_t generation;

  bool operator<(const SlotTimer& other) const noexcept {
    if (when != other.when) return when < other.when;
    return index != other.index ? index < other.index : generation < other.generation;
  }
};

/// The timers of all workers, the earliest first. Their memory is asked for beforehand: a deadline that is kept by killing a
/// worker must not want for memory.
class SlotTimers {
 public:
  using Clock = std::chrono::steady_clock;

  /// Room for `count` more. Throws std::bad_alloc.
  void reserve(std::size_t count) {
    free_.reserve(free_.size() + set_.size() + count);
    for (std::set<SlotTimer> made; count > 0; --count) {
      made.insert(SlotTimer{});
      free_.push_back(made.extract(made.begin()));
    }
  }
  /// Throws std::bad_alloc when there are more than were reserved.
  void add(const SlotTimer& timer) {
    if (free_.empty()) reserve(1);
    free_.back().value() = timer;
    auto added = set_.insert(std::move(free_.back()));
    free_.pop_back();
    if (!added.inserted) free_.push_back(std::move(added.node));  // there is room: it was here
  }
  void remove(const SlotTimer& timer) noexcept {
    const auto at = set_.find(timer);
    if (at != set_.end()) free_.push_back(set_.extract(at));
  }

  /// The earliest; the end of time when there is none.
  Clock::time_point next() const noexcept { return set_.empty() ? Clock::time_point::max() : set_.begin()->when; }
  /// Precondition: there is one.
  SlotTimer pop() noexcept {
    const SlotTimer timer = *set_.begin();
    free_.push_back(set_.extract(set_.begin()));
    return timer;
  }

 private:
  std::set<SlotTimer> set_;
  std::vector<std::set<SlotTimer>::node_type> free_;  ///< its capacity is enough for all
};

}  // namespace brood::detail
