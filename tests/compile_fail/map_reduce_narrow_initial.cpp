// expect: brood: map_reduce: initial is of a type that can't hold all that the function returns, 0 for a function that returns
#include <functional>
#include <string>
#include <vector>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  const auto length = [](const std::string& word) { return word.size(); };
  std::size_t all = pool.map_reduce(length, std::plus<>(), std::vector<std::string>{"a"}, std::size_t(0));
#ifdef BROOD_FAIL
  all += static_cast<std::size_t>(pool.map_reduce(length, std::plus<>(), std::vector<std::string>{"a"}, 0));
#endif
  return static_cast<int>(all);
}
