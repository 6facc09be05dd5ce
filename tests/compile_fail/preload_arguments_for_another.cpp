// expect: brood: ForkServerPolicy<...>\{preload_args<T>\(...\)\}: T is not among the Preloads of the policy
#include <brood/brood.hpp>

struct Model {
  explicit Model(int n = 0) : size(n) {}
  int size;
};
struct Stranger {
  explicit Stranger(int n) : size(n) {}
  int size;
};

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const brood::ForkServerPolicy<Model> policy{brood::preload_args<Model>(1)};
#ifdef BROOD_FAIL
  const brood::ForkServerPolicy<Model> other{brood::preload_args<Stranger>(1)};
#endif
}
