// expect: brood: submit_into: the destination must be memory that lasts: a std::span<T>, or a std::vector, std::array
// SPDX-License-Identifier: MIT
#include <vector>

#include <brood/brood.hpp>

std::vector<double> doubles() { return {1, 2}; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  std::vector<double> destination(2);
  pool.submit_into({.retries = 1}, destination, &doubles).get();
#ifdef BROOD_FAIL
  pool.submit_into(std::vector<double>(2), &doubles).get();
#endif
}
