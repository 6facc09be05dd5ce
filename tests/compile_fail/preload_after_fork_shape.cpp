// expect: brood: ForkServerPolicy<...>: after_fork of a Preload is called in each worker and must be a public `void after_fork\(\)`
#include <brood/brood.hpp>

struct Model {
  void after_fork() { ++forks; }
  int forks = 0;
};
struct Eager {
  void after_fork(int worker) { forks = worker; }
  int forks = 0;
};

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const brood::ForkServerPolicy<Model> policy;
#ifdef BROOD_FAIL
  const brood::ForkServerPolicy<Eager> other;
#endif
}
