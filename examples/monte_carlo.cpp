// SPDX-License-Identifier: MIT
// Monte Carlo with repeatable streams: each task has random numbers of its own, which depend on the pool's seed and on the
// number of the task alone. So the price of this option is the same to the last bit for any number of workers, however the
// tasks are spread over them, and when one of them has to run again.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <numbers>
#include <numeric>
#include <vector>

#include <brood/brood.hpp>

struct Option {
  double spot = 100, strike = 105, rate = 0.03, volatility = 0.2, years = 1;
};

/// The mean payoff of a call option over a thousand simulated prices, discounted.
double price_of(int) {
  constexpr Option option;
  brood::RandomEngine& random = brood::this_worker::random_engine();
  double sum = 0;
  for (int path = 0; path < 1000; ++path) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));  // by Box and Muller: std::normal_distribution
    const double normal = radius * std::cos(2 * std::numbers::pi * random.uniform());  // differs between standard libraries
    const double drift = (option.rate - option.volatility * option.volatility / 2) * option.years;
    const double price = option.spot * std::exp(drift + option.volatility * std::sqrt(option.years) * normal);
    sum += std::max(0.0, price - option.strike);
  }
  return std::exp(-option.rate * option.years) * sum / 1000;
}

double simulate(unsigned workers, std::size_t chunk) {
  std::vector<int> tasks(500);
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = workers, .seed = 2026});
  const std::vector<double> means = pool.map(&price_of, tasks, {.chunk_size = chunk});
  return std::accumulate(means.begin(), means.end(), 0.0) / static_cast<double>(means.size());
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const double price = simulate(1, 500);
  std::cout << "1 worker:  " << price << '\n';
  int different = 0;
  for (const unsigned workers : {2U, 3U, 8U}) {
    const double again = simulate(workers, workers);
    std::cout << workers << " workers: " << again << (again == price ? ", the same" : ", NOT the same") << '\n';
    different += again != price ? 1 : 0;
  }
  const double exact = 7.12806;  // Black and Scholes
  std::cout << (std::abs(price - exact) < 0.05 ? "close to" : "FAR FROM") << " the exact " << exact << '\n';
  return different != 0 || std::abs(price - exact) >= 0.05 ? 1 : 0;
}
