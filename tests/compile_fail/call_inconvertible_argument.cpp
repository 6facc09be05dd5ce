// expect: brood: an argument can't be converted to the parameter of the task
#include <cstddef>
#include <string>

#include <brood/brood.hpp>

std::size_t length(const std::string& text) { return text.size(); }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  std::size_t sum = pool.submit(&length, "text").get();
#ifdef BROOD_FAIL
  sum += pool.submit(&length, 1.5).get();
#endif
  return sum == 4 ? 0 : 1;
}
