// SPDX-License-Identifier: MIT
// The line protocol of benchmarks/peer.hpp, for peers in C++.
#pragma once

#include <chrono>
#include <cstddef>
#include <iostream>
#include <string>

namespace serving {

template <class Call>
double timed_ns(Call&& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

/// Each line is a number; `round` prints the samples of its round.
template <class Round>
void serve(Round&& round) {
  std::cout << "ready" << std::endl;
  for (std::size_t count = 0; std::cin >> count;) {
    round(count);
    std::cout << std::endl;
  }
}

}  // namespace serving
