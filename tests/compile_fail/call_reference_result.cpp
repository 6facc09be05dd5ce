// expect: brood: the task returns a reference, which would refer to the worker's memory; return a value
#include <string>

#include <brood/brood.hpp>

std::string state;
std::string by_value() { return state; }
const std::string& by_reference() { return state; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  std::string text = pool.submit(&by_value).get();
#ifdef BROOD_FAIL
  text = pool.submit(&by_reference).get();
#endif
  return static_cast<int>(text.size());
}
