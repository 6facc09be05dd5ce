// expect: brood: this callable has state that can't travel to a worker \(a lambda with captures.*Pool<ForkPolicy>
#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const int captured = argc;
  brood::Pool<brood::ForkPolicy> copies({.workers = 1});
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  int sum = copies.submit([&](int n) { return n + captured; }, 1).get();
  sum += pool.submit([](int n, int c) { return n + c; }, 1, captured).get();
#ifdef BROOD_FAIL
  sum += pool.submit([&](int n) { return n + captured; }, 1).get();
#endif
  return sum;
}
