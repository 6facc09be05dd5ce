// SPDX-License-Identifier: MIT
#include <brood/types/json.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "wire/round_trip.hpp"

using nlohmann::json;
using nlohmann::ordered_json;
using wire_test::check_hostile;
using wire_test::check_round_trip;
using wire_test::decode;
using wire_test::encode;

static_assert(brood::Serializable<json>);
static_assert(brood::Serializable<ordered_json>);
static_assert(brood::Serializable<std::vector<json>>);

namespace {

json nested(int levels) {
  json value = 1;
  for (int i = 0; i < levels; ++i) value = json::array({std::move(value)});
  return value;
}

json doubled(const json& order) {
  json result = order;
  for (auto& line : result["lines"]) line["count"] = line["count"].get<int>() * 2;
  return result;
}

}  // namespace

TEST_CASE("json: every kind of value arrives as it was") {
  const support::Leftovers leftovers;
  for (const json& value :
       {json(), json(true), json(-7), json(std::numeric_limits<std::uint64_t>::max()), json(2.5), json("t\0xt \xff"),
        json::array(), json::object(), json::binary({1, 2, 255}, 42), json::binary({}),
        json{{"name", "x"}, {"lines", {1, "two", nullptr, {{"deep", {true, 2.5}}}}}}}) {
    check_round_trip(value);
    const json there = decode<json>(encode(value));
    CHECK(there.type() == value.type());
    CHECK(there.dump(-1, ' ', false, json::error_handler_t::replace) == value.dump(-1, ' ', false, json::error_handler_t::replace));
  }
  CHECK(std::isnan(decode<json>(encode(json(std::nan("")))).get<double>()));
  CHECK(decode<json>(encode(json::binary({1}, 42))).get_binary().subtype() == 42);
  CHECK(!decode<json>(encode(json::binary({1}))).get_binary().has_subtype());
}

TEST_CASE("ordered_json keeps its order") {
  const support::Leftovers leftovers;
  const ordered_json value{{"z", 1}, {"a", 2}, {"m", {{"y", 1}, {"b", 2}}}};
  CHECK(decode<ordered_json>(encode(value)).dump() == R"({"z":1,"a":2,"m":{"y":1,"b":2}})");
}

TEST_CASE("json: nesting has a limit, on both sides") {
  const support::Leftovers leftovers;
  CHECK(decode<json>(encode(nested(100))) == nested(100));
  CHECK_THROWS_AS(encode(nested(101)), brood::SerializationError);
  wire_test::Image deep = encode(nested(100));
  wire_test::Image deeper(deep.begin(), deep.begin() + 9);  // one more array of one element around it
  deeper.insert(deeper.end(), deep.begin(), deep.end());
  CHECK_THROWS_AS(decode<json>(deeper), brood::SerializationError);
  CHECK_THROWS_AS(encode(json(json::value_t::discarded)), brood::SerializationError);
}

TEST_CASE("json: what no json could have written is refused") {
  const support::Leftovers leftovers;
  constexpr std::uint8_t array = 7;
  constexpr std::uint8_t object = 8;
  CHECK_THROWS_AS(decode<json>(wire_test::bytes(std::uint8_t{9})), brood::SerializationError);
  CHECK_THROWS_AS(decode<json>(wire_test::bytes(array, std::uint64_t{1} << 40)), brood::SerializationError);
  CHECK_THROWS_AS(decode<json>(wire_test::bytes(object, std::uint64_t{2}, std::uint64_t{0}, std::uint8_t{0}, std::uint64_t{0},
                                                std::uint8_t{0})),
                  brood::SerializationError);  // the name "" twice
}

TEST_CASE("json: argument and result of a task") {
  const support::Leftovers leftovers;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  const json order{{"customer", "Ana"}, {"lines", {{{"item", "pen"}, {"count", 2}}}}};
  CHECK(pool.submit(&doubled, order).get()["lines"][0]["count"] == 4);
}
