// SPDX-License-Identifier: MIT
// The code of docs/guide/recipes.md.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <string>
#include <vector>

#include <brood/brood.hpp>

using namespace std::chrono_literals;

namespace {

int parse(const std::string& file) { return static_cast<int>(file.size()); }
void chatty() { std::puts("as you like"); }

void isolate(const std::vector<std::string>& files) {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 4, .tasks_per_worker = 1, .task_timeout = 2s});
  for (const auto& outcome : pool.try_map(&parse, files)) {
    if (!outcome) std::cerr << outcome.failure().message() << '\n';
  }
  pool.submit({.timeout = 10s, .limits = {.address_space = std::uint64_t{2} << 30, .cpu_time = 5s, .open_files = 64}}, &parse, "a");
}

void recycle() {
  brood::Pool<brood::ForkServerPolicy<>> pool({.tasks_per_worker = 1000, .memory_per_worker = std::uint64_t{512} << 20});
  if (pool.submit(&parse, "abc").get() != 3) std::abort();
}

void capture() {
  brood::Pool<brood::ForkServerPolicy<>> pool({.output = brood::Output::capture});
  auto future = pool.submit(&chatty);
  future.wait();
  std::cout << future.output();
  if (future.output() != "as you like\n") std::abort();
}

int bounded(const std::vector<std::string>& files) {
  int total = 0;
  brood::Pool<brood::ForkServerPolicy<>> pool({.max_pending_bytes = std::uint64_t{64} << 20});
  std::deque<brood::Future<int>> in_flight;
  for (const std::string& file : files) {
    for (bool sent = false; !sent;) {
      try {
        in_flight.push_back(pool.submit(&parse, file));
        sent = true;
      } catch (const brood::QueueFull&) {
        if (in_flight.empty()) throw;  // this one alone is too large
        total += in_flight.front().get();
        in_flight.pop_front();
      }
    }
  }
  while (!in_flight.empty()) {
    total += in_flight.front().get();
    in_flight.pop_front();
  }
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const std::vector<std::string> files{"a", "bb", "ccc"};
  isolate(files);
  recycle();
  capture();
  if (bounded(files) != 6) std::abort();
  const int size = brood::async<brood::ForkServerPolicy<>>(&parse, "settings.ini").get();
  if (size != 12) std::abort();
}
