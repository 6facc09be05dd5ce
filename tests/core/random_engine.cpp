// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/core/random_engine.hpp>

namespace {

using brood::RandomEngine;
using brood::detail::philox4x64;
using brood::detail::PhiloxCounter;

static_assert(std::uniform_random_bit_generator<RandomEngine>);
static_assert(sizeof(RandomEngine) == 88);
static_assert(RandomEngine(1)() != RandomEngine(2)(), "it can be computed by the compiler");

/// How far a sum of bits, each 0 or 1 with the same probability, is from what is expected, in standard deviations.
double deviation(std::uint64_t ones, std::uint64_t bits) {
  const auto n = static_cast<double>(bits);
  return std::abs(static_cast<double>(ones) - n / 2) / (std::sqrt(n) / 2);
}

/// The worst deviation over the 64 bits of the xor of each pair, and of all together. `shift`: of the second against the first.
template <class Pair>
double worst_bit(std::size_t pairs, Pair pair, int shift) {
  std::array<std::uint64_t, 64> ones{};
  std::uint64_t all = 0;
  for (std::size_t at = 0; at < pairs; ++at) {
    const auto [one, other] = pair(at);
    const std::uint64_t differ = one ^ std::rotl(other, shift);
    for (std::size_t bit = 0; bit < 64; ++bit) ones[bit] += differ >> bit & 1;
    all += static_cast<std::uint64_t>(std::popcount(differ));
  }
  double worst = deviation(all, pairs * 64);
  for (const std::uint64_t each : ones) worst = std::max(worst, deviation(each, pairs));
  return worst;
}

/// Chi square of the bytes of the numbers that `next` gives for 0, 1, ...: 255 degrees of freedom, so its mean is 255, its
/// standard deviation 22.6. Not a lambda: GCC would try to compute what it gives, for half a minute.
template <class Next>
double chi_square(Next next) {
  std::array<std::uint64_t, 256> counts{};
  constexpr int numbers = 40'000;
  for (int n = 0; n < numbers; ++n) {
    const std::uint64_t value = next(static_cast<std::uint64_t>(n));
    for (int byte = 0; byte < 8; ++byte) ++counts[value >> (8 * byte) & 255];
  }
  constexpr double expected = numbers * 8 / 256.0;
  double sum = 0;
  for (const std::uint64_t count : counts) sum += std::pow(static_cast<double>(count) - expected, 2) / expected;
  return sum;
}

}  // namespace

TEST_CASE("philox4x64 gives the known answers of its authors' implementation") {
  // from kat_vectors of Random123
  constexpr std::uint64_t ones = ~std::uint64_t{0};
  static_assert(philox4x64({0, 0, 0, 0}, {0, 0}) ==
                PhiloxCounter{0x16554d9eca36314c, 0xdb20fe9d672d0fdc, 0xd7e772cee186176b, 0x7e68b68aec7ba23b});
  CHECK(philox4x64({ones, ones, ones, ones}, {ones, ones}) ==
        PhiloxCounter{0x87b092c3013fe90b, 0x438c3c67be8d0224, 0x9cc7d7c69cd777b6, 0xa09caebf594f0ba0});
  CHECK(philox4x64({0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89},
                   {0x452821e638d01377, 0xbe5466cf34e90c6c}) ==
        PhiloxCounter{0xa528f45403e61d95, 0x38c72dbd566e9788, 0xa5a1610e72fd18b5, 0x57bd43b5e52b7fe6});
}

TEST_CASE("RandomEngine gives the words of philox4x64 block after block") {
  RandomEngine engine(7, 8, 9);
  for (std::uint64_t block = 0; block < 3; ++block) {
    for (const std::uint64_t word : philox4x64({block, 0, 9, 0}, {7, 8})) CHECK(engine() == word);
  }
  CHECK(RandomEngine()() == 0x16554d9eca36314c);
}

TEST_CASE("RandomEngine::discard is drawing without looking") {
  for (unsigned drawn = 0; drawn < 9; ++drawn) {
    for (unsigned skipped = 0; skipped < 14; ++skipped) {
      RandomEngine one(1, 2, 3);
      RandomEngine other(1, 2, 3);
      one.discard(drawn);
      for (unsigned n = 0; n < drawn; ++n) other();
      CHECK(one == other);
      one.discard(skipped);
      for (unsigned n = 0; n < skipped; ++n) other();
      CHECK(one == other);
      CHECK(one() == other());
      CHECK(one == other);
      other();
      CHECK_FALSE(one == other);
    }
  }
  RandomEngine far(1);
  far.discard(std::uint64_t{1} << 62);
  CHECK(far() == philox4x64({std::uint64_t{1} << 60, 0, 0, 0}, {1, 0})[0]);
}

TEST_CASE("RandomEngine::part does not depend on what was drawn, and is a stream of its own") {
  RandomEngine engine(1, 2, 3);
  CHECK(engine.part(0) == engine);
  const RandomEngine before = engine.part(5);
  engine();
  CHECK(engine.part(5) == before);
  CHECK(engine.part(4).part(5) == before);
  CHECK_FALSE(engine.part(0) == engine);
  RandomEngine part = engine.part(5);
  CHECK(part() == philox4x64({0, 5, 3, 0}, {1, 2})[0]);
}

TEST_CASE("RandomEngine: no two numbers of neighbouring seeds, streams, items and parts are equal") {
  std::set<std::uint64_t> seen;
  std::size_t drawn = 0;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    for (std::uint64_t stream = 0; stream < 12; ++stream) {
      for (std::uint64_t item = 0; item < 12; ++item) {
        for (std::uint64_t part = 0; part < 3; ++part) {
          RandomEngine engine = RandomEngine(seed, stream, item).part(part);
          for (int n = 0; n < 8; ++n, ++drawn) seen.insert(engine());
        }
      }
    }
  }
  CHECK(seen.size() == drawn);
}

TEST_CASE("RandomEngine: neighbouring streams are not correlated") {
  constexpr std::size_t pairs = 20'000;
  constexpr double bound = 5.5;  // of some 1,900 sums; the seeds are fixed, so this is passed always or never
  const auto first = [](std::uint64_t seed, std::uint64_t stream, std::uint64_t item) {
    return RandomEngine(seed, stream, item)();
  };
  for (const int shift : {0, 1, 32}) {
    CAPTURE(shift);
    // the first numbers of two neighbours
    CHECK(worst_bit(pairs, [&](std::uint64_t n) { return std::pair(first(n, 0, 0), first(n + 1, 0, 0)); }, shift) < bound);
    CHECK(worst_bit(pairs, [&](std::uint64_t n) { return std::pair(first(3, n, 0), first(3, n + 1, 0)); }, shift) < bound);
    CHECK(worst_bit(pairs, [&](std::uint64_t n) { return std::pair(first(3, 5, n), first(3, 5, n + 1)); }, shift) < bound);
    CHECK(worst_bit(pairs, [&](std::uint64_t n) { return std::pair(first(n, 7, 0), first(7, n, 0)); }, shift) < bound);
    // two streams side by side
    for (const auto& [a, b] : {std::pair(RandomEngine(1), RandomEngine(2)), std::pair(RandomEngine(1, 0), RandomEngine(1, 1)),
                               std::pair(RandomEngine(1, 1, 6), RandomEngine(1, 1, 7)),
                               std::pair(RandomEngine(1), RandomEngine(1).part(1))}) {
      RandomEngine one = a;
      RandomEngine other = b;
      CHECK(worst_bit(pairs, [&](std::uint64_t) { return std::pair(one(), other()); }, shift) < bound);
    }
    // and one stream against itself
    RandomEngine engine(9);
    std::uint64_t last = engine();
    CHECK(worst_bit(pairs, [&](std::uint64_t) {
            const std::uint64_t before = std::exchange(last, engine());
            return std::pair(before, last);
          }, shift == 0 ? 0 : shift) < bound);
  }
}

TEST_CASE("RandomEngine: each byte is as frequent as the others, in one stream and over the beginnings of many") {
  RandomEngine engine(11);
  for (const double sum : {chi_square([&](std::uint64_t) { return engine(); }),
                           chi_square([](std::uint64_t n) { return RandomEngine(n)(); }),
                           chi_square([](std::uint64_t n) { return RandomEngine(1, n)(); }),
                           chi_square([](std::uint64_t n) { return RandomEngine(1, 1, n)(); })}) {
    CHECK(sum > 150);
    CHECK(sum < 370);
  }
}

TEST_CASE("RandomEngine: uniform is from 0 to below 1, and even") {
  RandomEngine engine(5);
  std::array<int, 10> tenths{};
  double sum = 0;
  for (int n = 0; n < 100'000; ++n) {
    const double value = engine.uniform();
    REQUIRE(value >= 0);
    REQUIRE(value < 1);
    sum += value;
    ++tenths[static_cast<std::size_t>(value * 10)];
  }
  CHECK(sum / 100'000 == doctest::Approx(0.5).epsilon(0.01));
  for (const int count : tenths) CHECK(count == doctest::Approx(10'000).epsilon(0.05));
  CHECK(RandomEngine(5).uniform() == static_cast<double>(RandomEngine(5)() >> 11) / 9007199254740992.0);
}

TEST_CASE("RandomEngine serves the distributions of the standard library, and shuffle") {
  RandomEngine engine(6);
  double sum = 0;
  std::normal_distribution<double> normal(10, 2);
  for (int n = 0; n < 20'000; ++n) sum += normal(engine);
  CHECK(sum / 20'000 == doctest::Approx(10).epsilon(0.01));
  std::vector<int> cards(52);
  for (std::size_t n = 0; n < cards.size(); ++n) cards[n] = static_cast<int>(n);
  const std::vector<int> sorted = cards;
  std::shuffle(cards.begin(), cards.end(), engine);
  CHECK(cards != sorted);
  std::sort(cards.begin(), cards.end());
  CHECK(cards == sorted);
}
