// SPDX-License-Identifier: MIT
// Streams of small items beside map, and what a long one takes of the host's memory.
#include <cstdint>
#include <fstream>
#include <numeric>
#include <ranges>
#include <string>
#include <vector>

#include <brood/brood.hpp>

#include "harness.hpp"

namespace {

using namespace bench;
using Server = brood::ForkServerPolicy<>;

int same(int n) { return n; }

template <class Stream>
void drain(Stream&& stream, std::uint64_t items) {
  std::uint64_t sum = 0;
  for (const int each : stream) sum += static_cast<std::uint64_t>(each);
  if (sum != items * (items - 1) / 2) throw std::runtime_error("a stream handed out something else");
}

void rate(Row& row, Size size) {
  const int items = pick(size, 1'000, 1'000'000, 1'000'000);
  std::vector<int> numbers(static_cast<std::size_t>(items));
  std::iota(numbers.begin(), numbers.end(), 0);
  const auto count = static_cast<std::uint64_t>(items);
  const Convert rate = per_second(items);
  brood::Pool<Server> pool({.workers = 2});
  row.limit("map of a vector", [&] { return Samples{rate(timed([&] { drain(pool.map(&same, numbers), count); }))}; });
  row.brood("stream of a vector", [&] { return Samples{rate(timed([&] { drain(pool.stream(&same, numbers), count); }))}; });
  row.brood("stream of views::iota", [&] {
    return Samples{rate(timed([&] { drain(pool.stream(&same, std::views::iota(0, items)), count); }))};
  });
  row.brood("stream_unordered of views::iota", [&] {
    return Samples{rate(timed([&] { drain(pool.stream_unordered(&same, std::views::iota(0, items)), count); }))};
  });
  row.run(pick(size, 1, 3, 9));
  row.mark_ratio("a stream of 10^6 ints against map of them", "stream of a vector", "map of a vector", false, 0.5);
}

double status_kib(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kib = 0;
    if (word == field + ":" && status >> kib) return kib;
  }
  throw std::runtime_error("/proc/self/status has no " + field);
}

void memory(Row& row, Size size) {
  const int items = pick(size, 10'000, 1'000'000, 10'000'000);
  brood::Pool<Server> pool({.workers = 2});
  const auto grown = [&](auto run) {
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak begins anew
    const double before = status_kib("VmRSS");
    run();
    return Samples{(status_kib("VmHWM") - before) / 1024};
  };
  row.limit("map", [&] { return grown([&] { drain(pool.map(&same, std::views::iota(0, items)), static_cast<std::uint64_t>(items)); }); });
  row.brood("stream", [&] { return grown([&] { drain(pool.stream(&same, std::views::iota(0, items)), static_cast<std::uint64_t>(items)); }); });
  row.brood("stream_unordered", [&] {
    return grown([&] { drain(pool.stream_unordered(&same, std::views::iota(0, items)), static_cast<std::uint64_t>(items)); });
  });
  row.run(pick(size, 1, 1, 3));
  row.mark_value("memory of a stream of " + std::to_string(items) + " items", "stream", true, 32);
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  return run_all(argc, argv, {
      {"stream_rate", rate, "10^6 ints through a no-op, 2 workers", "items/s", Better::more},
      {"stream_memory", memory, "what 10^7 ints through a no-op add to the host's peak of resident memory", "MiB"},
  });
}
