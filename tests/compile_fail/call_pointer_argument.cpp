// expect: brood: a raw pointer can't be sent: an address means nothing in another process
#include <brood/brood.hpp>

int take(int n) { return n; }
int take_pointer(int* n) { return *n; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  [[maybe_unused]] int value = 1;
  int sum = pool.submit(&take, value).get();
#ifdef BROOD_FAIL
  sum += pool.submit(&take_pointer, &value).get();
#endif
  return sum;
}
