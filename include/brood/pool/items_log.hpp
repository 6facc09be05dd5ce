// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <brood/core/bytes.hpp>
#include <brood/pool/task.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/status_page.hpp>

namespace brood::inline v0_1::detail {

/// The results of a chunk's items that a worker had finished but not sent when it ended, from its log: those from item
/// number `known` on. `word` is StatusPage::items_done, `items` the size of the chunk. Nothing when there are none, or
/// when they make no sense: the worker may have written over both. What comes back holds whole results.
inline std::optional<ResultBytes> read_items_log(std::span<const std::byte> log, std::uint64_t word, std::uint32_t items,
                                                 std::uint32_t known) {
  const std::uint64_t done = word >> 32;
  const std::size_t used = word & 0xffffffff;
  if (used == 0 || used > log.size() || done > items || done <= known) return std::nullopt;
  ResultBytes salvaged;
  salvaged.bytes.append(log.data(), used);  // a copy that nobody else can change
  // the log holds whole results, the last of them that of item done - 1: count them, then pass over those that were sent
  std::uint64_t count = 0;
  for (int pass = 0; pass < 2; ++pass) {
    Reader in(salvaged.bytes.view());
    try {
      const std::uint64_t skip = pass == 0 ? ~std::uint64_t{0} : known - (done - count);
      std::uint64_t seen = 0;
      while (in.remaining() != 0 && seen < skip) {
        in.raw(in.number<std::uint64_t>() >> 1);
        ++seen;
      }
      if (pass == 0) count = seen;
    } catch (const SerializationError&) {
      return std::nullopt;
    }
    if (count > done || done - count > known) return std::nullopt;
    salvaged.offset = salvaged.bytes.size() - in.remaining();
  }
  salvaged.first = known;
  salvaged.count = static_cast<std::uint32_t>(done) - known;
  return salvaged;
}

}  // namespace brood::detail
