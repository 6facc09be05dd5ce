// expect: brood: the task is called with the wrong number of arguments
#include <brood/brood.hpp>

int add(int a, int b) { return a + b; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  int sum = pool.submit(&add, 1, 2).get();
#ifdef BROOD_FAIL
  sum += pool.submit(&add, 1, 2, 3).get();
#endif
  return sum;
}
