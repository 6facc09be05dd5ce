// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/wire/serializer.hpp>

#include "round_trip.hpp"

using brood::Reader;
using brood::SerializationError;
using brood::Serializer;
using brood::Writer;
using wire_test::bytes;
using wire_test::check_round_trip;
using wire_test::decode;
using wire_test::encode;

namespace {

class Celsius {
 public:
  explicit Celsius(double degrees) : degrees_(degrees) {}
  double degrees() const { return degrees_; }
  bool operator==(const Celsius&) const = default;

 private:
  double degrees_;
};

template <class T>
class Box {
 public:
  explicit Box(T value) : value_(std::move(value)) {}
  const T& value() const { return value_; }
  bool operator==(const Box&) const = default;

 private:
  T value_;
};

// every way at once: the Serializer wins
struct Everything {
  int a = 0;
  bool operator==(const Everything&) const = default;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(a, a, a);
  }
};

// a serialize and a bitwise: the serialize wins
struct Twice {
  int a = 0;
  bool operator==(const Twice&) const = default;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(a, a);
  }
};

class Vector3 {
 public:
  Vector3(float x, float y, float z) : x_(x), y_(y), z_(z) {}
  bool operator==(const Vector3&) const = default;

 private:
  float x_, y_, z_;
};

struct Picky {
  int value;
};

struct Endless {
  std::vector<Endless> inner;
};

}  // namespace

template <>
struct brood::Serializer<Celsius> {
  static void write(Writer& writer, const Celsius& value) { writer.value(value.degrees()); }
  static Celsius read(Reader& reader) { return Celsius(reader.value<double>()); }
};
template <class T>
struct brood::Serializer<Box<T>> {
  static void write(Writer& writer, const Box<T>& box) { Serializer<T>::write(writer, box.value()); }
  static Box<T> read(Reader& reader) { return Box<T>(Serializer<T>::read(reader)); }
};
template <>
struct brood::Serializer<Everything> {
  static void write(Writer& writer, const Everything& value) { writer.number(static_cast<std::int8_t>(value.a)); }
  static Everything read(Reader& reader) { return {reader.number<std::int8_t>()}; }
};
template <>
inline constexpr bool brood::bitwise<Everything> = true;
template <>
inline constexpr bool brood::bitwise<Twice> = true;
template <>
inline constexpr bool brood::bitwise<Vector3> = true;
template <>
struct brood::Serializer<Picky> {
  static void write(Writer& writer, const Picky& value) {
    if (value.value < 0) Writer::fail("it is negative");
    writer.number(value.value);
  }
  static Picky read(Reader& reader) {
    const Picky value{reader.number<int>()};
    if (value.value < 0) Reader::fail("it is negative");
    return value;
  }
};
// a standard type of one's own making
template <>
struct brood::Serializer<std::pair<int, Picky>> {
  static void write(Writer& writer, const std::pair<int, Picky>&) { writer.text("special"); }
  static std::pair<int, Picky> read(Reader& reader) { return {static_cast<int>(reader.text().size()), Picky{0}}; }
};

TEST_CASE("Serializer<T> can be specialised for a class") {
  check_round_trip(Celsius(21.5));
  check_round_trip(std::vector{Celsius(1), Celsius(2)});
  check_round_trip(std::map<int, std::optional<Celsius>>{{1, Celsius(3)}, {2, std::nullopt}});
}

TEST_CASE("Serializer<T> can be specialised for a template, and builds upon the others") {
  check_round_trip(Box(5));
  check_round_trip(Box(std::vector<std::string>{"a", "b"}));
  check_round_trip(Box(std::vector{Box(Celsius(4))}));
}

TEST_CASE("Serializer<T> of a known type can be called by name") {
  Writer writer;
  Serializer<std::vector<int>>::write(writer, {1, 2, 3});
  Reader reader(writer.view());
  CHECK(Serializer<std::vector<int>>::read(reader) == std::vector<int>{1, 2, 3});
}

TEST_CASE("Serializer<T> goes before serialize, serialize before bitwise, a specialisation before a known type") {
  static_assert(brood::bitwise<Everything> && brood::bitwise<Twice>);
  CHECK(encode(Everything{7}) == bytes(std::int8_t{7}));
  check_round_trip(Everything{7});
  CHECK(encode(Twice{7}) == bytes(7, 7));
  check_round_trip(Twice{7});
  CHECK(decode<std::pair<int, Picky>>(encode(std::pair<int, Picky>(1, {2}))).first == 7);
}

TEST_CASE("Serializer<T> may refuse a value") {
  CHECK(decode<Picky>(bytes(1)).value == 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(encode(Picky{-1})), "a value can't be sent: it is negative",
                       SerializationError);
  CHECK_THROWS_WITH_AS(static_cast<void>(decode<std::vector<Picky>>(encode(std::vector{1, -1}))),
                       doctest::Contains("a"), SerializationError);
  CHECK_THROWS_WITH_AS(static_cast<void>(decode<Picky>(bytes(-1))), "bytes can't be decoded: it is negative",
                       SerializationError);
}

TEST_CASE("bitwise<T> takes the bytes") {
  CHECK(encode(Vector3(1, 2, 3)) == bytes(1.0f, 2.0f, 3.0f));
  check_round_trip(Vector3(1, 2, 3));
  check_round_trip(std::vector{Vector3(1, 2, 3), Vector3(4, 5, 6)});
}

TEST_CASE("Serializer<T> takes an empty class that is no aggregate") {
  const auto add = [](int a, int b) { return a + b; };
  CHECK(encode(add).empty());
  CHECK(decode<std::remove_const_t<decltype(add)>>({})(1, 2) == 3);
  CHECK(decode<std::less<>>(encode(std::less<>()))(1, 2));
}

TEST_CASE("Reader::value takes const types") {
  const auto image = bytes(5);
  CHECK(Reader(image).value<const int>() == 5);
}

TEST_CASE("a Writer that refused goes on") {
  Writer writer;
  Endless deep;
  for (int i = 0; i != 200; ++i) {
    Endless outer;
    outer.inner.push_back(std::move(deep));
    deep = std::move(outer);
  }
  CHECK_THROWS_AS(writer.value(deep), SerializationError);
  CHECK_NOTHROW(writer.value(Endless{}));
}
