// expect: brood: this callable has state that can't travel to a worker \(.*a std::function
#include <functional>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const std::function<int(int)> function = [](int n) { return n; };
  brood::Pool<brood::ForkPolicy> copies({.workers = 1});
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  int sum = copies.submit(function, 1).get();
#ifdef BROOD_FAIL
  sum += pool.submit(function, 1).get();
#endif
  return sum;
}
