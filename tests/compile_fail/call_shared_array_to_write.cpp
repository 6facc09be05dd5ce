// expect: brood: an argument can't be converted to the parameter of the task
// SPDX-License-Identifier: MIT
#include <brood/brood.hpp>

void fill(brood::SharedArray<int> array) { array[0] = 1; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  brood::SharedArray<int> array(3);
  pool.submit(&fill, array).get();
#ifdef BROOD_FAIL
  const brood::SharedArray<const int> read_only = array;
  pool.submit(&fill, read_only).get();
#endif
}
