// SPDX-License-Identifier: MIT
#include <brood/types/msgpack.hpp>

#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "support/leftovers.hpp"
#include "wire/round_trip.hpp"

namespace {

class Order {
 public:
  Order() = default;
  Order(std::string customer, std::map<std::string, int> lines) : customer_(std::move(customer)), lines_(std::move(lines)) {}
  bool operator==(const Order&) const = default;

  MSGPACK_DEFINE(customer_, lines_, parts_)

  std::vector<Order> parts_;

 private:
  std::string customer_;
  std::map<std::string, int> lines_;
};

struct Picky {
  int value = 0;
  MSGPACK_DEFINE(value)
};

struct Refuses {
  template <class Packer>
  void msgpack_pack(Packer& packer) const {
    packer.pack(1);
  }
  void msgpack_unpack(const msgpack::object&) { throw std::domain_error("no such order"); }
};

struct Nested {
  std::vector<std::vector<int>> rows;
  MSGPACK_DEFINE(rows)
};

/// The bytes of a MessagePack value, as MsgpackSerializer has them.
wire_test::Image framed(std::string_view message) {
  brood::Writer writer;
  writer.text(message);
  return {writer.view().begin(), writer.view().end()};
}

}  // namespace

template <>
struct brood::Serializer<Order> : brood::MsgpackSerializer<Order> {};
template <>
struct brood::Serializer<Picky> : brood::MsgpackSerializer<Picky> {};
template <>
struct brood::Serializer<Refuses> : brood::MsgpackSerializer<Refuses> {};
template <>
struct brood::Serializer<Nested> : brood::MsgpackSerializer<Nested> {};

TEST_CASE("MessagePack: a class with MSGPACK_DEFINE, alone and in containers") {
  const support::Leftovers leftovers;
  Order order("Ana", {{"pen", 2}, {"ink", -1}});
  order.parts_ = {Order("Ben", {}), order};
  wire_test::check_round_trip(order);
  wire_test::check_round_trip(std::vector<Order>{order, {}});
}

TEST_CASE("MessagePack: a value of another shape, and what the type itself refuses") {
  const support::Leftovers leftovers;
  CHECK(wire_test::decode<Picky>(framed("\x91\x2a")).value == 42);
  CHECK_THROWS_AS(wire_test::decode<Picky>(framed("\x91\xa1x")), brood::SerializationError);  // a text in place of a number
  CHECK_THROWS_AS(wire_test::decode<Picky>(framed("\x91\x2a\x2a")), brood::SerializationError);  // and one value too many
  CHECK_THROWS_AS(wire_test::decode<Picky>(framed("")), brood::SerializationError);
  CHECK_THROWS_AS(wire_test::decode<Picky>(framed("\xc1")), brood::SerializationError);
  CHECK_THROWS_WITH_AS(wire_test::decode<Refuses>(wire_test::encode(Refuses())),
                       "bytes can't be decoded: MessagePack says: no such order", brood::SerializationError);
}

TEST_CASE("MessagePack: counts without bytes are refused before memory is asked for") {
  const support::Leftovers leftovers;
  using namespace std::string_view_literals;
  // one row of 2^32 - 1 numbers; as many rows; as many pairs; and rows that claim the same bytes once more each
  CHECK_THROWS_AS(wire_test::decode<Nested>(framed("\x91\x91\xdd\xff\xff\xff\xff\x01"sv)), brood::SerializationError);
  CHECK_THROWS_AS(wire_test::decode<Nested>(framed("\x91\xdd\xff\xff\xff\xff\x90"sv)), brood::SerializationError);
  CHECK_THROWS_AS(wire_test::decode<Nested>(framed("\x91\xdf\x80\x00\x00\x00\x90"sv)), brood::SerializationError);
  std::string greedy = "\x91\xdc\x40\x00";
  for (int i = 0; i < 0x4000; ++i) greedy += "\xdc\x40\x00"sv;
  CHECK_THROWS_AS(wire_test::decode<Nested>(framed(greedy)), brood::SerializationError);
  CHECK_THROWS_AS(wire_test::decode<Nested>(framed(std::string(100'000, '\x91'))), brood::SerializationError);
}
