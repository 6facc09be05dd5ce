// SPDX-License-Identifier: MIT
// The log of a chunk's results that a worker leaves behind when it dies.
#include <string>
#include <vector>

#include <brood/pool/items_log.hpp>

#include "support.hpp"

namespace {

using namespace brood::detail;

/// Results one after the other, some of them as they should be.
std::vector<std::byte> make_log(fuzz::Input& in, std::uint32_t& results) {
  std::vector<std::byte> log;
  results = 0;
  while (!in.empty()) {
    const bool wrong = in.byte() == 0xff;
    const auto payload = in.bytes(in.byte());
    const std::uint64_t word = wrong ? in.take<std::uint64_t>() : std::uint64_t{payload.size()} << 1 | (in.byte() & 1U);
    const auto* const first = reinterpret_cast<const std::byte*>(&word);
    log.insert(log.end(), first, first + sizeof word);
    log.insert(log.end(), payload.begin(), payload.end());
    results = wrong ? ~std::uint32_t{0} : results == ~std::uint32_t{0} ? results : results + 1;
  }
  return log;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size);
  const std::uint32_t items = in.flag() ? in.take<std::uint32_t>() : in.byte();
  const std::uint32_t known = in.flag() ? in.take<std::uint32_t>() : in.byte();
  const bool honest = in.flag();
  std::uint64_t word = in.take<std::uint64_t>();
  std::uint32_t results = 0;
  const std::vector<std::byte> log = make_log(in, results);
  if (honest) word = (word >> 32 & 0xff) << 32 | log.size();
  const std::uint64_t done = word >> 32;

  const fuzz::HeapWatch heap;
  const auto salvaged = read_items_log(log, word, items, known);
  heap.require_at_most(log.size() + 4096, "read_items_log");
  const bool whole = honest && results != ~std::uint32_t{0};
  // what is there, and reaches back to what is known, is not to be lost
  if (whole && !log.empty() && done <= items && done > known && results <= done && done - results <= known) {
    fuzz::require(salvaged.has_value(), "results in the log were lost");
  }
  if (!salvaged) return 0;
  fuzz::require(salvaged->first == known && salvaged->count == done - known && salvaged->count != 0, "other items than were done");
  fuzz::require(done <= items, "more items than the chunk has");
  brood::Reader reader(salvaged->view());
  for (std::uint32_t at = 0; at < salvaged->count; ++at) {  // throws when they are not whole
    reader.raw(reader.number<std::uint64_t>() >> 1);
  }
  reader.finish();
  return 0;
}
