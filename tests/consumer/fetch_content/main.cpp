#include <brood/brood.hpp>

#include "framework.hpp"

int run_program(int arguments) {
  if (arguments != 2) return 2;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  return pool.submit([](int a, int b) { return a + b; }, 20, 22).get() == 42 ? 0 : 1;
}
