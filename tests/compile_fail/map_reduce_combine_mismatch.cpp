// expect: brood: map_reduce calls combine\(T, V\), T being the type of initial and V what the function returns; combine can't be called
#include <string>
#include <vector>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  const auto text = [](int n) { return std::string(1, static_cast<char>(n)); };
  const auto add = [](int one, int other) { return one + other; };
  const auto join = [](const std::string& one, const std::string& other) { return one + other; };
  std::string all = pool.map_reduce(text, join, std::vector{1}, std::string());
#ifdef BROOD_FAIL
  all += std::to_string(pool.map_reduce(text, add, std::vector{1}, 0));
#endif
  return static_cast<int>(all.size()) + add(0, 0);
}
