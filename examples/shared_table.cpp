// SPDX-License-Identifier: MIT
// A large table that the host has built is searched on all cores without being sent: under ForkPolicy a closure runs in a
// copy of the host, which sees by reference what the host holds at the call. Pages are shared until somebody writes.
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <vector>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);

  std::vector<std::uint64_t> table(8'000'000);  // 61 MiB, sorted
  std::uint64_t value = 0;
  for (std::uint64_t& each : table) each = value += 1 + value % 7;

  brood::Pool<brood::ForkPolicy> pool;
  const std::vector<std::uint64_t> wanted{1, table[10], table[4'000'000], table.back(), table.back() + 1};
  const auto places = pool.map(
      [&](std::uint64_t number) -> std::int64_t {
        const auto found = std::lower_bound(table.begin(), table.end(), number);
        return found != table.end() && *found == number ? found - table.begin() : -1;
      },
      wanted);
  for (const std::int64_t place : places) std::cout << place << '\n';
}
