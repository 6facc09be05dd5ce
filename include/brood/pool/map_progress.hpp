// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <brood/pool/dispatcher.hpp>
#include <brood/pool/progress.hpp>

namespace brood::inline v0_1::detail {

/// Counts the items of one call, and tells whoever wants to know.
class MapProgress {
 public:
  MapProgress(Dispatcher& dispatcher, ProgressCallback callback) : dispatcher_(dispatcher), ticker_(std::move(callback)) {}

  std::optional<std::uint64_t> total;
  std::uint64_t done = 0;    ///< those that failed among them
  std::uint64_t failed = 0;

  /// The time since the beginning is counted from now on.
  void begin() noexcept { ticker_.begin(); }
  /// Nobody wants to know any more.
  void drop() noexcept { ticker_ = ProgressTicker(nullptr); }

  ProgressTicker::Clock::time_point next() const noexcept { return ticker_.next(); }
  bool due() const noexcept { return ticker_.due(); }

  /// `flying`: chunks that are not counted yet.
  void tell(std::span<const TaskPtr> flying = {}, bool finished = false) {
    if (!ticker_) return;
    Progress now;
    now.done = done;
    now.failed = failed;
    now.total = total;
    now.finished = finished;
    if (!flying.empty()) dispatcher_.add_progress(flying, now);
    ticker_.tell(now);
  }
  void finish() { tell({}, true); }

 private:
  Dispatcher& dispatcher_;
  ProgressTicker ticker_;
};

}  // namespace brood::detail
