// SPDX-License-Identifier: MIT
// A channel to a task that runs: it yields partial results, here better and better estimates of pi, and takes orders, here to
// stop when the host is content.
#include <cmath>
#include <cstdint>
#include <iostream>
#include <utility>

#include <brood/brood.hpp>

struct Estimate {
  std::uint64_t points = 0;
  double pi = 0;
};
enum class Order { stop };

// counts points of a grid that gets finer from round to round; returns the number of rounds
int estimate_pi(brood::Channel<Estimate, Order> host) {
  int round = 0;
  for (std::uint64_t side = 4; !host.try_receive(); side *= 2, ++round) {
    std::uint64_t inside = 0;
    for (std::uint64_t row = 0; row < side; ++row) {
      const double y = (static_cast<double>(row) + 0.5) / static_cast<double>(side);
      inside += static_cast<std::uint64_t>(std::sqrt(1 - y * y) * static_cast<double>(side) + 0.5);
    }
    const std::uint64_t points = side * side;
    host.send({points, 4 * static_cast<double>(inside) / static_cast<double>(points)});
    if (side > 1'000'000) host.receive();  // it is as good as it gets: wait for the order
  }
  return round;
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});

  auto [mine, theirs] = brood::channel<Order, Estimate>();
  auto rounds = pool.submit(&estimate_pi, std::move(theirs));
  bool content = false;
  for (const Estimate& each : mine) {  // until the task closes its end, returns, or dies
    if (content) continue;             // what was under way when it was told
    std::cout << each.points << " points: " << each.pi << '\n';
    content = std::abs(each.pi - 3.14159265) < 1e-4;
    if (content) mine.send(Order::stop);
  }
  std::cout << (rounds.get() > 0 ? "the task has stopped\n" : "?\n");
}
