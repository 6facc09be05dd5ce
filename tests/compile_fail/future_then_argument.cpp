// expect: brood: Future<R>::then\(f\): f can't be called with what the task returns
#include <string>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  auto size = pool.submit([] { return std::string("text"); }).then([](const std::string& text) { return text.size(); });
#ifdef BROOD_FAIL
  pool.submit([] { return std::string("text"); }).then([](int number) { return number; });
#endif
  return static_cast<int>(size.get());
}
