// expect: brood: what combine returns is not of the type of initial, nor converts to it; pass an initial of the type that combine returns
#include <string>
#include <vector>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  const auto text = [](int n) { return std::to_string(n); };
  const auto join = [](const std::string& one, const std::string& other) { return one + other; };
  std::string all = pool.map_reduce(text, join, std::vector{1}, std::string());
#ifdef BROOD_FAIL
  all += pool.map_reduce(text, join, std::vector{1}, "");
#endif
  return static_cast<int>(all.size());
}
