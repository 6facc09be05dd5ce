// expect: brood: an argument can.t be converted to the parameter of the task
// SPDX-License-Identifier: MIT
#include <string>
#include <vector>

#include <brood/brood.hpp>

int length(const std::string& text) { return static_cast<int>(text.size()); }
int twice(int n) { return 2 * n; }
int add(int one, int other) { return one + other; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  const std::vector<int> numbers{1, 2};
  pool.map_reduce(&twice, &add, numbers, 0);
#ifdef BROOD_FAIL
  pool.map_reduce(&length, &add, numbers, 0);
#endif
}
