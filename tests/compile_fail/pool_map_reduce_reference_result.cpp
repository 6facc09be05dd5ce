// expect: brood: the task returns a reference
// SPDX-License-Identifier: MIT
#include <vector>

#include <brood/brood.hpp>

int total = 0;
int& added(int n) { return total += n; }
int twice(int n) { return 2 * n; }
int add(int one, int other) { return one + other; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  const std::vector<int> numbers{1, 2};
  pool.map_reduce(&twice, &add, numbers, 0);
#ifdef BROOD_FAIL
  pool.map_reduce(&added, &add, numbers, 0);
#endif
}
