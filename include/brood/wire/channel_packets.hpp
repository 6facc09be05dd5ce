// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include <brood/core/bytes.hpp>
#include <brood/core/errors.hpp>

namespace brood::inline v0_1::detail {

/// In front of each packet of a channel. A message is a first packet and as many more as it takes; each holds at least a byte
/// of it, except that of an empty message.
struct ChannelPacket {
  static constexpr std::uint32_t magic_value = 0x68637262;  // "brch"
  enum class Kind : std::uint32_t { first = 1, more = 2 };

  std::uint32_t magic = magic_value;
  Kind kind{};
  std::uint64_t size = 0;  ///< first: bytes of the whole message; more: those that came before
};
static_assert(sizeof(ChannelPacket) == 16);

/// Puts the messages of a channel together. A first packet in the middle of a message means that the process that sent it has
/// ended, and another one goes on: what was cut is dropped.
class ChannelPackets {
 public:
  explicit ChannelPackets(std::uint64_t limit = 0) noexcept : limit_(limit) {}

  std::uint64_t limit() const noexcept { return limit_; }
  bool in_message() const noexcept { return in_message_; }

  /// Takes a packet; whether a message is complete. Throws ProtocolError and MessageTooLarge. Memory is asked for as the bytes
  /// arrive.
  bool feed(std::span<const std::byte> packet) {
    ChannelPacket header;
    if (packet.size() < sizeof header) throw ProtocolError("a channel got a packet that is too short");
    std::memcpy(&header, packet.data(), sizeof header);
    packet = packet.subspan(sizeof header);
    if (header.magic != ChannelPacket::magic_value) throw ProtocolError("a channel got bytes that are no packet of a channel");
    if (header.kind == ChannelPacket::Kind::first) {
      if (header.size > limit_) {
        throw MessageTooLarge("a channel got the beginning of a message of " + std::to_string(header.size) +
                              " bytes, more than ChannelOptions::max_message_bytes (" + std::to_string(limit_) + ")");
      }
      message_.truncate(0);
      size_ = header.size;
      in_message_ = true;
    } else if (header.kind != ChannelPacket::Kind::more || !in_message_ || header.size != message_.size()) {
      throw ProtocolError("a channel got a packet that does not follow the one before it");
    }
    const std::uint64_t left = size_ - message_.size();
    if (packet.size() > left) throw ProtocolError("a channel got more bytes than the message has");
    if (packet.empty() && size_ != 0) throw ProtocolError("a channel got a packet of nothing");
    message_.append(packet.data(), packet.size());
    if (message_.size() != size_) return false;
    in_message_ = false;
    return true;
  }

  /// The message that is complete.
  Bytes take() noexcept { return std::exchange(message_, Bytes()); }

 private:
  std::uint64_t limit_;
  std::uint64_t size_ = 0;
  Bytes message_;
  bool in_message_ = false;
};

}  // namespace brood::detail
