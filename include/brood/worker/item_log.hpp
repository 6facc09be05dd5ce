// SPDX-License-Identifier: MIT
// internal
// Where the results of a chunk's items go, and how a worker writes to its result pipe.
#pragma once

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include <brood/os/own_process.hpp>
#include <brood/os/pipe.hpp>
#include <brood/wire/frame.hpp>
#include <brood/wire/status_page.hpp>
#include <brood/worker/context.hpp>
#include <brood/worker/leave.hpp>
#include <brood/worker/limits.hpp>

namespace brood::inline v0_1::detail {

inline std::uint64_t monotonic_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

/// The result pipe, to be known again: a task may close every descriptor, and open its own under our number.
class PipeIdentity {
 public:
  explicit PipeIdentity(int fd) noexcept : fd_(fd) { known_ = tried("fstat", [&] { return ::fstat(fd, &info_); }) == 0; }

  /// Ends the worker when the descriptor is not what it was: nothing of ours may get into the task's files.
  void require() const noexcept {
    struct stat now {};
    const bool found = tried("fstat", [&] { return ::fstat(fd_, &now); }) == 0;
    if (known_ && found && now.st_ino == info_.st_ino && now.st_dev == info_.st_dev) return;
    ::_exit(exit_code_of_broken_worker);
  }

 private:
  int fd_;
  struct stat info_ {};
  bool known_ = false;
};

/// Writes all of it to a pipe that blocks. False when nobody reads any more.
inline bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const Moved moved = write_some(fd, bytes);
    if (moved.ended) return false;
    bytes = bytes.subspan(moved.bytes);
  }
  return true;
}

/// Sends the descriptors that an item's result names.
class ItemDescriptors {
 public:
  /// Returns how many. Throws SerializationError.
  virtual std::uint32_t send() = 0;
  /// The host is about to hear of them.
  virtual void announce() noexcept = 0;
  /// Waits until it has them.
  virtual void wait_until_taken() noexcept = 0;

 protected:
  ~ItemDescriptors() = default;
};

/// Collects the results of a chunk's items in the log, and sends them when it is full.
///
/// On the wire and in the log: for each item a word (failed in the lowest bit, size above it), then its bytes. A result that names
/// descriptors is sent at once, and waits until the host has these: so few are under way, and none is in the log alone.
class ItemLog final : public ItemSink {
 public:
  ItemLog(StatusPage& page, int results, const PipeIdentity& identity, FrameHeader task, const OwnProcess& worker,
          MemoryWatch& memory, ItemDescriptors& descriptors) noexcept
      : page_(page),
        results_(results),
        identity_(identity),
        task_(task),
        worker_(worker),
        memory_(memory),
        descriptors_(descriptors) {}

  bool start() override {
    if (full_) return false;  // the rest of the chunk goes to another worker
    if ((task_.flags & FrameHeader::timed) != 0) page_.started_ns.store(monotonic_ns(), std::memory_order_relaxed);
    page_.progress.report(0, 0);  // what the item before has said
    return page_.start_item();
  }

  void finish(bool failed, std::span<const std::byte> bytes) override {
    if (!worker_.same()) ::_exit(0);  // the item forked, and the child has come back here: its twin goes on
    const std::uint64_t word = std::uint64_t{bytes.size()} << 1 | (failed ? 1U : 0U);
    const std::size_t needed = sizeof word + bytes.size();
    if (needed > StatusPage::log_capacity - used_) flush(0);
    if (needed > StatusPage::log_capacity || passed_ != 0) {
      flush(0);
      const std::uint32_t passed = std::exchange(passed_, 0);
      if (passed != 0) descriptors_.announce();
      send(passed != 0 ? FrameHeader::attached : 0, 1, {std::as_bytes(std::span(&word, 1)), bytes}, passed);
      first_ = ++done_;
      publish();
      if (passed != 0) descriptors_.wait_until_taken();
      full_ = memory_.full();
      return;
    }
    std::memcpy(page_.log() + used_, &word, sizeof word);
    if (!bytes.empty()) std::memcpy(page_.log() + used_ + sizeof word, bytes.data(), bytes.size());
    used_ += needed;
    ++done_;
    publish();
    full_ = memory_.full();
  }

  void amend(bool failed, std::span<const std::byte> bytes) override {
    used_ -= sizeof(std::uint64_t);  // it is the last in the log: what has no bytes is never sent at once
    --done_;
    publish();
    finish(failed, bytes);
  }

  void pass_descriptors() override {
    if (!worker_.same()) ::_exit(0);
    passed_ = descriptors_.send();
  }

  /// Sends what is left and ends the task.
  void end(std::uint64_t started_ns) {
    flush(FrameHeader::last | (full_ ? FrameHeader::full : 0), monotonic_ns() - started_ns);
  }

  std::uint32_t done() const noexcept { return done_; }

 private:
  void publish() noexcept {
    page_.items_done.store(std::uint64_t{done_} << 32 | used_, std::memory_order_release);
  }

  void flush(std::uint16_t flags, std::uint64_t number = 0) {
    if (used_ == 0 && flags == 0) return;
    send(flags, done_ - first_, {std::span<const std::byte>(page_.log(), used_), {}}, number);
    first_ = done_;
    used_ = 0;
    publish();
  }

  void send(std::uint16_t flags, std::uint32_t count, std::array<std::span<const std::byte>, 2> parts, std::uint64_t number) {
    FrameHeader header;
    header.type = FrameType::items;
    header.flags = flags;
    header.task = task_.task;
    header.size = parts[0].size() + parts[1].size();
    header.first = first_;
    header.count = count;
    header.number = number;
    identity_.require();
    if (!write_all(results_, std::as_bytes(std::span(&header, 1))) || !write_all(results_, parts[0]) ||
        !write_all(results_, parts[1])) {
      leave(0);
    }
  }

  StatusPage& page_;
  int results_;
  const PipeIdentity& identity_;
  FrameHeader task_;
  const OwnProcess& worker_;
  MemoryWatch& memory_;
  ItemDescriptors& descriptors_;
  std::uint32_t passed_ = 0;  ///< descriptors of the item that is about to be finished
  bool full_ = false;
  std::uint32_t first_ = 0;
  std::uint32_t done_ = 0;
  std::size_t used_ = 0;
};

}  // namespace brood::detail
