// expect: brood: this callable has state that can't travel to a worker \(a lambda with captures.*Pool<ForkPolicy>
#include <vector>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  [[maybe_unused]] const int captured = argc;
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  pool.map([](int n) { return n; }, std::vector{1, 2});
#ifdef BROOD_FAIL
  pool.map([captured](int n) { return n + captured; }, std::vector{1, 2});
#endif
}
