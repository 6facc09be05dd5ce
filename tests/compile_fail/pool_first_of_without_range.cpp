// expect: brood: first_of needs a range \(a container, a view, an array\) as its second argument
// SPDX-License-Identifier: MIT
#include <vector>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  pool.first_of([](int n) { return n; }, std::vector{1, 2});
#ifdef BROOD_FAIL
  pool.first_of([](int n) { return n; }, 5);
#endif
}
