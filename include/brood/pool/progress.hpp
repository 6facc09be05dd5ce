// SPDX-License-Identifier: MIT
// How a call that takes its time tells how far it has come: Pool::map, Pool::map_reduce, Pool::stream and their like,
// Pool::wait, Future::wait.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include <brood/core/task_progress.hpp>

namespace brood::inline v0_1 {

/// How far a call has come: the items of a map or a stream, the tasks of Pool::wait, or what a task says of itself
/// (Future::wait).
/// \snippet insight.cpp progress
struct Progress {
  std::uint64_t done = 0;              ///< items that are done, those that failed among them; never less than told before
  std::uint64_t failed = 0;            ///< of them, so far as is known: results are looked into some at a time
  double running = 0;                  ///< what items that run say of themselves, in items: one that is half done counts 0.5
  std::optional<std::uint64_t> total;  ///< none where the range does not know its size
  std::chrono::nanoseconds elapsed{0}; ///< since the call began
  bool finished = false;               ///< the last one: the call is over, because all is done or because an item failed

  /// From 0 to 1; 0 where the total is not known.
  double share() const noexcept {
    if (!total) return 0;
    if (*total == 0) return 1;
    return std::min(1.0, (static_cast<double>(done) + running) / static_cast<double>(*total));
  }
};

/// Is called by the thread that made the call: at its start, about ten times a second, and at its end. It may call anything.
/// What it throws ends the call, which throws it; items that have not started by then never will, tasks that were waited for go
/// on.
/// \snippet insight.cpp progress
using ProgressCallback = std::function<void(const Progress&)>;

namespace detail {

/// What a task says of itself, in the form in which calls tell it.
inline Progress as_progress(const TaskProgress& task, bool finished) {
  Progress now;
  now.done = task.done;
  if (task.total != 0) now.total = task.total;
  now.finished = finished;
  return now;
}

/// Tells one call's progress, and not too often.
class ProgressTicker {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds interval{100};

  explicit ProgressTicker(ProgressCallback callback) noexcept : callback_(std::move(callback)) { begin(); }

  void begin() noexcept {
    if (callback_) begin_ = Clock::now();
  }

  /// Whether anybody wants to know.
  explicit operator bool() const noexcept { return static_cast<bool>(callback_); }
  /// When it is to be told next; never, when nobody wants to know.
  Clock::time_point next() const noexcept { return next_; }
  bool due() const noexcept { return callback_ && Clock::now() >= next_; }

  /// Precondition: somebody wants to know. Throws what the callback throws.
  void tell(Progress progress) {
    const auto now = Clock::now();
    next_ = now + interval;
    progress.elapsed = now - begin_;
    progress.done = most_ = std::max(most_, progress.done);
    callback_(progress);
  }

 private:
  ProgressCallback callback_;
  Clock::time_point begin_{};
  Clock::time_point next_ = Clock::time_point::max();
  std::uint64_t most_ = 0;
};

}  // namespace detail
}  // namespace brood
