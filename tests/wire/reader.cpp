// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include <doctest/doctest.h>

#include <brood/wire/reader.hpp>

#include "round_trip.hpp"

using brood::Reader;
using brood::SerializationError;
using wire_test::bytes;

namespace {

enum class Flag : bool { no, yes };

}  // namespace

TEST_CASE("Reader::number reads what Writer::number wrote") {
  const auto image = bytes(std::int8_t{-1}, 1.5, std::uint64_t{1} << 63, true);
  Reader reader(image);
  CHECK(reader.number<std::int8_t>() == -1);
  CHECK(reader.number<double>() == 1.5);
  CHECK(reader.number<std::uint64_t>() == std::uint64_t{1} << 63);
  CHECK(reader.number<bool>());
  CHECK_NOTHROW(reader.finish());
}

TEST_CASE("Reader::number refuses a bool that is neither 0 nor 1") {
  for (unsigned value = 2; value < 256; ++value) {
    const auto image = bytes(static_cast<std::uint8_t>(value));
    CHECK_THROWS_AS(Reader(image).number<bool>(), SerializationError);
    CHECK_THROWS_AS(Reader(image).number<Flag>(), SerializationError);
  }
  CHECK(Reader(bytes(std::uint8_t{1})).number<Flag>() == Flag::yes);
}

TEST_CASE("Reader::number refuses to read behind the end") {
  const auto image = bytes(std::uint16_t{1});
  CHECK_THROWS_WITH_AS(Reader(image).number<int>(), "bytes can't be decoded: 4 bytes wanted, 2 left",
                       SerializationError);
}

TEST_CASE("Reader::count refuses what can't be there") {
  const auto image = bytes(std::uint64_t{3}, std::uint32_t{0}, std::uint16_t{0});
  CHECK(Reader(image).count(1) == 3);
  CHECK(Reader(image).count(2) == 3);
  CHECK_THROWS_AS(Reader(image).count(3), SerializationError);
  const auto huge = bytes(std::numeric_limits<std::uint64_t>::max());
  CHECK_THROWS_AS(Reader(huge).count(0), SerializationError);
  CHECK_THROWS_AS(Reader(huge).count(1), SerializationError);
  CHECK_THROWS_AS(Reader(huge).count(std::numeric_limits<std::size_t>::max()), SerializationError);
}

TEST_CASE("Reader::raw borrows") {
  const auto image = bytes(std::uint64_t{2}, 'h', 'i');
  Reader reader(image);
  CHECK(reader.text() == "hi");
  CHECK(reader.remaining() == 0);
  CHECK(reader.raw(0).empty());
  CHECK_THROWS_AS(reader.raw(1), SerializationError);
  CHECK_THROWS_AS(reader.raw(std::numeric_limits<std::size_t>::max()), SerializationError);
}

TEST_CASE("Reader::finish refuses bytes that nobody read") {
  const auto image = bytes(1, 'x');
  Reader reader(image);
  CHECK(reader.number<int>() == 1);
  CHECK_THROWS_WITH_AS(reader.finish(), "bytes can't be decoded: 1 bytes too many", SerializationError);
}

TEST_CASE("Reader::Nested counts levels, and takes them back") {
  Reader reader({});
  for (int round = 0; round < 2; ++round) {
    const auto dive = [&reader](const auto& self, int levels) -> void {
      const Reader::Nested nested(reader);
      if (levels > 1) self(self, levels - 1);
    };
    CHECK_NOTHROW(dive(dive, Reader::max_depth));
    CHECK_THROWS_AS(dive(dive, Reader::max_depth + 1), SerializationError);
  }
}
