// SPDX-License-Identifier: MIT
// internal
// The list of a message's blocks, as it travels in front of the message's own bytes: a count, then that many.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <brood/core/bytes.hpp>
#include <brood/wire/blocks.hpp>
#include <brood/wire/reader.hpp>

namespace brood::inline v0_1::detail {

inline void write_blocks(Bytes& bytes, std::span<const Block> blocks) {
  const std::uint64_t count = blocks.size();
  bytes.append(&count, sizeof count);
  bytes.append(blocks.data(), blocks.size_bytes());
}

/// The bytes of such a list.
constexpr std::uint64_t size_of_list(std::size_t blocks) noexcept { return sizeof(std::uint64_t) + blocks * sizeof(Block); }

/// Reads a list that a stranger wrote. What remains in `in` are the message's own bytes. The sizes may be any up to the whole
/// of memory, but their sum is one. Throws SerializationError.
inline std::vector<Block> read_blocks(Reader& in) {
  constexpr std::uint64_t smallest = 4096;  // so that the list is short beside what it lists
  std::vector<Block> blocks(in.count(sizeof(Block)));
  if (!blocks.empty()) std::memcpy(blocks.data(), in.raw(blocks.size() * sizeof(Block)).data(), blocks.size() * sizeof(Block));
  std::uint64_t before = 0;
  std::uint64_t sum = 0;
  for (const Block& block : blocks) {
    if (block.offset < before || block.offset > in.remaining()) Reader::fail("a block at a place that is not there");
    if (block.size < smallest || block.size > ~std::uint64_t{0} / 2 - sum) {
      Reader::fail("a block of " + std::to_string(block.size) + " bytes");
    }
    before = block.offset;
    sum += block.size;
  }
  return blocks;
}

}  // namespace brood::detail
