// SPDX-License-Identifier: MIT
// Code that leaks, or that works once and then trips over its own global state, becomes reusable: a worker that ends
// after one task takes all of it along. The next task finds the world as the first one did.
#include <iostream>
#include <vector>

#include <brood/brood.hpp>

std::vector<char>* hoard = nullptr;  // never freed

/// Returns how many bytes it has leaked by now.
std::size_t leaky(std::size_t bytes) {
  if (hoard == nullptr) hoard = new std::vector<char>;
  hoard->resize(hoard->size() + bytes);
  return hoard->size();
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const std::vector<std::size_t> requests{1000, 1000, 1000};

  brood::Pool<brood::ForkServerPolicy<>> one_worker({.workers = 1});
  std::cout << "one worker for all:";
  for (const std::size_t leaked : one_worker.map(&leaky, requests)) std::cout << ' ' << leaked;

  brood::Pool<brood::ForkServerPolicy<>> fresh_workers({.workers = 1, .tasks_per_worker = 1});
  std::cout << "\na fresh worker for each:";
  for (const std::size_t leaked : fresh_workers.map(&leaky, requests)) std::cout << ' ' << leaked;
  std::cout << '\n';
}
