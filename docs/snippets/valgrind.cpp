// SPDX-License-Identifier: MIT
// What docs/guide/debugging.md says of valgrind: a pool of each policy. Run under it by docs.under_valgrind, where that is installed.
#include <cstdlib>

#include <brood/brood.hpp>

namespace {

int twice(int n) { return 2 * n; }

template <class Policy>
void use() {
  brood::Pool<Policy> pool({.workers = 1});
  if (pool.submit(&twice, 4).get() != 8) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  use<brood::ForkPolicy>();
  use<brood::ForkServerPolicy<>>();
  use<brood::SpawnPolicy>();
  use<brood::InlinePolicy>();
}
