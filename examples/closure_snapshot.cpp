// SPDX-License-Identifier: MIT
// Under ForkPolicy a task may be a lambda with captures. It runs in a copy of the host that is taken at the call: it
// sees by reference what the host holds then, without a byte serialized, and what it changes stays in the copy.
#include <iostream>
#include <numeric>
#include <ranges>
#include <vector>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});

  std::vector<int> table(1'000'000, 1);  // made after the pool: its workers don't have it, a snapshot at the call does
  const auto sum_and_clear = [&table] {
    const int sum = std::accumulate(table.begin(), table.end(), 0);
    table.clear();
    return sum;
  };
  std::cout << "sum: " << pool.submit(sum_and_clear).get() << '\n';
  std::cout << "elements that the host still has: " << table.size() << '\n';

  table.assign(table.size(), 2);
  std::cout << "sum at the next call: " << pool.submit(sum_and_clear).get() << '\n';

  const auto sum_of_quarter = [&table](int quarter) {
    const auto begin = table.begin() + quarter * 250'000;
    return std::accumulate(begin, begin + 250'000, 0);
  };
  for (const int sum : pool.map(sum_of_quarter, std::views::iota(0, 4))) {
    std::cout << "sum of a quarter: " << sum << '\n';
  }
}
