// expect: brood: a worker hook has state that can't travel to a worker \(a lambda with captures.*brood::worker_hook
#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::PoolOptions options;
  options.on_worker_start = [] {};
  options.on_worker_stop = brood::worker_hook([](int n) { return n; }, argc);
#ifdef BROOD_FAIL
  options.on_worker_start = [argc, &argv] { static_cast<void>(argv[argc]); };
#endif
  brood::Pool<brood::ForkPolicy> pool(options);
}
