// SPDX-License-Identifier: MIT
// A SharedArray is memory that host and workers have in common: tasks read large inputs and write their outputs where they
// belong, and nothing of it is copied. What a task takes as SharedArray<const T> it has no right to write to.
#include <cstddef>
#include <iostream>
#include <numeric>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

// smooths input[first ...] into its part of the output
void smooth(brood::SharedArray<const double> input, brood::SharedArray<double> part, std::size_t first) {
  for (std::size_t at = 0; at < part.size(); ++at) {
    const std::size_t here = first + at;
    const std::size_t before = here == 0 ? 0 : here - 1;
    const std::size_t behind = here + 1 == input.size() ? here : here + 1;
    part[at] = (input[before] + input[here] + input[behind]) / 3;
  }
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 4});

  brood::SharedArray<double> input(4'000'000);
  for (std::size_t at = 0; at < input.size(); ++at) input[at] = at % 3 == 0 ? 3 : 0;
  const brood::SharedArray<const double> signal = std::move(input).freeze();  // nobody can change it any more

  const brood::SharedArray<double> output(signal.size());
  std::vector<brood::Future<void>> parts;
  std::size_t first = 0;
  for (const brood::SharedArray<double>& part : output.split(16)) {
    parts.push_back(pool.submit(&smooth, signal, part, first));
    first += part.size();
  }
  for (auto& part : parts) part.get();
  std::cout << "sum: " << std::accumulate(output.begin(), output.end(), 0.0) << '\n';
  std::cout << "in the middle: " << output[output.size() / 2] << '\n';
}
