// SPDX-License-Identifier: MIT
// A task that takes its worker down (a crash, an exit, the kernel's out-of-memory killer) fails alone: its future says
// how the worker ended, the worker is replaced, and the other tasks never notice.
#include <cstdlib>
#include <iostream>
#include <vector>

#include <brood/brood.hpp>

int careless(int number) {
  if (number == 3) std::abort();
  if (number == 5) std::_Exit(9);
  return number * number;
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2});

  std::vector<brood::Future<int>> futures;
  for (int number = 1; number <= 6; ++number) futures.push_back(pool.submit(&careless, number));
  for (const brood::Future<int>& future : futures) {
    try {
      std::cout << future.get() << '\n';
    } catch (const brood::WorkerDied& death) {
      std::cout << "task " << death.task() << ": its worker " << death.status().describe() << '\n';
    }
  }
  std::cout << "workers that died: " << pool.stats().workers_died << '\n';
}
