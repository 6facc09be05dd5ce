// expect: brood: the task takes a brood::Fd, and is given a number: hand the descriptor over with brood::Fd
#include <brood/brood.hpp>

int number_of(brood::Fd fd) { return fd.get(); }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  int number = pool.submit(&number_of, brood::Fd::duplicate(0)).get();
#ifdef BROOD_FAIL
  number += pool.submit(&number_of, 0).get();
#endif
  return number > 2 ? 0 : 1;
}
