// expect: brood: a view can't be sent: what it looks at stays in this process.*std::string for std::string_view
#include <cstddef>
#include <string>
#include <string_view>

#include <brood/brood.hpp>

std::size_t of_string(const std::string& text) { return text.size(); }
std::size_t of_view(std::string_view text) { return text.size(); }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  std::size_t sum = pool.submit(&of_string, "text").get();
#ifdef BROOD_FAIL
  sum += pool.submit(&of_view, "text").get();
#endif
  return sum == 4 ? 0 : 1;
}
