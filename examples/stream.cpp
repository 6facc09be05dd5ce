// SPDX-License-Identifier: MIT
// stream reads an input as it is read itself, so the input may be endless. Here: all candidates from a million on, of which the
// first three whose test, in a worker, says prime. Leaving the loop ends it all: nothing that is left starts.
#include <cstdint>
#include <iostream>
#include <iterator>

#include <brood/brood.hpp>

/// A generator: an input range without an end. Its items are made when a worker is about to need them.
class Odd {
 public:
  explicit Odd(std::uint64_t first) : next_(first | 1) {}

  struct Iterator {
    using value_type = std::uint64_t;
    using difference_type = std::ptrdiff_t;
    Odd* from;
    std::uint64_t operator*() const { return from->next_; }
    Iterator& operator++() {
      from->next_ += 2;
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::unreachable_sentinel_t) const { return false; }
  };
  Iterator begin() { return {this}; }
  std::unreachable_sentinel_t end() const { return {}; }

 private:
  std::uint64_t next_;
};

std::uint64_t prime_or_zero(std::uint64_t n) {
  for (std::uint64_t divisor = 3; divisor * divisor <= n; divisor += 2) {
    if (n % divisor == 0) return 0;
  }
  return n;
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool;

  int wanted = 3;
  for (const std::uint64_t prime : pool.stream(&prime_or_zero, Odd(1'000'000))) {
    if (prime == 0) continue;
    std::cout << prime << '\n';
    if (--wanted == 0) break;
  }
}
