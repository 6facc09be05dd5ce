// SPDX-License-Identifier: MIT
// internal
// The host reads the large parts of a result from the memory of the worker that has made it, which waits meanwhile: one copy,
// and none where the result belongs in memory of the caller. It reads one bounded piece in each turn of the driver, so that no
// other worker waits for long, and without the dispatcher's lock.
//
// A process is named by its number, which may be another's as soon as its server has reaped it. So before the first piece the
// number is compared with that of the worker's pidfd, and after the last one the pidfd must say that the worker lives: then
// all was read from it. Without a pidfd the pipe is used.
//
// What can't be bounded here: a worker can have memory whose pages somebody else provides (userfaultfd, a file on a server that
// hangs); reading it takes as long as it takes.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <utility>

#include <brood/os/foreign_memory.hpp>
#include <brood/os/process.hpp>
#include <brood/pool/assembly.hpp>

namespace brood::inline v0_1::detail {

class Pull {
 public:
  enum class State : std::uint8_t {
    going,
    whole,          ///< all is here
    ended,          ///< the worker has ended before
    refused,        ///< the kernel does not let us, for whatever reason: by the pipe, then
    false_address,  ///< there is no such memory in the worker
    no_memory,      ///< in this process
  };

  static constexpr std::size_t stage_size = block_stage_size;

  Pull(std::uint32_t slot, std::uint64_t generation, LargeMessage message, Assembled made)
      : slot_(slot),
        generation_(generation),
        message_(std::move(message)),
        assembly_(std::move(made.assembly)),
        value_(std::move(made.value)) {
    if (!assembly_) assembly_.reset(new PartsAssembly(message_));
  }
  Pull(const Pull&) = delete;
  Pull& operator=(const Pull&) = delete;

  std::uint32_t slot() const noexcept { return slot_; }
  std::uint64_t generation() const noexcept { return generation_; }
  State state() const noexcept { return state_; }

  /// Reads the next piece. For the driver only, which does not hold the dispatcher's lock.
  void step(pid_t pid, int pidfd, std::span<std::byte> stage) noexcept {
    const std::lock_guard busy(busy_);
    if (state_ != State::going || aborted_) return;
    if (!known_) {
      const pid_t told = pid_of_pidfd(pidfd);
      known_ = told == pid;
      if (!known_) return void(state_ = has_ended(pidfd) ? State::ended : State::refused);
    }
    try {
      state_ = read_piece(pid, stage);
    } catch (const std::exception&) {
      state_ = State::no_memory;
    }
    if ((state_ == State::whole || state_ == State::refused) && has_ended(pidfd)) state_ = State::ended;
  }

  /// From when this returns, nothing is written any more. Waits for a piece that is being read.
  void abort() noexcept {
    const std::lock_guard busy(busy_);
    aborted_ = true;
  }

  // when it is whole

  LargeMessage& message() noexcept { return message_; }
  /// The value; null where it has to be decoded from the message.
  std::shared_ptr<void> value() const noexcept { return value_; }

 private:
  static constexpr std::size_t piece_size = std::size_t{512} << 10;

  State read_piece(pid_t pid, std::span<std::byte> stage) {
    std::size_t left = piece_size;
    while (at_ != message_.blocks.size()) {
      if (left == 0) return State::going;
      if (done_ == 0) {
        const Block& block = message_.blocks[at_];
        address_ = block.address;  // the assembly may put its own there
        std::byte last{};          // no memory for what the worker does not have
        if (read_memory_of(pid, address_ + block.size - 1, {&last, 1}) == EFAULT) return State::false_address;
        assembly_->begin(block.size);
      }
      const std::uint64_t rest = message_.blocks[at_].size - done_;
      const std::span<std::byte> room = assembly_->room(stage, static_cast<std::size_t>(rest));
      switch (read_memory_of(pid, address_ + done_, room)) {
        case 0: break;
        case EFAULT: return State::false_address;
        default: return State::refused;
      }
      assembly_->commit(room);
      done_ += room.size();
      left -= std::min(left, room.size());
      if (done_ == message_.blocks[at_].size) {
        ++at_;
        done_ = 0;
      }
    }
    return State::whole;
  }

  const std::uint32_t slot_;
  const std::uint64_t generation_;
  std::mutex busy_;
  LargeMessage message_;
  std::unique_ptr<Assembly> assembly_;
  std::shared_ptr<void> value_;
  State state_ = State::going;
  bool known_ = false;
  bool aborted_ = false;
  std::size_t at_ = 0;      ///< the block that is read
  std::uint64_t done_ = 0;  ///< bytes of it
  std::uint64_t address_ = 0;
};

/// A piece to be read, and from which process.
struct PullStep {
  std::shared_ptr<Pull> pull;
  pid_t pid = 0;
  int pidfd = -1;
};

}  // namespace brood::detail
