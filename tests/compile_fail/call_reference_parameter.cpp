// expect: brood: the task takes a parameter by non-const reference.*Take it by value or by const reference
#include <brood/brood.hpp>

int by_const(const int& n) { return n; }
int by_reference(int& n) { return ++n; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  int n = 1;
  int sum = pool.submit(&by_const, n).get();
#ifdef BROOD_FAIL
  sum += pool.submit(&by_reference, n).get();
#endif
  return sum;
}
