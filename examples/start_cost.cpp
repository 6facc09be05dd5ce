// SPDX-License-Identifier: MIT
// What each start method costs on this machine: making a pool, and a fresh worker from the request to its first result.
// With an argument the host first touches so many GiB of memory: only fork grows with it.
#include <brood/brood.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

double ms_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

template <class Policy>
void measure() {
  const auto start = std::chrono::steady_clock::now();
  brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 1});
  const double made = ms_since(start);
  std::vector<double> first;
  for (int round = 0; round < 101; ++round) {
    pool.wait();
    const auto asked = std::chrono::steady_clock::now();
    pool.submit([] { return 1; }).get();
    first.push_back(ms_since(asked));
  }
  std::nth_element(first.begin(), first.begin() + 50, first.end());
  std::printf("%-20s %12.2f %26.2f\n", Policy::name.data(), made, first[50]);
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const std::vector<char> memory(argc > 1 ? std::strtoull(argv[1], nullptr, 10) << 30 : 0, 1);
  std::printf("%-20s %12s %26s\n", "policy", "pool made, ms", "fresh worker's result, ms");
  measure<brood::ForkPolicy>();
  measure<brood::ForkServerPolicy<>>();
  measure<brood::SpawnPolicy>();
}
