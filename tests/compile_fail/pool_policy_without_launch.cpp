// expect: brood: Pool<Policy>: the policy can't make workers; add `std::unique_ptr<brood::WorkerSource> launch
#include <string_view>

#include <brood/brood.hpp>

struct Idle {
  static constexpr std::string_view name = "Idle";
  static constexpr bool runs_inline = true;
};
struct Helpless {
  static constexpr std::string_view name = "Helpless";
};

int main() {
  const brood::Pool<Idle> pool;
#ifdef BROOD_FAIL
  const brood::Pool<Helpless> helpless;
#endif
}
