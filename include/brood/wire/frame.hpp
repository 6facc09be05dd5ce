// SPDX-License-Identifier: MIT
// internal
// What travels through the two pipes of a worker: frames, each a header of fixed size and `size` bytes of payload.
//
//   host → worker    setup    once, first: index, limits, hooks
//                    task     a call: {claim number}; payload: a TaskStream, then code, callable, arguments
//                    stop     finish and leave
//   worker → host    hello    once, first, when the worker's start hook has run
//                    result   the value of a task
//                    large    a result some of whose bytes lie in the worker's memory still (blocks.hpp); payload: the
//                             list of blocks, then the other bytes. The worker waits until the host has read them, or says
//                             that it wants a `result` (status_page.hpp)
//                    items    results of consecutive items of a chunked task; the last one ends the task, before
//                             all items are done if the host has halted it, or the worker is full
//                    post     wants a connection for descriptors (status_page.hpp); twice where the first way is refused
//                    failed   the task threw, or could not be decoded; payload: the failure as data
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include <brood/core/bytes.hpp>
#include <brood/core/errors.hpp>
#include <brood/os/pipe.hpp>

namespace brood::inline v0_1::detail {

enum class FrameType : std::uint16_t { setup = 1, task = 2, stop = 3, hello = 16, result = 17, items = 18, failed = 19, large = 20, post = 21 };

struct FrameHeader {
  static constexpr std::uint32_t magic_value = 0x646f7262;  // "brod"
  static constexpr std::uint16_t last = 1;                  // flag of `items`: the task is done
  static constexpr std::uint16_t timed = 1;                 // flag of `task`: the start of each item is wanted
  static constexpr std::uint16_t limited = 2;               // flag of `task`: limits of its own are in front of the call
  static constexpr std::uint16_t listed = 32;               // flag of `task`: large parts are to be read from the host
  static constexpr std::uint16_t reads_host = 8;            // flag of `hello`: the worker can do that
  static constexpr std::uint16_t full = 4;                  // flag of an answer: the worker has more memory than it may
  static constexpr std::uint16_t parting = 8;               // flag of `task`: the worker leaves when it has answered
  static constexpr std::uint16_t reported = 64;             // flag of an answer: the task has told of its progress
  static constexpr std::uint16_t spare = 16;                // flag of `setup`: there is time before the first task
  static constexpr std::uint16_t attached = 128;            // flag of `items`: the one that it has names descriptors

  std::uint32_t magic = magic_value;
  FrameType type{};
  std::uint16_t flags = 0;
  std::uint64_t task = 0;
  std::uint64_t size = 0;    ///< bytes of payload behind the header
  std::uint32_t first = 0;   ///< setup, task: the worker's place in its pool; items: the index of the first;
                             ///< result, large: how many descriptors were sent for it
  std::uint32_t count = 0;   ///< task, items: how many; a task of 0 items is a single call
  std::uint64_t number = 0;  ///< task: its claim number; result, items, failed: nanoseconds that the task has run; items that
                             ///< are attached: how many descriptors were sent
};
static_assert(sizeof(FrameHeader) == 40 && std::is_trivially_copyable_v<FrameHeader>);

/// In front of a task's call: which random numbers it draws.
struct TaskStream {
  std::uint64_t call = 0;        ///< its number among the calls of the pool; all chunks of a map have the same
  std::uint64_t first_item = 0;  ///< of a chunk: the index of its first item in the range
};
static_assert(sizeof(TaskStream) == 16 && std::is_trivially_copyable_v<TaskStream>);

/// A whole frame that was received.
struct Frame {
  FrameHeader header;
  Bytes payload;
};

/// Room for a header in front of a payload that is about to be written.
inline void begin_frame(Bytes& bytes) { std::memset(bytes.extend(sizeof(FrameHeader)), 0, sizeof(FrameHeader)); }

/// Fills in the header of a frame whose payload is complete.
inline void end_frame(Bytes& bytes, FrameHeader header) noexcept {
  header.size = bytes.size() - sizeof header;
  std::memcpy(bytes.data(), &header, sizeof header);
}

/// Puts frames together from bytes that arrive in any portions, for a handler with two members:
///
///   void admit(const FrameHeader&)   is the frame legal now? Throws if not. Called before memory is asked for.
///   void accept(Frame&&)             the frame is complete.
///
/// and, if it likes, `void dropped(const FrameHeader&)`: there was no memory for it, and it is over. Without, std::bad_alloc is thrown.
///
/// Memory is asked for as the bytes arrive. When something was thrown, nothing may be fed any more.
class FrameReader {
 public:
  /// Takes one portion of bytes, of any size.
  template <class Handler>
  void feed(std::span<const std::byte> bytes, Handler& handler) {
    while (!bytes.empty()) {
      if (header_size_ < sizeof(FrameHeader)) {
        const std::size_t taken = std::min(bytes.size(), sizeof(FrameHeader) - header_size_);
        std::memcpy(reinterpret_cast<std::byte*>(&frame_.header) + header_size_, bytes.data(), taken);
        header_size_ += taken;
        bytes = bytes.subspan(taken);
        if (header_size_ < sizeof(FrameHeader)) return;
        if (frame_.header.magic != FrameHeader::magic_value) throw ProtocolError("bytes that are no frame");
        handler.admit(frame_.header);
      } else {
        const std::size_t taken = std::min(bytes.size(), rest());
        keep<Handler>(bytes.first(taken));
        bytes = bytes.subspan(taken);
      }
      finish(handler);
    }
  }

  /// Where the next bytes may be received directly: a part of the rest of a large payload. Empty when there is none.
  template <class Handler>
  std::span<std::byte> direct_target(Handler&) {
    if (header_size_ < sizeof(FrameHeader) || dropping_ || rest() < direct_threshold) return {};
    const std::size_t portion = std::min(rest(), std::max(direct_step, frame_.payload.size()));
    try {
      frame_.payload.reserve(frame_.payload.size() + portion);
    } catch (const std::bad_alloc&) {
      if constexpr (!drops<Handler>) throw;
      drop();
      return {};
    }
    return {frame_.payload.data() + frame_.payload.size(), portion};
  }

  /// `count` bytes have been received into direct_target().
  template <class Handler>
  void commit_direct(std::size_t count, Handler& handler) {
    frame_.payload.extend(count);
    finish(handler);
  }

  /// Whether a frame has begun and is not complete.
  bool in_frame() const noexcept { return header_size_ != 0; }

 private:
  static constexpr std::size_t direct_threshold = std::size_t{64} << 10;
  static constexpr std::size_t direct_step = std::size_t{1} << 20;

  template <class Handler>
  static constexpr bool drops = requires(Handler& handler, const FrameHeader& header) { handler.dropped(header); };

  /// There is no memory for the frame that has begun: what comes of it is thrown away.
  void drop() noexcept {
    dropped_ += frame_.payload.size();
    frame_.payload = Bytes();
    dropping_ = true;
  }

  std::size_t rest() const noexcept { return static_cast<std::size_t>(frame_.header.size) - frame_.payload.size() - dropped_; }

  template <class Handler>
  void keep(std::span<const std::byte> bytes) {
    try {
      if (!dropping_) return frame_.payload.append(bytes.data(), bytes.size());
    } catch (const std::bad_alloc&) {
      if constexpr (!drops<Handler>) throw;
      drop();
    }
    dropped_ += bytes.size();
  }

  template <class Handler>
  void finish(Handler& handler) {
    if (rest() != 0) return;
    header_size_ = 0;
    dropped_ = 0;
    Frame complete = std::exchange(frame_, Frame{});
    if constexpr (drops<Handler>) {
      if (std::exchange(dropping_, false)) return handler.dropped(complete.header);
    }
    handler.accept(std::move(complete));
  }

  std::size_t header_size_ = 0;
  std::size_t dropped_ = 0;  ///< of the payload
  bool dropping_ = false;
  Frame frame_;
};

}  // namespace brood::detail
