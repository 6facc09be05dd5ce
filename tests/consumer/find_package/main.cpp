#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);

  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  return pool.submit([](int a, int b) { return a + b; }, 20, 22).get() == 42 ? 0 : 1;
}
