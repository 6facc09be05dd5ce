// SPDX-License-Identifier: MIT
// internal
// What host and server say to each other: packets of one fixed header and a short text, over the control socket.
//
//   host → server    start      start a worker for this ticket; with its task pipe, result pipe and status memory, and
//                               the pipe that takes its output where that is captured; value: 1 if its process group is
//                               to be killed with it
//                    kill       kill the worker of this ticket (where the host has no pidfd)
//                    stop       no more workers; leave when the last has ended
//   server → host    hello      number: pid; text: the build identity
//                    mismatch   the image is not the host's; text: why. The server leaves.
//                    building   number: the index of the Preload that it is about to build
//                    built      number: its index, value: nanoseconds; text: what it left behind, one thing a line
//                    failed     number: the index of the Preload that failed; text: why. The server leaves.
//                    ready      workers can be started
//                    started    number: pid; with the pidfd where there is one
//                    unstarted  number: errno; text: the step that failed
//                    exited     number: status word of wait(2) or -1 when unknown; value: peak RSS in KiB;
//                               cpu_ms: its CPU time
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <brood/os/control_socket.hpp>

namespace brood::inline v0_1::detail {

enum class ControlType : std::uint32_t {
  start = 1,
  kill = 2,
  stop = 3,
  hello = 16,
  mismatch,
  building,
  built,
  failed,
  ready,
  started,
  unstarted,
  exited,
};

/// Which worker is meant: the place in the pool and how many workers there have been in it.
struct Ticket {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;
  friend bool operator==(const Ticket&, const Ticket&) noexcept = default;
};

struct ControlMessage {
  static constexpr std::uint32_t magic_value = 0x636f7262;  // "broc"
  static constexpr std::size_t max_text = 2048;

  std::uint32_t magic = magic_value;
  ControlType type{};
  std::uint32_t slot = 0;
  std::int32_t number = 0;
  std::uint64_t generation = 0;
  std::uint64_t value = 0;
  std::uint64_t cpu_ms = 0;
  std::uint64_t text_size = 0;
  std::array<char, max_text> text{};

  static constexpr std::size_t head_size = 48;

  Ticket ticket() const noexcept { return {slot, generation}; }
  std::string_view said() const noexcept { return {text.data(), text_size}; }

  /// A text that is too long is cut. Allocates nothing.
  static ControlMessage make(ControlType type, Ticket ticket = {}, std::int32_t number = 0, std::uint64_t value = 0,
                             std::string_view text = {}) noexcept {
    ControlMessage message;
    message.type = type;
    message.slot = ticket.slot;
    message.generation = ticket.generation;
    message.number = number;
    message.value = value;
    message.text_size = std::min(text.size(), max_text);
    if (!text.empty()) std::memcpy(message.text.data(), text.data(), std::min(text.size(), max_text));
    return message;
  }

  std::span<const std::byte> bytes() const noexcept {
    return {reinterpret_cast<const std::byte*>(this), head_size + text_size};
  }

  /// The message in a packet of `size` bytes that was received into this object; false when it is none.
  bool valid(std::size_t size) const noexcept {
    return size >= head_size && magic == magic_value && text_size <= max_text && size == head_size + text_size;
  }
};
static_assert(offsetof(ControlMessage, text) == ControlMessage::head_size);
static_assert(std::is_trivially_copyable_v<ControlMessage>);

/// The lines of a message's text.
inline std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace brood::detail
