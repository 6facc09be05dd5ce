#include "brood.hpp"

int main() {
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  return pool.submit([](int a, int b) { return a + b; }, 20, 22).get() == 42 ? 0 : 1;
}
