// SPDX-License-Identifier: MIT
#include <brood/types/cereal.hpp>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <cereal/types/base_class.hpp>
#include <cereal/types/map.hpp>
#include <cereal/types/polymorphic.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/vector.hpp>
#include <doctest/doctest.h>

#include "support/leftovers.hpp"
#include "wire/round_trip.hpp"

namespace shapes {

struct Shape {
  virtual ~Shape() = default;
  virtual double area() const = 0;
};

struct Square : Shape {
  double side = 0;
  Square() = default;
  explicit Square(double s) : side(s) {}
  double area() const override { return side * side; }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(side);
  }
};

struct Group : Shape {
  std::vector<std::shared_ptr<Shape>> parts;
  std::string name;
  double area() const override {
    double sum = 0;
    for (const auto& part : parts) sum += part->area();
    return sum;
  }
  template <class Archive>
  void save(Archive& archive) const {
    archive(parts, name);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(parts, name);
  }
};

struct NotRegistered : Square {};

struct Scene {
  std::shared_ptr<Shape> front;
  std::unique_ptr<Shape> back;
  std::map<std::string, std::shared_ptr<int>> marks;
  std::vector<bool> flags;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(CEREAL_NVP(front), CEREAL_NVP(back), marks, flags);
  }
};

struct Two {
  std::shared_ptr<int> number;
  std::shared_ptr<std::string> text;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(number, text);
  }
};

struct Node {
  int value = 0;
  std::unique_ptr<Node> next;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value, next);
  }
};

struct Nothing {};
struct Counted {
  std::vector<Nothing> nothings;
  std::vector<double> numbers;
  int last = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(numbers, last, nothings);
  }
};

std::unique_ptr<Node> list_of(int length) {
  std::unique_ptr<Node> list;
  for (int i = 0; i < length; ++i) {
    auto node = std::make_unique<Node>();
    node->value = i;
    node->next = std::move(list);
    list = std::move(node);
  }
  return list;
}

Scene scene() {
  Scene result;
  auto group = std::make_shared<Group>();
  group->name = "two of the same";
  group->parts = {std::make_shared<Square>(2.0)};
  group->parts.push_back(group->parts.front());
  result.front = group;
  result.back = std::make_unique<Square>(3.0);
  const auto mark = std::make_shared<int>(7);
  result.marks = {{"a", mark}, {"b", mark}, {"none", nullptr}};
  result.flags = {true, false, true};
  return result;
}

}  // namespace shapes

CEREAL_REGISTER_TYPE(shapes::Square)
CEREAL_REGISTER_TYPE(shapes::Group)
CEREAL_REGISTER_POLYMORPHIC_RELATION(shapes::Shape, shapes::Square)
CEREAL_REGISTER_POLYMORPHIC_RELATION(shapes::Shape, shapes::Group)

template <>
struct brood::Serializer<shapes::Scene> : brood::CerealSerializer<shapes::Scene> {};
template <>
struct brood::Serializer<std::shared_ptr<shapes::Shape>> : brood::CerealSerializer<std::shared_ptr<shapes::Shape>> {};
template <>
struct brood::Serializer<shapes::Two> : brood::CerealSerializer<shapes::Two> {};
template <>
struct brood::Serializer<shapes::Node> : brood::CerealSerializer<shapes::Node> {};
template <>
struct brood::Serializer<shapes::Counted> : brood::CerealSerializer<shapes::Counted> {};

using namespace shapes;
using wire_test::decode;
using wire_test::encode;

TEST_CASE("cereal: polymorphic objects arrive as what they are, shared ones stay shared") {
  const support::Leftovers leftovers;
  const Scene there = decode<Scene>(encode(scene()));
  const auto* const group = dynamic_cast<const Group*>(there.front.get());
  REQUIRE(group != nullptr);
  CHECK(group->name == "two of the same");
  CHECK(group->area() == 8);
  CHECK(group->parts[0] == group->parts[1]);
  CHECK(there.back->area() == 9);
  CHECK(*there.marks.at("a") == 7);
  CHECK(there.marks.at("a") == there.marks.at("b"));
  CHECK(there.marks.at("none") == nullptr);
  CHECK(there.flags == std::vector<bool>{true, false, true});
  CHECK(decode<std::shared_ptr<Shape>>(encode(std::shared_ptr<Shape>(std::make_shared<Square>(4.0))))->area() == 16);
  wire_test::check_hostile<Scene>(encode(scene()));
}

TEST_CASE("cereal: a type that is not registered is an error that says what to do") {
  const support::Leftovers leftovers;
  try {
    encode(std::shared_ptr<Shape>(std::make_shared<NotRegistered>()));
    FAIL("it was written");
  } catch (const brood::SerializationError& error) {
    CHECK(std::string(error.what()).find("CEREAL_REGISTER_TYPE") != std::string::npos);
  }
}

TEST_CASE("cereal: a pointer is never taken for one to another type") {
  const support::Leftovers leftovers;
  Two two{std::make_shared<int>(7), std::make_shared<std::string>("seven")};
  wire_test::Image image = encode(two);
  CHECK(*decode<Two>(image).text == "seven");
  // size, id of the number, the number, id of the text: the text's id becomes a reference to the number
  const std::uint32_t reference = 1;
  std::memcpy(image.data() + 16, &reference, sizeof reference);
  image.resize(20);
  const std::uint64_t size = 12;
  std::memcpy(image.data(), &size, sizeof size);
  CHECK_THROWS_WITH_AS(decode<Two>(image), "bytes can't be decoded: a shared pointer to std::string refers to an object of type int",
                       brood::SerializationError);
}

TEST_CASE("cereal: counts are checked before memory is asked for") {
  const support::Leftovers leftovers;
  for (const std::uint64_t count : {std::uint64_t{17}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    const auto image = wire_test::bytes(std::uint64_t{24}, count, 1.0, 2.0);
    CHECK_THROWS_AS(decode<Counted>(image), brood::SerializationError);
  }
}

TEST_CASE("cereal: elements that take no bytes") {
  const support::Leftovers leftovers;
  const auto image = encode(Counted{std::vector<Nothing>(5), {1.5}, 3});
  const Counted there = decode<Counted>(image);
  CHECK(there.nothings.size() == 5);
  CHECK(there.numbers == std::vector<double>{1.5});
  CHECK(there.last == 3);
  CHECK_THROWS_AS(encode(Counted{std::vector<Nothing>((1 << 20) + 1), {}, 3}), brood::SerializationError);
}

TEST_CASE("cereal: nesting has a limit") {
  const support::Leftovers leftovers;
  CHECK(decode<Node>(encode(*list_of(100))).next->next->value == 97);
  CHECK_THROWS_AS(encode(*list_of(5000)), brood::SerializationError);
}
