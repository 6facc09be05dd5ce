// SPDX-License-Identifier: MIT
// What a call costs when a worker is up: the median of submit and get, beside a bare round trip over two pipes. Between
// cores that sleep meanwhile both are slow: `taskset -c 0 call_cost` shows them on one core.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <vector>

#include <brood/brood.hpp>

template <class Call>
double median_us(Call call) {
  std::vector<double> times;
  for (int n = 0; n < 5'000; ++n) {
    const auto start = std::chrono::steady_clock::now();
    call(n);
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(times.begin(), times.begin() + 2'500, times.end());
  return times[2'500];
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  int there[2];
  int back[2];
  if (::pipe(there) != 0 || ::pipe(back) != 0) return 1;
  if (::fork() == 0) {
    ::close(there[1]);
    for (int n = 0; ::read(there[0], &n, sizeof n) > 0;) static_cast<void>(!::write(back[1], &n, sizeof n));
    ::_exit(0);
  }
  std::cout << "two pipes        " << median_us([&](int n) {
    static_cast<void>(!::write(there[1], &n, sizeof n) || !::read(back[0], &n, sizeof n));
  }) << " us\n";
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  std::cout << "submit and get   " << median_us([&](int n) { pool.submit([](int x) { return x; }, n).get(); }) << " us\n";
}
