// SPDX-License-Identifier: MIT
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

#include <brood/wire/containers.hpp>

#include "round_trip.hpp"

using brood::SerializationError;
using wire_test::bytes;
using wire_test::check_counts;
using wire_test::check_hostile;
using wire_test::check_round_trip;
using wire_test::decode;
using wire_test::encode;
using wire_test::Image;
using wire_test::Largest;
using wire_test::Watched;

namespace {

struct Point {
  double x = 0, y = 0;
  bool operator==(const Point&) const = default;
};
struct Empty {
  bool operator==(const Empty&) const = default;
};
struct Key {
  explicit Key(int start) : value(start) {}
  auto operator<=>(const Key&) const = default;
  int value;
};
struct Fixed {
  explicit Fixed(std::uint32_t start) : value(start) {}
  bool operator==(const Fixed&) const = default;
  std::uint32_t value;
};
struct Huge {
  std::optional<std::array<double, 1000>> data;
};
struct ByRemainder {
  bool operator()(int a, int b) const { return a % 10 < b % 10; }
};
struct Stateful {
  bool reversed = false;
  bool operator()(int a, int b) const { return reversed ? b < a : a / 10 < b / 10; }
};

template <int Levels>
struct Nest {
  using Type = std::vector<typename Nest<Levels - 1>::Type>;
};
template <>
struct Nest<0> {
  using Type = int;
};
struct Chain {
  std::vector<Chain> next;
};
struct Linked {
  int value;
  std::unique_ptr<Linked> next;
};

}  // namespace

template <>
struct brood::Serializer<Key> {
  static void write(Writer& writer, const Key& key) { writer.number(key.value); }
  static Key read(Reader& reader) { return Key(reader.number<int>()); }
};
template <>
inline constexpr bool brood::bitwise<Fixed> = true;

TEST_CASE("Serializer<std::basic_string> keeps every kind of character") {
  check_round_trip(std::string());
  check_round_trip(std::string("a\0b", 3));
  check_round_trip(std::wstring(L"wide \u00e9"));
  check_round_trip(std::u8string(u8"\u00e9"));
  check_round_trip(std::u16string(u"\u00e9x"));
  check_round_trip(std::u32string(U"\U0001f600"));
  check_round_trip(std::pmr::string("pmr"));
}

TEST_CASE("Serializer<std::vector> of numbers is one block") {
  std::vector<std::uint16_t> numbers{1, 2, 3};
  CHECK(encode(numbers) == bytes(std::uint64_t{3}, std::uint16_t{1}, std::uint16_t{2}, std::uint16_t{3}));
  check_round_trip(numbers);
  check_round_trip(std::vector<double>());
  check_round_trip(std::vector<std::byte>(5, std::byte{9}));
  check_round_trip(std::vector{Point{1, 2}, Point{3, 4}});
  check_round_trip(std::vector{Fixed(1), Fixed(2)});
  check_round_trip(std::vector<std::array<int, 3>>{{1, 2, 3}, {4, 5, 6}});
}

TEST_CASE("Serializer<std::vector> of numbers takes one allocation, aligned or not") {
  std::vector<std::uint64_t> numbers(10'000);
  std::iota(numbers.begin(), numbers.end(), std::uint64_t{7});
  const Image image = encode(numbers);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    Image shifted(shift);
    shifted.insert(shifted.end(), image.begin(), image.end());
    Largest::block = 0;
    const auto back =
        decode<std::vector<std::uint64_t, Watched<std::uint64_t>>>(std::span<const std::byte>(shifted).subspan(shift));
    CHECK(Largest::block == numbers.size() * sizeof(std::uint64_t));
    CHECK(std::equal(back.begin(), back.end(), numbers.begin(), numbers.end()));
  }
}

TEST_CASE("Serializer<std::vector> holds anything") {
  check_round_trip(std::vector<std::string>{"a", "", "ccc"});
  check_round_trip(std::vector<long double>{1, 2});
  check_round_trip(std::vector{Key(1), Key(2)});
  check_round_trip(std::vector<std::optional<int>>{1, std::nullopt});
  check_round_trip(std::vector<std::vector<std::vector<int>>>{{{1}, {}}, {}, {{2, 3}}});
  std::vector<std::unique_ptr<int>> owners;
  owners.push_back(std::make_unique<int>(3));
  owners.emplace_back();
  const auto back = decode<std::vector<std::unique_ptr<int>>>(encode(owners));
  REQUIRE(back.size() == 2);
  CHECK(*back[0] == 3);
  CHECK(back[1] == nullptr);
}

TEST_CASE("Serializer<std::vector<bool>> packs bits") {
  for (std::size_t size : {0u, 1u, 7u, 8u, 9u, 64u, 65u}) {
    std::vector<bool> bits(size);
    for (std::size_t i = 0; i != size; ++i) bits[i] = i % 3 == 0;
    CHECK(encode(bits).size() == 8 + (size + 7) / 8);
    check_round_trip(bits);
  }
  check_counts<std::vector<bool, Watched<bool>>>();
}

TEST_CASE("Serializer<std::deque>, <std::list> and <std::forward_list> keep the order") {
  check_round_trip(std::deque<int>{1, 2, 3});
  check_round_trip(std::list<std::string>{"b", "a"});
  check_round_trip(std::forward_list<Key>{Key(3), Key(1)});
  check_round_trip(std::forward_list<int>());
}

TEST_CASE("Serializer<std::array> has no count") {
  check_round_trip(std::array<int, 0>());
  check_round_trip(std::array<bool, 3>{true, false, true});
  check_round_trip(std::array<Point, 2>{Point{1, 2}, Point{3, 4}});
  check_round_trip(std::array<std::string, 2>{"a", "b"});
  check_round_trip(std::array<Key, 2>{Key(1), Key(2)});
  check_round_trip(std::array<const std::string, 2>{"a", "b"});
  CHECK(encode(std::array<std::uint8_t, 2>{1, 2}).size() == 2);
}

TEST_CASE("Serializer<std::map> and its kin keep the elements") {
  check_round_trip(std::map<std::string, std::vector<int>>{{"a", {1}}, {"b", {}}});
  check_round_trip(std::multimap<int, std::string>{{1, "first"}, {1, "second"}, {0, ""}});
  check_round_trip(std::set<Key>{Key(2), Key(1)});
  check_round_trip(std::set<int, std::greater<>>{1, 2, 3});
  check_round_trip(std::multiset<int>{1, 1, 2});
  check_round_trip(std::unordered_map<std::string, int>{{"a", 1}, {"b", 2}});
  check_round_trip(std::unordered_multimap<int, int>{{1, 1}, {1, 2}});
  check_round_trip(std::unordered_set<std::string>{"x", "y"});
  check_round_trip(std::unordered_multiset<int>{1, 1, 2});
  const auto owners = decode<std::map<int, std::unique_ptr<int>>>(encode([] {
    std::map<int, std::unique_ptr<int>> map;
    map.emplace(1, std::make_unique<int>(5));
    return map;
  }()));
  CHECK(*owners.at(1) == 5);
}

TEST_CASE("Serializer<std::set> refuses a key that is there twice") {
  CHECK_THROWS_WITH_AS(static_cast<void>(decode<std::set<int>>(bytes(std::uint64_t{2}, 5, 5))),
                       "bytes can't be decoded: a key is there twice", SerializationError);
  CHECK_THROWS_AS(static_cast<void>(decode<std::unordered_map<int, char>>(bytes(std::uint64_t{2}, 5, 'a', 5, 'b'))),
                  SerializationError);
  CHECK(decode<std::multiset<int>>(bytes(std::uint64_t{2}, 5, 5)).size() == 2);
}

TEST_CASE("Serializer<std::set> sorts anew by the comparator that is made by default") {
  CHECK(decode<std::set<int, ByRemainder>>(encode(std::set<int, ByRemainder>{19, 21})) ==
        std::set<int, ByRemainder>{19, 21});
  // a comparator with a state would lose 12, which it took for different from 11
  const std::set<int, Stateful> reversed({11, 12}, Stateful{true});
  CHECK_THROWS_AS(static_cast<void>(decode<std::set<int, Stateful>>(encode(reversed))), SerializationError);
}

TEST_CASE("Serializer<std::vector> counts elements that take no byte") {
  const std::vector<Empty> empties(3'000'000);
  CHECK(decode<std::vector<Empty>>(encode(empties)).size() == empties.size());
  check_round_trip(std::vector<std::tuple<>>(3));
  check_round_trip(std::set<std::monostate>{std::monostate()});
  check_round_trip(std::map<std::monostate, Empty>{{std::monostate(), Empty()}});
  check_round_trip(std::list<std::monostate>(2));
  check_counts<std::vector<Empty, Watched<Empty>>>();
}

TEST_CASE("Serializer of containers refuses a count that can't be there, before it asks for memory") {
  check_counts<std::vector<char, Watched<char>>>();
  check_counts<std::vector<double, Watched<double>>>();
  check_counts<std::basic_string<char, std::char_traits<char>, Watched<char>>>();
  check_counts<std::vector<std::string, Watched<std::string>>>();
  check_counts<std::vector<Key, Watched<Key>>>();
  check_counts<std::vector<Huge, Watched<Huge>>>();
  check_counts<std::deque<std::string, Watched<std::string>>>();
  check_counts<std::list<int, Watched<int>>>();
  check_counts<std::forward_list<std::optional<int>, Watched<std::optional<int>>>>();
  check_counts<std::map<int, Huge, std::less<>, Watched<std::pair<const int, Huge>>>>();
  check_counts<std::unordered_set<int, std::hash<int>, std::equal_to<>, Watched<int>>>();
  check_counts<std::unordered_map<int, Empty, std::hash<int>, std::equal_to<>, Watched<std::pair<const int, Empty>>>>();
}

TEST_CASE("Serializer<std::vector> does not make room for large elements on trust") {
  // a thousand elements of eight kilobytes that take one byte each, of which the second is not even a bool
  Image image = bytes(std::uint64_t{1000}, std::uint8_t{0}, std::uint8_t{7});
  image.resize(8 + 1000);
  Largest::block = 0;
  using Elements = std::vector<Huge, Watched<Huge>>;
  CHECK_THROWS_AS(static_cast<void>(decode<Elements>(image)), SerializationError);
  CHECK(Largest::block <= 4 * sizeof(Huge));
}

TEST_CASE("Serializer of nested types goes down to Reader::max_depth and no further") {
  const auto chain = [](int levels) {
    Chain head;
    for (int i = 1; i < levels; ++i) {
      Chain outer;
      outer.next.push_back(std::move(head));
      head = std::move(outer);
    }
    return head;
  };
  const auto depth = [](const Chain& head) {
    int levels = 1;
    for (const Chain* at = &head; !at->next.empty(); at = &at->next[0]) ++levels;
    return levels;
  };
  CHECK(depth(decode<Chain>(encode(chain(brood::Reader::max_depth)))) == brood::Reader::max_depth);
  CHECK_THROWS_AS(static_cast<void>(encode(chain(brood::Reader::max_depth + 1))), SerializationError);

  Image bomb;
  for (int i = 0; i < 100'000; ++i) {
    const Image one = bytes(std::uint64_t{1});
    bomb.insert(bomb.end(), one.begin(), one.end());
  }
  CHECK_THROWS_AS(static_cast<void>(decode<Chain>(bomb)), SerializationError);

  Image links;
  for (int i = 0; i < 100'000; ++i) {
    const Image one = bytes(i, std::uint8_t{1});
    links.insert(links.end(), one.begin(), one.end());
  }
  CHECK_THROWS_AS(static_cast<void>(decode<Linked>(links)), SerializationError);
}

TEST_CASE("Serializer of deeply nested static types works") {
  Nest<8>::Type nest;  // a name of such a type doubles with each level
  const Image image = encode(nest);
  CHECK(decode<Nest<8>::Type>(image).empty());
}
