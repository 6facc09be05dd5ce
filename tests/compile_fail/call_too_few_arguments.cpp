// expect: brood: the task is called with the wrong number of arguments
#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  int sum = pool.submit([](int a, int b) { return a + b; }, 1, 2).get();
#ifdef BROOD_FAIL
  sum += pool.submit([](int a, int b) { return a + b; }, 1).get();
#endif
  return sum;
}
