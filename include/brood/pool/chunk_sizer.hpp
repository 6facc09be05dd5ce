// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace brood::inline v0_1::detail {

/// How many items the next chunk takes.
class ChunkSizer {
 public:
  ChunkSizer(std::size_t fixed, unsigned workers) noexcept : fixed_(fixed), workers_(workers) {}

  /// The pool has another number of workers now.
  void share_among(unsigned workers) noexcept { workers_ = workers; }

  std::size_t next(std::optional<std::uint64_t> left) const noexcept {
    std::uint64_t size = fixed_ != 0 ? fixed_ : size_;
    if (fixed_ == 0 && left) size = std::min(size, std::max<std::uint64_t>(1, *left / (std::uint64_t{workers_} * 2)));
    return std::min<std::uint64_t>(size, max_size);
  }

  /// A chunk has come back: aim at chunks that take a little less than what is prefetched to a busy worker
  /// (Dispatcher::prefetch_depth), so that the next one is there when a worker is done; but grow step by step.
  void measured(std::uint64_t run_ns, std::uint32_t items) noexcept {
    if (items == 0) return;
    const std::uint64_t each = run_ns / items + 1;
    average_ns_ = average_ns_ == 0 ? each : average_ns_ - average_ns_ / 4 + each / 4;
    const std::uint64_t wanted = std::max<std::uint64_t>(1, target_ns / std::max<std::uint64_t>(1, average_ns_));
    size_ = std::min(wanted, size_ * 8);
  }

 private:
  static constexpr std::uint64_t target_ns = 400'000;
  static constexpr std::uint64_t max_size = std::uint64_t{1} << 16;

  std::size_t fixed_;
  unsigned workers_;
  std::uint64_t size_ = 1;
  std::uint64_t average_ns_ = 0;
};

}  // namespace brood::detail
