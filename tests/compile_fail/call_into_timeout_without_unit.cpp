// expect: brood: TaskOptions::timeout is a time, not a number: write its unit
// SPDX-License-Identifier: MIT
#include <chrono>
#include <vector>

#include <brood/brood.hpp>

using namespace std::chrono_literals;

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  std::vector<int> into(1);
  const auto many = [] { return std::vector{1}; };
  pool.submit_into({.timeout = 500ms}, into, many);
#ifdef BROOD_FAIL
  pool.submit_into({.timeout = 0.5}, into, many).get();
#endif
}
