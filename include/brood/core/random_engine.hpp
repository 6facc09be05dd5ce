// SPDX-License-Identifier: MIT
// Random numbers that depend on a seed and on nothing else, with as many independent streams as one likes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace brood::inline v0_1 {
namespace detail {

using PhiloxCounter = std::array<std::uint64_t, 4>;
using PhiloxKey = std::array<std::uint64_t, 2>;

/// The function Philox4x64-10: four words that look random, for each key and counter. Salmon, Moraes, Dror, Shaw: "Parallel
/// random numbers: as easy as 1, 2, 3", SC '11, doi:10.1145/2063384.2063405. For one key it is a bijection of the counters:
/// no two streams of one key can overlap.
constexpr PhiloxCounter philox4x64(PhiloxCounter counter, PhiloxKey key) noexcept {
  __extension__ using Wide = unsigned __int128;
  for (int round = 0; round < 10; ++round) {
    if (round != 0) {
      key[0] += 0x9E3779B97F4A7C15U;
      key[1] += 0xBB67AE8584CAA73BU;
    }
    const Wide first = Wide{0xD2E7470EE14C6C93U} * counter[0];
    const Wide second = Wide{0xCA5A826395121157U} * counter[2];
    counter = {static_cast<std::uint64_t>(second >> 64) ^ counter[1] ^ key[0], static_cast<std::uint64_t>(second),
               static_cast<std::uint64_t>(first >> 64) ^ counter[3] ^ key[1], static_cast<std::uint64_t>(first)};
  }
  return counter;
}

}  // namespace detail

/// A std::uniform_random_bit_generator of 64 bits a number, for the distributions of `<random>` and for std::shuffle. What
/// this_worker::random_engine() gives a task; it can be used anywhere. The numbers are those of Philox4x64-10 (see above): the
/// same on every machine, with every compiler. 88 bytes; a stream has 2^66 numbers. Not for secrets: who knows the seed knows
/// all.
/// \snippet reference.cpp RandomEngine
class RandomEngine {
 public:
  /// What it draws: 64 bits.
  using result_type = std::uint64_t;
  /// The smallest number, 0.
  static constexpr result_type min() noexcept { return 0; }
  /// The largest number, 2^64 - 1.
  static constexpr result_type max() noexcept { return ~result_type{0}; }

  /// The stream with these numbers, of any size and however close together: all are independent of each other. Costs nothing;
  /// the first number is computed when it is drawn.
  ///
  /// Call number c of a pool with this seed (its calls of submit, submit_into, map, stream, map_reduce and their kin count
  /// together, from 0) has RandomEngine(seed, c), and item i of it, where it takes a range, RandomEngine(seed, c, i).
  constexpr explicit RandomEngine(std::uint64_t seed = 0, std::uint64_t stream = 0, std::uint64_t item = 0) noexcept
      : key_{seed, stream}, counter_{0, 0, item, 0} {}

  /// The next number. About 2 ns.
  constexpr result_type operator()() noexcept {
    if (next_ == block_.size()) refill();
    return block_[next_++];
  }

  /// The next number as one from 0 to below 1: a multiple of 2^-53, each as likely. std::uniform_real_distribution differs
  /// between standard libraries, this does not.
  constexpr double uniform() noexcept { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }

  /// Skips so many numbers, in constant time.
  constexpr void discard(unsigned long long count) noexcept {
    const std::size_t left = block_.size() - next_;
    if (count <= left) {
      next_ += static_cast<std::size_t>(count);
      return;
    }
    count -= left;
    counter_[0] += count / block_.size();
    next_ = block_.size();
    if (count % block_.size() == 0) return;
    refill();
    next_ = static_cast<std::size_t>(count % block_.size());
  }

  /// A stream of its own for part n of the work that this stream is for, from its beginning: for thread n of a task. What was
  /// drawn here does not matter, n = 0 is this stream itself, and a part's part is one of the same parts.
  constexpr RandomEngine part(std::uint64_t n) const noexcept {
    RandomEngine other(key_[0], key_[1], counter_[2]);
    other.counter_[1] = n;
    return other;
  }

  /// Whether both will give the same numbers from now on.
  friend constexpr bool operator==(const RandomEngine& one, const RandomEngine& other) noexcept {
    return one.key_ == other.key_ && one.counter_ == other.counter_ && one.next_ == other.next_;
  }

 private:
  constexpr void refill() noexcept {
    block_ = detail::philox4x64(counter_, key_);
    ++counter_[0];
    next_ = 0;
  }

  detail::PhiloxKey key_;
  detail::PhiloxCounter counter_;  ///< of the next block: its number, the part, the item
  detail::PhiloxCounter block_{};
  std::size_t next_ = block_.size();  ///< in the block
};

}  // namespace brood
