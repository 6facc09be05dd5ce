// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include <brood/pool/dispatcher.hpp>

namespace brood::inline v0_1::detail {

/// A snapshot of the host, taken when this is made. It gets no further tasks when this is gone.
class SnapshotLease {
 public:
  SnapshotLease(std::shared_ptr<Dispatcher> dispatcher, const void* state)
      : dispatcher_(std::move(dispatcher)), id_(dispatcher_->launch_snapshot(state)) {}
  SnapshotLease(const SnapshotLease&) = delete;
  SnapshotLease& operator=(const SnapshotLease&) = delete;
  ~SnapshotLease() { dispatcher_->release_snapshot(id_); }

  std::uint32_t id() const noexcept { return id_; }

 private:
  std::shared_ptr<Dispatcher> dispatcher_;
  std::uint32_t id_;
};

}  // namespace brood::detail
