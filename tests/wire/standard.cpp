// SPDX-License-Identifier: MIT
#include <bitset>
#include <chrono>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <future>
#include <ios>
#include <map>
#include <ratio>
#include <string>
#include <system_error>
#include <vector>

#include <doctest/doctest.h>

#include <brood/wire/standard.hpp>

#include "round_trip.hpp"

using brood::SerializationError;
using wire_test::bytes;
using wire_test::check_counts;
using wire_test::check_round_trip;
using wire_test::decode;
using wire_test::encode;

namespace {

struct Category : std::error_category {
  const char* name() const noexcept override { return "mine"; }
  std::string message(int) const override { return "no message"; }
};

// the same name, but another category
struct Impostor : std::error_category {
  const char* name() const noexcept override { return "generic"; }
  std::string message(int) const override { return "no message"; }
};

}  // namespace

TEST_CASE("Serializer<std::chrono::duration> and Serializer<std::chrono::time_point> keep the count") {
  check_round_trip(std::chrono::nanoseconds::min());
  check_round_trip(std::chrono::duration<double, std::ratio<1, 3>>(0.5));
  check_round_trip(std::chrono::steady_clock::now());
  check_round_trip(std::chrono::system_clock::time_point());
  check_round_trip(std::chrono::sys_days(std::chrono::days(19'000)));
  check_round_trip(std::vector{std::chrono::seconds(1), std::chrono::seconds(2)});
}

TEST_CASE("Serializer<std::complex> keeps both parts") {
  check_round_trip(std::complex<double>(1.5, -2));
  check_round_trip(std::complex<long double>(1, 2));
  check_round_trip(std::vector<std::complex<float>>{{1, 2}, {3, 4}});
}

TEST_CASE("Serializer<std::bitset> keeps every bit") {
  check_round_trip(std::bitset<0>());
  check_round_trip(std::bitset<1>(1));
  check_round_trip(std::bitset<13>(0x1555));
  check_round_trip(std::bitset<64>(~0ull));
  check_round_trip(std::bitset<200>("1010011") << 150);
  CHECK(encode(std::bitset<9>()).size() == 2);
}

TEST_CASE("Serializer<std::filesystem::path> keeps the bytes of the name") {
  check_round_trip(std::filesystem::path());
  check_round_trip(std::filesystem::path("/tmp/a b/../c"));
  check_round_trip(std::filesystem::path(std::string("not utf-8: \xff\xfe")));
  check_round_trip(std::map<std::filesystem::path, int>{{"a", 1}});
  check_counts<std::filesystem::path>();
}

TEST_CASE("Serializer<std::error_code> keeps the category") {
  check_round_trip(std::error_code());
  check_round_trip(std::error_code(2, std::generic_category()));
  check_round_trip(std::error_code(11, std::system_category()));
  check_round_trip(make_error_code(std::io_errc::stream));
  check_round_trip(make_error_code(std::future_errc::broken_promise));
  check_round_trip(std::make_error_condition(std::errc::timed_out));
  CHECK(&decode<std::error_code>(encode(std::error_code(2, std::system_category()))).category() ==
        &std::system_category());
}

TEST_CASE("Serializer<std::error_code> refuses a category that it does not know") {
  const Category category;
  CHECK_THROWS_WITH_AS(
      static_cast<void>(encode(std::error_code(1, category))),
      "a value can't be sent: its error category \"mine\" is not known to the library: send the number "
      "and its text instead",
      SerializationError);
  const Impostor impostor;
  CHECK_THROWS_AS(static_cast<void>(encode(std::error_code(1, impostor))), SerializationError);
  CHECK_THROWS_AS(static_cast<void>(decode<std::error_code>(bytes(std::uint8_t{4}, 1))), SerializationError);
}
