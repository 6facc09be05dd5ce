// SPDX-License-Identifier: MIT
// The code of docs/guide/fork.md.
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

namespace {

struct Table {
  std::vector<int> squares;
  explicit Table(int size) {
    for (int n = 0; n < size; ++n) squares.push_back(n * n);
  }
};

int square_of(int n) { return brood::preloaded<Table>().squares.at(static_cast<std::size_t>(n)); }

int identity(int n) { return n; }

void knowingly() {
  brood::Pool<brood::ForkPolicy> pool({.workers = 2}, {.allow_threads = true});
  if (pool.submit(&identity, 5).get() != 5) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  std::atomic<bool> working{true};
  std::thread busy([&] { working.wait(true); });          // a thread: ForkPolicy would refuse
  brood::Pool<brood::ForkServerPolicy<Table>> pool({.workers = 2}, {brood::preload_args<Table>(100)});
  std::cout << pool.submit(&square_of, 7).get() << '\n';  // 49
  knowingly();
  working = false;
  working.notify_all();
  busy.join();
}
