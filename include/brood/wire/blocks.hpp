// SPDX-License-Identifier: MIT
// internal
// Large contiguous data is not copied into a message: the message notes where it lies, and whoever reads the message reads the
// data from there. A block is data of at least `block_threshold` bytes that is missing in the message's own bytes at `offset`.
// The data must not change or go until it was read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <brood/core/bytes.hpp>
#include <brood/os/huge_pages.hpp>

namespace brood::inline v0_1::detail {

/// Below it, copying into a pipe is as fast as asking the kernel for the other process's memory.
inline constexpr std::size_t block_threshold = std::size_t{128} << 10;

/// Foreign memory is read into a buffer of this size where it can't be read to where it belongs.
inline constexpr std::size_t block_stage_size = std::size_t{64} << 10;

struct Block {
  std::uint64_t offset = 0;   ///< in the message's own bytes
  std::uint64_t address = 0;  ///< in the process that made the message
  std::uint64_t size = 0;

  std::span<const std::byte> view() const noexcept {
    return {reinterpret_cast<const std::byte*>(static_cast<std::uintptr_t>(address)), static_cast<std::size_t>(size)};
  }
};
static_assert(sizeof(Block) == 24);

inline std::uint64_t total_size(std::span<const Block> blocks) noexcept {
  std::uint64_t sum = 0;
  for (const Block& block : blocks) sum += block.size;
  return sum;
}

/// The large data of one message that is being written.
struct BlockNotes {
  std::vector<Block> blocks;
  std::vector<Bytes> copies;  ///< of data that does not live as long as the message
  bool copy = false;          ///< whether the data is such

  void add(std::uint64_t offset, const void* data, std::size_t size) {
    if (copy) {
      Bytes own;
      own.reserve(size);
      prefer_huge_pages(own.data(), size);
      own.append(data, size);
      copies.push_back(std::move(own));
      data = copies.back().data();
    }
    blocks.push_back({offset, reinterpret_cast<std::uintptr_t>(data), size});
  }
};

/// Where a Reader gets blocks from that lie in another process.
class BlockSource {
 public:
  /// Throws when they can't be read.
  virtual void read(std::uint64_t address, std::span<std::byte> target) = 0;

 protected:
  ~BlockSource() = default;
};

/// The parts of a message in their order, from byte `from` of the whole on; stops when visit(part) is false.
template <class Visit>
void each_part(std::span<const std::byte> own, std::span<const Block> blocks, std::uint64_t from, Visit visit) {
  std::uint64_t done = 0;
  const auto part = [&](std::span<const std::byte> bytes) {
    const std::uint64_t skipped = from > done ? from - done : 0;
    done += bytes.size();
    return skipped >= bytes.size() || visit(bytes.subspan(static_cast<std::size_t>(skipped)));
  };
  std::size_t at = 0;
  for (const Block& block : blocks) {
    const auto next = static_cast<std::size_t>(block.offset);
    if (!part(own.subspan(at, next - at)) || !part(block.view())) return;
    at = next;
  }
  part(own.subspan(at));
}

}  // namespace brood::detail
