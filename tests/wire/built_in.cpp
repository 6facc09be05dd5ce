// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <limits>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

#include <brood/wire/built_in.hpp>

#include "round_trip.hpp"

using brood::SerializationError;
using wire_test::bytes;
using wire_test::check_hostile;
using wire_test::check_round_trip;
using wire_test::decode;
using wire_test::encode;

namespace {

enum class Colour : std::uint8_t { red, green };
enum class Flag : bool { no, yes };
enum Old { first, second };

struct Explicit {
  explicit Explicit(int start) : value(start) {}
  friend bool operator==(const Explicit&, const Explicit&) = default;
  int value;
};

}  // namespace

template <>
struct brood::Serializer<Explicit> {
  static void write(Writer& writer, const Explicit& value) { writer.number(value.value); }
  static Explicit read(Reader& reader) { return Explicit(reader.number<int>()); }
};

TEST_CASE_TEMPLATE("Serializer<arithmetic> keeps the extremes", T, bool, char, signed char, unsigned char, wchar_t,
                   char8_t, char16_t, char32_t, short, unsigned short, int, unsigned, long, unsigned long, long long,
                   unsigned long long, float, double, long double) {
  check_round_trip(std::numeric_limits<T>::min());
  check_round_trip(std::numeric_limits<T>::max());
  check_round_trip(std::numeric_limits<T>::lowest());
  check_round_trip(T{});
}

TEST_CASE("Serializer<float> keeps the bits of a NaN") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(encode(decode<double>(encode(nan))) == encode(nan));
  CHECK(encode(decode<double>(encode(-0.0))) == encode(-0.0));
}

TEST_CASE("Serializer<enum> keeps any value of the underlying type") {
  check_round_trip(Colour::green);
  check_round_trip(static_cast<Colour>(200));
  check_round_trip(std::byte{0xfe});
  check_round_trip(Flag::yes);
  CHECK(decode<Colour>(bytes(std::uint8_t{77})) == static_cast<Colour>(77));
}

TEST_CASE("Serializer<enum> takes one without an underlying type") {
  for (Old value : {first, second}) CHECK(decode<Old>(encode(value)) == value);
}

TEST_CASE("Serializer<bool> refuses 2") {
  CHECK_THROWS_AS(decode<bool>(bytes(std::uint8_t{2})), SerializationError);
  CHECK_THROWS_AS(decode<Flag>(bytes(std::uint8_t{2})), SerializationError);
}

TEST_CASE("Serializer<std::pair> and Serializer<std::tuple> go from left to right") {
  check_round_trip(std::pair(1, std::string("one")));
  check_round_trip(std::pair<const int, const std::string>(1, "one"));
  check_round_trip(std::tuple<>());
  check_round_trip(std::tuple(1));
  check_round_trip(std::tuple(std::tuple(1), std::string("x"), 2.5));
  check_round_trip(std::tuple<std::optional<int>>(std::nullopt));
  check_round_trip(std::make_tuple(std::make_tuple(std::make_tuple(3))));
  check_round_trip(std::pair(Explicit(1), std::tuple(Explicit(2), Explicit(3))));
  CHECK(encode(std::tuple(std::uint8_t{1}, std::uint8_t{2})) == bytes(std::uint8_t{1}, std::uint8_t{2}));
}

TEST_CASE("Serializer<std::optional> has a value or not") {
  check_round_trip(std::optional<int>());
  check_round_trip(std::optional(std::string("x")));
  check_round_trip(std::optional<std::optional<int>>(std::in_place));
  check_round_trip(std::optional(Explicit(4)));
  CHECK_THROWS_AS(decode<std::optional<int>>(bytes(std::uint8_t{2}, 1)), SerializationError);
}

TEST_CASE("Serializer<std::variant> keeps the alternative") {
  using Variant = std::variant<std::monostate, int, std::string, int, Explicit, std::unique_ptr<int>>;
  CHECK(decode<Variant>(encode(Variant())).index() == 0);
  const auto third = decode<Variant>(encode(Variant(std::in_place_index<3>, 5)));
  CHECK(third.index() == 3);
  CHECK(std::get<3>(third) == 5);
  CHECK(std::get<2>(decode<Variant>(encode(Variant(std::in_place_index<2>, "text")))) == "text");
  CHECK(std::get<4>(decode<Variant>(encode(Variant(Explicit(6))))).value == 6);
  CHECK(*std::get<5>(decode<Variant>(encode(Variant(std::make_unique<int>(7))))) == 7);
  check_hostile<Variant>(encode(Variant(std::in_place_index<2>, "text")));
}

TEST_CASE("Serializer<std::variant> refuses an unknown discriminant") {
  using Variant = std::variant<char, bool>;
  CHECK_THROWS_WITH_AS(static_cast<void>(decode<Variant>(bytes(std::uint8_t{2}, 'x'))),
                       "bytes can't be decoded: a std::variant has no alternative 2", SerializationError);
  CHECK_THROWS_AS(static_cast<void>(decode<Variant>(bytes(std::uint8_t{255}, 'x'))), SerializationError);
}

TEST_CASE("Serializer<std::variant> refuses to write one without a value") {
  struct Bomb {
    operator std::list<int>() const { throw 1; }
  };
  std::variant<int, std::list<int>> variant = 1;
  try {
    variant.emplace<1>(Bomb());
  } catch (int) {
  }
  REQUIRE(variant.valueless_by_exception());
  CHECK_THROWS_AS(encode(variant), SerializationError);
}

TEST_CASE("Serializer<std::unique_ptr> owns a copy, or nothing") {
  CHECK(decode<std::unique_ptr<int>>(encode(std::unique_ptr<int>())) == nullptr);
  CHECK(*decode<std::unique_ptr<const std::string>>(encode(std::make_unique<const std::string>("x"))) == "x");
  CHECK(decode<std::unique_ptr<Explicit>>(encode(std::make_unique<Explicit>(5)))->value == 5);
  check_hostile<std::unique_ptr<std::string>>(encode(std::make_unique<std::string>("text")));
}
