// SPDX-License-Identifier: MIT
// ChannelPackets against a parser that knows the whole sequence of packets, and its memory against what has arrived.
#include <optional>
#include <vector>

#include <brood/wire/channel_packets.hpp>

#include "support.hpp"

namespace {

using brood::detail::Bytes;
using brood::detail::ChannelPacket;
using brood::detail::ChannelPackets;

using Packet = std::vector<std::byte>;

/// Small inputs describe packets that are nearly right, and any others.
std::vector<Packet> make_packets(fuzz::Input& in) {
  std::vector<Packet> packets;
  std::uint64_t left = 0;
  std::uint64_t came = 0;
  while (!in.empty() && packets.size() < 64) {
    const auto what = in.byte();
    Packet packet;
    if (what < 16) {
      const auto bytes = in.bytes(in.byte());
      packet.assign(bytes.begin(), bytes.end());
      packets.push_back(std::move(packet));
      continue;
    }
    ChannelPacket header;
    std::uint64_t size = in.byte() * ((what & 1) != 0 ? 200U : 1U);
    if (left == 0 || (what & 2) != 0) {
      header.kind = ChannelPacket::Kind::first;
      header.size = (what & 4) != 0 ? in.take<std::uint64_t>() : size + in.byte();
      left = header.size;
      came = 0;
    } else {
      header.kind = ChannelPacket::Kind::more;
      header.size = came + ((what & 0x30) == 0x30 ? in.byte() : 0U);
    }
    if ((what & 0xf0) == 0xf0) header.magic ^= 1;
    if ((what & 8) == 0) size = std::min(size, left);
    packet.resize(sizeof header + size, std::byte{what});
    std::memcpy(packet.data(), &header, sizeof header);
    left -= std::min(left, size);
    came += size;
    packets.push_back(std::move(packet));
  }
  return packets;
}

/// What is said of one packet: nothing yet, a message, or that it is none.
struct Word {
  enum class Kind : std::uint8_t { more, message, refused } kind = Kind::more;
  Packet message;
  bool operator==(const Word&) const = default;
};

std::vector<Word> expected_of(const std::vector<Packet>& packets, std::uint64_t limit) {
  std::vector<Word> words;
  std::optional<std::uint64_t> size;
  Packet message;
  for (const Packet& each : packets) {
    Word word;
    ChannelPacket header;
    bool fine = each.size() >= sizeof header;
    if (fine) {
      std::memcpy(&header, each.data(), sizeof header);
      fine = header.magic == ChannelPacket::magic_value;
    }
    if (fine && header.kind == ChannelPacket::Kind::first) {
      fine = header.size <= limit;
      size = header.size;
      message.clear();
    } else if (fine) {
      fine = header.kind == ChannelPacket::Kind::more && size && header.size == message.size();
    }
    const std::size_t payload = each.size() - std::min(each.size(), sizeof header);
    fine = fine && payload <= *size - message.size() && (payload != 0 || *size == 0);
    if (!fine) {
      word.kind = Word::Kind::refused;
      words.push_back(word);
      return words;  // the channel is closed
    }
    message.insert(message.end(), each.begin() + sizeof header, each.end());
    if (message.size() == *size) {
      word = {Word::Kind::message, message};
      size.reset();
      message.clear();
    }
    words.push_back(word);
  }
  return words;
}

std::vector<Word> told(const std::vector<Packet>& packets, std::uint64_t limit) {
  std::vector<Word> words;
  ChannelPackets channel(limit);
  for (const Packet& each : packets) {
    Word word;
    try {
      if (channel.feed(each)) {
        const Bytes message = channel.take();
        word = {Word::Kind::message, Packet(message.view().begin(), message.view().end())};
      }
    } catch (const brood::Error&) {
      word.kind = Word::Kind::refused;
    }
    words.push_back(word);
    if (word.kind == Word::Kind::refused) break;
  }
  return words;
}

void check_memory(const std::vector<Packet>& packets, std::uint64_t limit) {
  std::size_t arrived = 0;
  for (const Packet& each : packets) arrived += each.size();
  const fuzz::HeapWatch heap;
  ChannelPackets channel(limit);
  try {
    for (const Packet& each : packets) {
      if (channel.feed(each)) channel.take();
    }
  } catch (const brood::Error&) {
  }
  heap.require_at_most(3 * arrived + 4096, "ChannelPackets");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size);
  constexpr std::uint64_t limits[] = {0, 100, 70'000, std::uint64_t{1} << 40, ~std::uint64_t{0}};
  const std::uint64_t limit = in.choose(limits);
  const std::vector<Packet> packets = make_packets(in);
  fuzz::require(told(packets, limit) == expected_of(packets, limit), "ChannelPackets and its model differ");
  check_memory(packets, limit);
  return 0;
}
