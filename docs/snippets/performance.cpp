// SPDX-License-Identifier: MIT
// The code of docs/guide/performance.md.
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <vector>

#include <brood/brood.hpp>

namespace {

struct Model {
  std::vector<double> weights = std::vector<double>(1000, 1.0);
};

double norm(int n) { return std::sqrt(n); }
double weight(int n) { return brood::preloaded<Model>().weights.at(static_cast<std::size_t>(n)); }
void fill(brood::SharedArray<double> part) {
  for (double& each : part) each = 1;
}

void many(brood::Pool<brood::ForkServerPolicy<>>& pool, const std::vector<int>& numbers) {
  std::vector<brood::Future<double>> futures;
  for (int n = 0; n < 1000; ++n) futures.push_back(pool.submit(&norm, n));  // 1 to 2 µs each
  double sum = 0;
  for (const auto& future : futures) sum += future.get();

  const std::vector<double> norms = pool.map(&norm, numbers);               // far less
  if (sum != std::accumulate(norms.begin(), norms.end(), 0.0)) std::abort();
}

void start() {
  brood::Pool<brood::ForkServerPolicy<Model>> pool({.workers = 2, .tasks_per_worker = 1, .spares = 2});
  if (pool.submit(&weight, 3).get() != 1) std::abort();
}

void shared(brood::Pool<brood::ForkServerPolicy<>>& pool) {
  brood::SharedArray<double> samples(1'000'000);
  pool.map(&fill, samples.split(4));  // each task writes its quarter in place
  if (std::accumulate(samples.begin(), samples.end(), 0.0) != 1'000'000) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  std::vector<int> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), 0);
  brood::Pool<brood::ForkServerPolicy<>> pool;
  many(pool, numbers);
  start();
  shared(pool);
}
