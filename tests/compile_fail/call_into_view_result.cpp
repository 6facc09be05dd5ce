// expect: brood: submit_into: the task must return a std::vector<T>, std::array<T, N> or std::basic_string<T>
// SPDX-License-Identifier: MIT
#include <span>
#include <vector>

#include <brood/brood.hpp>

std::vector<double> doubles() { return {1, 2}; }
std::span<double> view() { return {}; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  std::vector<double> destination(2);
  pool.submit_into(destination, &doubles).get();
#ifdef BROOD_FAIL
  pool.submit_into(destination, &view).get();
#endif
}
