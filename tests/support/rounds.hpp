// SPDX-License-Identifier: MIT
// How often a test plays its scenario: a few times by ctest, as often as it takes to meet a rare race by
// scripts/hazards.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>

namespace support {

/// Set, whatever its value: tests run at full size.
inline constexpr const char* full_variable = "BROOD_TEST_FULL";

/// How many rounds have begun in this run, its forked children included: memory that they share, of the watchdog. It
/// counts a case's time anew with each. Null where there is no watchdog.
inline std::atomic<std::uint64_t>* rounds_begun = nullptr;

/// The numbers 0 to count - 1, for a loop.
class Rounds {
 public:
  explicit Rounds(int count) : count_(count) {}

  struct End {};
  class Iterator {
   public:
    explicit Iterator(int count) : count_(count) {}
    int operator*() const {
      if (rounds_begun != nullptr) ++*rounds_begun;
      return number_;
    }
    Iterator& operator++() {
      ++number_;
      return *this;
    }
    bool operator==(End) const { return number_ >= count_; }

   private:
    int number_ = 0;
    int count_;
  };

  Iterator begin() const { return Iterator(count_); }
  End end() const { return {}; }
  int count() const { return count_; }

 private:
  int count_;
};

/// `for (const int round : support::rounds(5, 200))`: so many rounds by ctest, and so many at full size.
inline Rounds rounds(int few, int full) { return Rounds(std::getenv(full_variable) != nullptr ? full : few); }

}  // namespace support
