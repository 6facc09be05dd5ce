// SPDX-License-Identifier: MIT
// What only workers run, for check.sh.
#include <brood/brood.hpp>

int only_in_worker(int n) {
  if (n > 100) return 0;
  return n + 1;  // counted 11 times
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  {
    brood::Pool<brood::ForkServerPolicy<>> forked({.workers = 2});
    for (int n = 0; n < 10; ++n) forked.submit(&only_in_worker, n).get();
  }
  brood::Pool<brood::SpawnPolicy> spawned({.workers = 1});
  return spawned.submit(&only_in_worker, 1).get() == 2 ? 0 : 1;
}
