// expect: brood: stream needs a range \(a container, a view, an array\) as its second argument
#include <vector>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  for (int n : pool.stream([](int m) { return m; }, std::vector{1, 2})) static_cast<void>(n);
#ifdef BROOD_FAIL
  pool.stream([](int n) { return n; }, 5);
#endif
}
