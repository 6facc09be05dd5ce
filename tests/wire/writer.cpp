// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include <brood/wire/reader.hpp>
#include <brood/wire/writer.hpp>

using brood::Writer;

TEST_CASE("Writer::number writes the bytes of the number") {
  Writer writer;
  CHECK(writer.size() == 0);
  writer.number(std::uint32_t{0x01020304});
  writer.number(std::byte{7});
  CHECK(writer.size() == 5);
  std::uint32_t number = 0;
  std::memcpy(&number, writer.view().data(), 4);
  CHECK(number == 0x01020304);
  CHECK(writer.view()[4] == std::byte{7});
}

TEST_CASE("Writer::number sends no undefined byte of a long double") {
  if constexpr (std::numeric_limits<long double>::digits == 64) {
    long double dirty;
    std::memset(&dirty, 0xff, sizeof(dirty));
    dirty = 1.25L;
    Writer writer;
    writer.number(dirty);
    for (std::size_t i = 10; i < sizeof(long double); ++i) CHECK(writer.view()[i] == std::byte{0});
    CHECK(brood::Reader(writer.view()).number<long double>() == 1.25L);
  }
}

TEST_CASE("Writer::text writes a count and the bytes") {
  Writer writer;
  writer.text("abc");
  writer.text({});
  CHECK(writer.size() == 8 + 3 + 8);
  brood::Reader reader(writer.view());
  CHECK(reader.text() == "abc");
  CHECK(reader.text().empty());
}

TEST_CASE("Writer::raw takes nothing from nowhere") {
  Writer writer;
  writer.raw(nullptr, 0);
  CHECK(writer.size() == 0);
}

TEST_CASE("Writer::take hands over the buffer") {
  Writer writer;
  writer.count(5);
  const brood::detail::Bytes bytes = std::move(writer).take();
  CHECK(bytes.size() == 8);
}

TEST_CASE("Writer::Nested refuses what no Reader would take") {
  static_assert(Writer::max_depth == brood::Reader::max_depth);
  Writer writer;
  const auto dive = [&writer](const auto& self, int levels) -> void {
    const Writer::Nested nested(writer);
    if (levels > 1) self(self, levels - 1);
  };
  CHECK_NOTHROW(dive(dive, Writer::max_depth));
  CHECK_THROWS_AS(dive(dive, Writer::max_depth + 1), brood::SerializationError);
  CHECK_NOTHROW(dive(dive, Writer::max_depth));
}
