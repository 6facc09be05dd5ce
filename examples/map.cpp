// SPDX-License-Identifier: MIT
// map runs a function on every item of a range, on all workers, and returns the results in order. A range of pairs or
// tuples is spread over the parameters. try_map keeps the failures next to the results instead of throwing the first.
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool;  // as many workers as there are usable CPUs

  const std::vector<std::string> words{"fork", "spawn", "server"};
  for (const std::size_t length : pool.map([](const std::string& word) { return word.size(); }, words)) {
    std::cout << length << ' ';
  }
  std::cout << '\n';

  const std::vector<std::pair<int, int>> divisions{{7, 2}, {1, 0}, {9, 3}};
  const auto divide = [](int a, int b) {
    if (b == 0) throw std::domain_error("division by zero");
    return a / b;
  };
  for (const brood::Outcome<int>& outcome : pool.try_map(divide, divisions)) {
    if (outcome) {
      std::cout << outcome.value() << '\n';
    } else {
      std::cout << "failed: " << (outcome.failure().kind() == brood::FailureKind::exception ? "threw" : "other")
                << '\n';
    }
  }
}
