// SPDX-License-Identifier: MIT
#include <any>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

#include <brood/wire/reflect.hpp>

#include "round_trip.hpp"

using brood::detail::Members;
using brood::detail::MembersOf;
using brood::detail::NoMembers;
using brood::detail::Reason;
using wire_test::bytes;
using wire_test::check_hostile;
using wire_test::check_round_trip;
using wire_test::decode;
using wire_test::encode;

namespace {

template <class T, class... Ms>
concept Has = std::is_same_v<MembersOf<T>, Members<true, Ms...>>;

template <class T, Reason Why>
concept Refused = std::is_same_v<MembersOf<T>, NoMembers<Why>>;

// members of every unfriendly kind
struct TakesForward {
  template <class T>
  TakesForward(T&&) {}
};
struct TakesReference {
  TakesReference() = default;
  template <class T>
  TakesReference(const T&) {}
};
struct TakesValue {
  template <class T>
  TakesValue(T) {}
};
struct TwoInts {
  TwoInts(int a, int b) : sum(a + b) {}
  bool operator==(const TwoInts&) const = default;
  int sum;
};
struct ExplicitInt {
  explicit ExplicitInt(int start) : value(start) {}
  bool operator==(const ExplicitInt&) const = default;
  int value;
};
struct MoveOnly {
  explicit MoveOnly(int start) : value(start) {}
  MoveOnly(MoveOnly&&) = default;
  bool operator==(const MoveOnly&) const = default;
  int value;
};
struct Immovable {
  Immovable() = default;
  Immovable(Immovable&&) = delete;
};
struct ExplicitDefault {
  explicit ExplicitDefault() {}
};
struct Empty {
  bool operator==(const Empty&) const = default;
};
struct Point {
  int x;
  double y;
  bool operator==(const Point&) const = default;
};
enum class Colour { red };

struct Optional {
  int a;
  std::optional<int> b;
  int c;
  bool operator==(const Optional&) const = default;
};
struct OptionalOptional {
  std::optional<std::optional<std::string>> a;
  std::variant<int, std::string> b;
};
struct ArrayFirst {
  int a[2];
  int b;
  bool operator==(const ArrayFirst&) const = default;
};
struct ArrayMiddle {
  int a;
  char b[3][4];
  double c;
  bool operator==(const ArrayMiddle&) const = default;
};
struct ArrayLast {
  char a;
  std::string b[2];
  bool operator==(const ArrayLast&) const = default;
};
struct ArrayOnly {
  int a[3];
  bool operator==(const ArrayOnly&) const = default;
};
struct ArrayOfOne {
  int a[1];
  int b;
  bool operator==(const ArrayOfOne&) const = default;
};
struct ArrayHuge {
  char name[4096];
  int b;
  bool operator==(const ArrayHuge&) const = default;
};
struct ArrayOfStructs {
  Point a[2];
  Optional b[2];
  bool operator==(const ArrayOfStructs&) const = default;
};
struct NoDefault {
  int a;
  TwoInts b;
  std::optional<int> c;
  ExplicitInt d;
  bool operator==(const NoDefault&) const = default;
};
struct NoDefaultAndArrays {
  TwoInts a;
  char b[16];
  ExplicitInt c;
  int d[2][3];
  bool operator==(const NoDefaultAndArrays&) const = default;
};
struct ArrayOfNoDefault {
  TwoInts a[2];
  int b;
  bool operator==(const ArrayOfNoDefault&) const = default;
};
struct ArraysOfNoDefault {
  int a;
  TwoInts b[2][2];
  std::string c;
  bool operator==(const ArraysOfNoDefault&) const = default;
};
struct MoveOnlyMembers {
  std::unique_ptr<int> a;
  MoveOnly b;
};
struct Greedy {
  std::any a;
  TakesForward b;
  TakesReference c;
  TakesValue d;
  std::any e;
};
struct OnlyAny {
  std::any a;
};
struct OnlyGreedy {
  TakesForward a;
};
struct ArrayOfGreedy {
  TakesForward a[2];
};
struct Functions {
  std::function<void()> a;
  int (*b)(int);
  int Point::* c;
};
struct Elidable {
  Point a;
  std::array<int, 3> b;
  ArrayFirst c;
  Point d;
  bool operator==(const Elidable&) const = default;
};
struct OnlyStruct {
  Point a;
  bool operator==(const OnlyStruct&) const = default;
};
struct OnlyArray {
  std::array<int, 2> a;
  bool operator==(const OnlyArray&) const = default;
};
struct Constant {
  const int a;
  const std::string b;
  bool operator==(const Constant&) const = default;
};
struct ConstantArray {
  const int a[2];
  const std::string b;
  bool operator==(const ConstantArray&) const = default;
};
struct Initialised {
  int a = 3;
  TwoInts b = TwoInts(1, 2);
  int c;
  bool operator==(const Initialised&) const = default;
};
struct InitialisedFirst {
  TwoInts a = TwoInts(1, 2);
  char b[2] = {'x', 'y'};
  std::string c = "text";
  bool operator==(const InitialisedFirst&) const = default;
};
struct Empties {
  Empty a;
  int b;
  Empty c;
  bool operator==(const Empties&) const = default;
};
struct OnlyEmpty {
  Empty a;
  bool operator==(const OnlyEmpty&) const = default;
};
struct SharedAddress {
  [[no_unique_address]] Empty a;
  int b;
  [[no_unique_address]] Empty c;
  bool operator==(const SharedAddress&) const = default;
};
struct Nameless {
  struct {
    int a;
    int b;
  } inner;
  int c;
};
struct Tree {
  int a;
  std::vector<Tree> b;
  std::unique_ptr<Tree> c;
  std::map<std::string, Tree> d;
};
struct Peculiar {
  Immovable a;
  ExplicitDefault b;
};
struct Gap {
  int a;
  int : 3;
  int b;
};
struct ThirtyTwo {
  int a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16;
  std::string b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15, b16;
  bool operator==(const ThirtyTwo&) const = default;
};
struct ThirtyTwoNoDefault {
  TwoInts a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21, a22, a23, a24,
      a25, a26, a27, a28, a29, a30, a31, a32;
};
struct ThirtyThree {
  int a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21, a22, a23, a24,
      a25, a26, a27, a28, a29, a30, a31, a32, a33;
};
struct ThirtyThreeNoDefault {
  ThirtyTwo a;
  ThirtyTwoNoDefault b;
  TwoInts a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21, a22, a23, a24,
      a25, a26, a27, a28, a29, a30, a31;
};

struct Base : Point {
  int z;
};
struct EmptyBase : Empty {
  int z;
};
struct OnlyEmptyBase : Empty {};
struct NoDefaultBase : TwoInts {
  int z;
};
struct AnyBase : std::any {
  int z;
};
struct GreedyBase : TakesForward {
  int z;
};
struct TwoBases : Empty, Point {};
struct BitFieldFirst {
  int a : 3;
  int b;
};
struct BitFieldLast {
  int a;
  unsigned b : 3;
};
struct Reference {
  int& a;
};
struct References {
  int a;
  std::string& b;
  int c;
};
struct ConstReference {
  int a;
  const int& b;
};
struct RvalueReference {
  int&& a;
};
union Union {
  int a;
  float b;
};
struct HasUnion {
  Union a;
  int b;
};
struct NamelessUnion {
  union {
    int a;
    float b;
  };
  int c;
};
struct NamelessUnionLast {
  TwoInts a;
  union {
    int b;
    float c;
  };
};
struct NamelessUnionAndGreedy {
  std::any a;
  char b[3];
  union {
    int c;
    float d;
  };
};

static_assert(Has<Empty> && Has<OnlyEmpty, Empty> && Has<Empties, Empty, int, Empty>);
static_assert(Has<Point, int, double> && Has<Optional, int, std::optional<int>, int>);
static_assert(Has<OptionalOptional, std::optional<std::optional<std::string>>, std::variant<int, std::string>>);
static_assert(Has<ArrayFirst, int[2], int> && Has<ArrayMiddle, int, char[3][4], double> &&
              Has<ArrayLast, char, std::string[2]> && Has<ArrayOnly, int[3]> && Has<ArrayOfOne, int[1], int> &&
              Has<ArrayHuge, char[4096], int> && Has<ArrayOfStructs, Point[2], Optional[2]>);
static_assert(Has<NoDefault, int, TwoInts, std::optional<int>, ExplicitInt> &&
              Has<NoDefaultAndArrays, TwoInts, char[16], ExplicitInt, int[2][3]> &&
              Has<ArrayOfNoDefault, TwoInts[2], int> && Has<ArraysOfNoDefault, int, TwoInts[2][2], std::string>);
static_assert(Has<MoveOnlyMembers, std::unique_ptr<int>, MoveOnly>);
static_assert(Has<Greedy, std::any, TakesForward, TakesReference, TakesValue, std::any> && Has<OnlyAny, std::any> &&
              Has<OnlyGreedy, TakesForward> && Has<ArrayOfGreedy, TakesForward[2]>);
static_assert(Has<Functions, std::function<void()>, int (*)(int), int Point::*>);
static_assert(Has<Elidable, Point, std::array<int, 3>, ArrayFirst, Point> && Has<OnlyStruct, Point> &&
              Has<OnlyArray, std::array<int, 2>>);
static_assert(Has<Constant, const int, const std::string> && Has<ConstantArray, const int[2], const std::string>);
static_assert(Has<Initialised, int, TwoInts, int> && Has<InitialisedFirst, TwoInts, char[2], std::string>);
static_assert(Has<SharedAddress, Empty, int, Empty> && Has<Nameless, decltype(Nameless::inner), int>);
static_assert(Has<Tree, int, std::vector<Tree>, std::unique_ptr<Tree>, std::map<std::string, Tree>>);
static_assert(Has<Peculiar, Immovable, ExplicitDefault> && Has<Gap, int, int>);
static_assert(MembersOf<ThirtyTwo>::count == 32 && MembersOf<ThirtyTwoNoDefault>::count == 32);

static_assert(Refused<ThirtyThree, Reason::uncountable> && Refused<ThirtyThreeNoDefault, Reason::uncountable>);
static_assert(Refused<Base, Reason::base_class> && Refused<EmptyBase, Reason::base_class> &&
              Refused<OnlyEmptyBase, Reason::base_class> && Refused<NoDefaultBase, Reason::base_class> &&
              Refused<AnyBase, Reason::base_class> && Refused<GreedyBase, Reason::base_class> &&
              Refused<TwoBases, Reason::base_class>);
static_assert(!MembersOf<BitFieldFirst>::addressable && !MembersOf<BitFieldLast>::addressable);
static_assert(Refused<Reference, Reason::reference_member> && Refused<References, Reason::reference_member> &&
              Has<ConstReference, int, const int&>);
static_assert(Has<RvalueReference, int&&>);  // refused with the const one, when the members are judged
static_assert(!brood::Serializable<RvalueReference> && !brood::Serializable<ConstReference>);
static_assert(Has<HasUnion, Union, int> && Refused<NamelessUnion, Reason::union_type> &&
              Refused<NamelessUnionLast, Reason::union_type> && Refused<NamelessUnionAndGreedy, Reason::union_type>);

}  // namespace

template <>
struct brood::Serializer<TwoInts> {
  static void write(Writer& writer, const TwoInts& value) { writer.number(value.sum); }
  static TwoInts read(Reader& reader) { return TwoInts(reader.number<int>(), 0); }
};
template <>
struct brood::Serializer<ExplicitInt> {
  static void write(Writer& writer, const ExplicitInt& value) { writer.number(value.value); }
  static ExplicitInt read(Reader& reader) { return ExplicitInt(reader.number<int>()); }
};
template <>
struct brood::Serializer<MoveOnly> {
  static void write(Writer& writer, const MoveOnly& value) { writer.number(value.value); }
  static MoveOnly read(Reader& reader) { return MoveOnly(reader.number<int>()); }
};
template <>
struct brood::Serializer<TakesForward> {
  static void write(Writer&, const TakesForward&) {}
  static TakesForward read(Reader&) { return TakesForward(1); }
};

TEST_CASE("Serializer<aggregate> writes the members and nothing else") {
  CHECK(encode(Point{1, 2.0}) == bytes(1, 2.0));
  CHECK(encode(ArrayFirst{{1, 2}, 3}) == bytes(1, 2, 3));
  CHECK(encode(Empty()).empty());
}

TEST_CASE("Serializer<aggregate> keeps every member") {
  check_round_trip(Empty{});
  check_round_trip(Point{1, 2.5});
  check_round_trip(Optional{1, 2, 3});
  check_round_trip(Optional{1, std::nullopt, 3});
  check_round_trip(Elidable{{1, 2}, {3, 4, 5}, {{6, 7}, 8}, {9, 10}});
  check_round_trip(OnlyStruct{{1, 2}});
  check_round_trip(OnlyArray{{1, 2}});
  check_round_trip(Constant{1, "text"});
  check_round_trip(Empties{{}, 5, {}});
  check_round_trip(OnlyEmpty{});
  check_round_trip(SharedAddress{{}, 5, {}});
  check_round_trip(NoDefault{1, {2, 3}, 4, ExplicitInt(5)});
  check_round_trip(Initialised{4, {5, 6}, 7});
}

TEST_CASE("Serializer<aggregate> keeps C arrays") {
  check_round_trip(ArrayFirst{{1, 2}, 3});
  check_round_trip(ArrayMiddle{1, {"ab", "cd", "ef"}, 2.5});
  check_round_trip(ArrayLast{'x', {"one", "two"}});
  check_round_trip(ArrayOnly{{1, 2, 3}});
  check_round_trip(ArrayOfOne{{1}, 2});
  check_round_trip(ArrayOfStructs{{{1, 2}, {3, 4}}, {{5, 6, 7}, {8, std::nullopt, 9}}});
  check_round_trip(NoDefaultAndArrays{{1, 2}, "fifteen chars..", ExplicitInt(3), {{1, 2, 3}, {4, 5, 6}}});
  check_round_trip(ArrayOfNoDefault{{{1, 2}, {3, 4}}, 5});
  check_round_trip(ArraysOfNoDefault{1, {{{1, 2}, {3, 4}}, {{5, 6}, {7, 8}}}, "text"});
  check_round_trip(ConstantArray{{1, 2}, "text"});
  check_round_trip(InitialisedFirst{{3, 4}, {'a', 'b'}, "other"});
  ArrayHuge huge{};
  for (std::size_t i = 0; i != sizeof(huge.name); ++i) huge.name[i] = static_cast<char>(i % 100);
  CHECK(decode<ArrayHuge>(encode(huge)) == huge);
}

TEST_CASE("Serializer<aggregate> keeps thirty-two members") {
  ThirtyTwo many{};
  many.a1 = 1;
  many.a16 = 16;
  many.b1 = "first";
  many.b16 = "last";
  check_round_trip(many);
}

TEST_CASE("Serializer<aggregate> moves what can't be copied") {
  const MoveOnlyMembers value{std::make_unique<int>(1), MoveOnly(2)};
  const auto back = decode<MoveOnlyMembers>(encode(value));
  CHECK(*back.a == 1);
  CHECK(back.b.value == 2);
  check_hostile<MoveOnlyMembers>(encode(value));
}

TEST_CASE("Serializer<aggregate> takes members that would take anything") {
  static_cast<void>(decode<OnlyGreedy>(encode(OnlyGreedy{1})));
  static_cast<void>(decode<ArrayOfGreedy>(encode(ArrayOfGreedy{{1, 2}})));
}

TEST_CASE("Serializer<aggregate> follows a type into itself") {
  Tree tree{1, {}, nullptr, {}};
  tree.b.push_back(Tree{2, {}, std::make_unique<Tree>(Tree{3, {}, nullptr, {}}), {}});
  tree.d.emplace("four", Tree{4, {}, nullptr, {}});
  const Tree back = decode<Tree>(encode(tree));
  CHECK(back.b.at(0).c->a == 3);
  CHECK(back.d.at("four").a == 4);
  check_hostile<Tree>(encode(tree));
}

TEST_CASE("Serializer<aggregate> takes structs of a function") {
  struct Local {
    int a;
    std::string b;
    struct Inner {
      char c;
    } inner;
  };
  const auto back = decode<Local>(encode(Local{1, "two", {'3'}}));
  CHECK(back.a == 1);
  CHECK(back.b == "two");
  CHECK(back.inner.c == '3');
}

TEST_CASE("Serializer<aggregate> copies structs without a gap at once") {
  struct Dense {
    std::int32_t a;
    float b;
    std::int64_t c[2];
  };
  static_assert(brood::detail::bulk<Dense>() && !brood::detail::bulk<Point>());
  struct Checked {
    bool a;
    bool b;
  };
  static_assert(!brood::detail::bulk<Checked>());
  CHECK_THROWS_AS(static_cast<void>(decode<Checked>(bytes(std::uint8_t{1}, std::uint8_t{2}))),
                  brood::SerializationError);
  const std::vector<Dense> many{{1, 2, {3, 4}}, {5, 6, {7, 8}}};
  CHECK(encode(many).size() == 8 + 2 * sizeof(Dense));
  CHECK(decode<std::vector<Dense>>(encode(many)).at(1).c[1] == 8);
}
