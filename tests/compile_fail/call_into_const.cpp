// expect: brood: submit_into: the destination is const; pass a std::span of elements that can be written
// SPDX-License-Identifier: MIT
#include <span>
#include <vector>

#include <brood/brood.hpp>

std::vector<double> doubles() { return {1, 2}; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  std::vector<double> destination(2);
  pool.submit_into(std::span<double>(destination), &doubles).get();
#ifdef BROOD_FAIL
  pool.submit_into(std::span<const double>(destination), &doubles).get();
#endif
}
