// SPDX-License-Identifier: MIT
// FrameReader, fed in arbitrary portions, against a parser of the whole stream.
#include <vector>

#include <brood/wire/frame.hpp>

#include "support.hpp"

namespace {

using brood::detail::Bytes;
using brood::detail::Frame;
using brood::detail::FrameHeader;
using brood::detail::FrameReader;

struct TooLarge {};

/// What a stream says: the headers that were admitted, the frames that were whole, and how it ended.
struct Story {
  enum class End : std::uint8_t { between_frames, in_frame, no_frame, too_large };

  std::vector<FrameHeader> admitted;
  std::vector<std::vector<std::byte>> accepted;
  End end = End::between_frames;

  bool operator==(const Story& other) const {
    if (end != other.end || accepted != other.accepted || admitted.size() != other.admitted.size()) return false;
    return admitted.empty() ||
           std::memcmp(admitted.data(), other.admitted.data(), admitted.size() * sizeof(FrameHeader)) == 0;
  }
};

Story parse_whole(std::span<const std::byte> stream, std::uint64_t limit) {
  Story story;
  while (!stream.empty()) {
    FrameHeader header;
    if (stream.size() < sizeof header) {
      story.end = Story::End::in_frame;
      return story;
    }
    std::memcpy(&header, stream.data(), sizeof header);
    stream = stream.subspan(sizeof header);
    if (header.magic != FrameHeader::magic_value) {
      story.end = Story::End::no_frame;
      return story;
    }
    story.admitted.push_back(header);
    if (header.size > limit) {
      story.end = Story::End::too_large;
      return story;
    }
    if (header.size > stream.size()) {
      story.end = Story::End::in_frame;
      return story;
    }
    const auto payload = stream.first(static_cast<std::size_t>(header.size));
    story.accepted.emplace_back(payload.begin(), payload.end());
    stream = stream.subspan(payload.size());
  }
  return story;
}

struct Recorder {
  Story& story;
  std::uint64_t limit;
  std::size_t admitted = 0;

  void admit(const FrameHeader& header) {
    story.admitted.push_back(header);
    if (header.size > limit) throw TooLarge{};
  }
  void accept(Frame&& frame) {
    const auto payload = frame.payload.view();
    story.accepted.emplace_back(payload.begin(), payload.end());
  }
};

Story read_in_portions(std::span<const std::byte> stream, std::uint64_t limit, std::uint64_t seed) {
  constexpr std::size_t sizes[] = {1, 2, 7, 39, 40, 41, 100, 4096, 65'536, 100'000, 262'144, 1'000'000'000};
  Story story;
  Recorder recorder{story, limit};
  FrameReader reader;
  try {
    while (!stream.empty()) {
      seed = seed * 6364136223846793005U + 1442695040888963407U;
      const auto portion = stream.first(std::min(stream.size(), sizes[(seed >> 33) % std::size(sizes)]));
      const auto target = (seed >> 60 & 3) != 0 ? reader.direct_target(recorder) : std::span<std::byte>();
      std::size_t taken = portion.size();
      if (target.empty()) {
        reader.feed(portion, recorder);
      } else {
        taken = std::min(taken, target.size());
        std::memcpy(target.data(), portion.data(), taken);
        reader.commit_direct(taken, recorder);
      }
      stream = stream.subspan(taken);
    }
    story.end = reader.in_frame() ? Story::End::in_frame : Story::End::between_frames;
  } catch (const brood::ProtocolError&) {
    story.end = Story::End::no_frame;
  } catch (const TooLarge&) {
    story.end = Story::End::too_large;
  }
  return story;
}

/// Small inputs describe large streams: frames with payloads of a pattern, whole or cut, and bytes as they are.
Bytes make_stream(fuzz::Input& in) {
  constexpr std::size_t max_stream = std::size_t{256} << 10;
  Bytes stream;
  while (!in.empty() && stream.size() < max_stream) {
    const auto what = in.byte();
    if ((what & 3) == 0) {
      const auto bytes = in.bytes(in.byte());
      stream.append(bytes.data(), bytes.size());
      continue;
    }
    FrameHeader header;
    header.type = brood::detail::FrameType{in.take<std::uint16_t>()};
    header.task = in.byte();
    header.size = (what & 4) != 0 ? in.take<std::uint64_t>() : (what & 8) != 0 ? in.take<std::uint32_t>() & 0x3ffff : in.byte();
    if ((what & 0xf0) == 0xf0) header.magic ^= 1;
    stream.append(&header, sizeof header);
    std::uint64_t size = std::min<std::uint64_t>(header.size, max_stream / 2);
    if ((what & 3) == 3) size = size * in.byte() / 256;
    std::memset(stream.extend(static_cast<std::size_t>(size)), what, static_cast<std::size_t>(size));
  }
  return stream;
}

/// The memory of a reader alone: of nobody who keeps frames.
void check_memory(std::span<const std::byte> stream, std::uint64_t limit) {
  struct Dropper {
    std::uint64_t limit;
    void admit(const FrameHeader& header) const {
      if (header.size > limit) throw TooLarge{};
    }
    void accept(Frame&&) const {}
  } dropper{limit};
  constexpr std::size_t step = std::size_t{1} << 20;  // made room for at once, for the rest of a large payload
  const fuzz::HeapWatch heap;
  FrameReader reader;
  try {
    for (auto rest = stream; !rest.empty();) {
      const auto target = reader.direct_target(dropper);
      const auto portion = rest.first(std::min(rest.size(), target.empty() ? std::size_t{4096} : target.size()));
      if (target.empty()) {
        reader.feed(portion, dropper);
      } else {
        std::memcpy(target.data(), portion.data(), portion.size());
        reader.commit_direct(portion.size(), dropper);
      }
      rest = rest.subspan(portion.size());
    }
  } catch (const brood::ProtocolError&) {
  } catch (const TooLarge&) {
  }
  heap.require_at_most(3 * stream.size() + step + 4096, "FrameReader");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size);
  constexpr std::uint64_t limits[] = {0, 100, 70'000, 600'000, std::uint64_t{1} << 40, ~std::uint64_t{0}};
  const std::uint64_t limit = in.choose(limits);
  const auto seed = in.take<std::uint64_t>();
  const Bytes stream = make_stream(in);
  const Story expected = parse_whole(stream.view(), limit);
  fuzz::require(read_in_portions(stream.view(), limit, seed) == expected, "the portions make a difference to FrameReader");
  check_memory(stream.view(), limit);
  return 0;
}
