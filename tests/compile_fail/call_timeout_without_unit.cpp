// expect: brood: TaskOptions::timeout is a time, not a number: write its unit
// SPDX-License-Identifier: MIT
#include <chrono>
#include <vector>

#include <brood/brood.hpp>

using namespace std::chrono_literals;

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  const auto f = [](int n) { return n; };
  // what is no number is told from one, also where no time is given
  pool.submit({}, f, 1);
  pool.submit({.timeout = {}}, f, 1);
  pool.submit({.timeout = 3s, .retries = 1}, f, 1);
  pool.submit({.limits = {.cpu_time = 3s}}, f, 1);
  std::vector<int> into(1);
  const auto many = [] { return std::vector{1}; };
  pool.submit_into({.priority = 1}, into, many);
#ifdef BROOD_FAIL
  pool.submit({.timeout = 3, .retries = 1}, f, 1).get();
#endif
}
