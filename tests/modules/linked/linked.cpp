// SPDX-License-Identifier: MIT
#include "modules/linked/linked.hpp"

#include <dlfcn.h>

namespace linked {

int twice(int n) { return 2 * n; }

std::string library_of(int) {
  Dl_info info{};
  ::dladdr(reinterpret_cast<void*>(&twice), &info);
  return info.dli_fname;
}

int Plus::operator()(int n) const { return plus + n; }

int submits(brood::Pool<brood::SpawnPolicy>& pool, int n) {
  return pool.submit([](int k) { return twice(k) + 1; }, n).get();
}
int submits(brood::Pool<brood::ForkServerPolicy<>>& pool, int n) {
  return pool.submit([](int k) { return twice(k) + 1; }, n).get();
}

}  // namespace linked
