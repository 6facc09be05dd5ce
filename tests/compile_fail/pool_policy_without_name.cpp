// expect: brood: Pool<Policy>: the policy has no name; add `static constexpr std::string_view name
#include <memory>
#include <string_view>

#include <brood/brood.hpp>

struct Named {
  static constexpr std::string_view name = "Named";
  std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions& options) const {
    return brood::launch_by_exec<Named>(options);
  }
  static pid_t start_worker(brood::Server& server, brood::WorkerChannel& channel) {
    return brood::start_by_fork(server, channel);
  }
};
struct Nameless {
  std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions&) const { return nullptr; }
};

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const brood::Pool<Named> pool;
#ifdef BROOD_FAIL
  const brood::Pool<Nameless> nameless;
#endif
}
