// expect: brood: preload_args<T>\(args...\): T has no constructor for these arguments
#include <string>
#include <utility>

#include <brood/brood.hpp>

struct Model {
  explicit Model(std::string name) : file(std::move(name)) {}
  std::string file;
};

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const auto good = brood::preload_args<Model>("m.bin");
#ifdef BROOD_FAIL
  const auto bad = brood::preload_args<Model>(1, 2);
#endif
}
