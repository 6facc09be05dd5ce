// expect: brood: a pointer to a member can't be a task; write a lambda that calls it
#include <brood/brood.hpp>

struct Counter {
  int value = 0;
  int next() const { return value + 1; }
};

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  int sum = pool.submit([](const Counter& counter) { return counter.next(); }, Counter{1}).get();
#ifdef BROOD_FAIL
  sum += pool.submit(&Counter::next, Counter{1}).get();
#endif
  return sum;
}
