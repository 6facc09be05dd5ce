// SPDX-License-Identifier: MIT
// A Preload is built once, in the pool's server, and every worker that is forked from the server has it: also the fresh
// ones that replace others. Its arguments travel with preload_args. The host never builds it.
#include <cmath>
#include <iostream>
#include <numeric>
#include <vector>

#include <brood/brood.hpp>

struct SquareRoots {  // think of a model, an index, or two hundred shared libraries
  explicit SquareRoots(std::size_t count) : values(count) {
    for (std::size_t i = 0; i < count; ++i) values[i] = std::sqrt(static_cast<double>(i));
  }
  std::vector<double> values;
};

double root(std::size_t n) { return brood::preloaded<SquareRoots>().values.at(n); }

int main(int argc, char** argv) {
  brood::init(argc, argv);

  using Policy = brood::ForkServerPolicy<SquareRoots>;
  brood::PoolOptions options;
  options.workers = 4;
  options.tasks_per_worker = 5;  // so this pool starts 20 workers for 100 tasks
  brood::Pool<Policy> pool(options, Policy{brood::preload_args<SquareRoots>(10'000U)});

  std::vector<std::size_t> numbers(100);
  std::iota(numbers.begin(), numbers.end(), std::size_t{0});
  double sum = 0;
  for (const double each : pool.map(&root, numbers)) sum += each;

  const brood::PoolStats stats = pool.stats();
  std::cout << "sum of the roots: " << std::lround(sum) << '\n';
  std::cout << "at least 20 workers: " << (stats.workers_started >= 20 ? "yes" : "no") << '\n';
  std::cout << "SquareRoots built: " << stats.preloads.at(0).built << '\n';
}
