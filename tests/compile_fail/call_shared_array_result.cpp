// expect: brood: a task can't return a SharedArray.*let the task write into it
// SPDX-License-Identifier: MIT
#include <brood/brood.hpp>

void fill(brood::SharedArray<int> array) { array[0] = 1; }
brood::SharedArray<int> make() { return brood::SharedArray<int>(3); }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  pool.submit(&fill, make()).get();
#ifdef BROOD_FAIL
  return pool.submit(&make).get()[0];
#endif
}
