// SPDX-License-Identifier: MIT
// A C library that can't be used from two threads: local time lives in process-wide state (the variable TZ, tzset(), the
// buffer of asctime()). In workers each call has a process to itself, so all cores can work.
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <string>
#include <tuple>
#include <vector>

#include <brood/brood.hpp>

std::string local_time(std::time_t moment, const std::string& zone) {
  ::setenv("TZ", zone.c_str(), 1);
  ::tzset();
  std::string text = std::asctime(std::localtime(&moment));  // two static buffers
  text.pop_back();
  return text;
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const std::vector<std::string> zones{"UTC0", "JST-9", "EST5EDT,M3.2.0,M11.1.0", "NPT-5:45"};
  constexpr std::time_t day = 86'400;

  std::vector<std::tuple<std::time_t, std::string>> calls;  // a range of tuples is spread over the parameters
  for (std::time_t moment = 1'700'000'000; moment < 1'700'000'000 + 500 * day; moment += day) {
    for (const std::string& zone : zones) calls.emplace_back(moment, zone);
  }

  brood::Pool<brood::ForkServerPolicy<>> pool;
  const std::vector<std::string> texts = pool.map(&local_time, calls);
  for (std::size_t at = 0; at < zones.size(); ++at) std::cout << zones[at] << ": " << texts[at] << '\n';
  std::cout << texts.size() << " conversions\n";
}
