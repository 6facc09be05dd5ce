// expect: brood: the task can't be called with these arguments
#include <string>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  const auto size_of = [](const auto& value) -> decltype(value.size()) { return value.size(); };
  auto sum = pool.submit(size_of, std::string("text")).get();
#ifdef BROOD_FAIL
  sum += pool.submit(size_of, 5).get();
#endif
  return sum == 4 ? 0 : 1;
}
