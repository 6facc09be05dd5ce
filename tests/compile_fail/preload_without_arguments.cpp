// expect: brood: ForkServerPolicy<...>: a Preload without a default constructor needs its arguments
#include <string>
#include <utility>

#include <brood/brood.hpp>

struct Model {
  explicit Model(std::string name) : file(std::move(name)) {}
  std::string file;
};

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const brood::Pool<brood::ForkServerPolicy<Model>> pool({.workers = 1}, {brood::preload_args<Model>("m.bin")});
#ifdef BROOD_FAIL
  const brood::Pool<brood::ForkServerPolicy<Model>> without({.workers = 1});
#endif
}
