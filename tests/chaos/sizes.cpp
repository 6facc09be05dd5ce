// SPDX-License-Identifier: MIT
// Payloads of every size, there and back with a checksum; many large ones at the same time; the caps.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"

namespace chaos {
namespace in_sizes {

using Payload = std::vector<std::uint8_t>;

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

/// Not repeated after a power of two: a piece in the wrong place changes the checksum.
Payload make(std::uint64_t size) {
  Payload payload(size);
  std::uint64_t state = size + 1;
  for (std::uint64_t at = 0; at < size; at += 8) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    for (std::uint64_t byte = 0; byte < std::min<std::uint64_t>(8, size - at); ++byte) {
      payload[at + byte] = static_cast<std::uint8_t>(state >> (8 * byte));
    }
  }
  return payload;
}

std::uint64_t checksum(const Payload& payload) {
  std::uint64_t sum = payload.size();
  std::uint64_t word = 0;
  for (std::uint64_t at = 0; at < payload.size(); ++at) {
    word = word << 8 | payload[at];
    if (at % 8 == 7) sum = (sum ^ word) * 1099511628211ULL;
  }
  return (sum ^ word) * 1099511628211ULL;
}

Payload echo(Payload payload) { return payload; }
std::uint64_t make_and_forget(std::uint64_t size) { return make(size).size(); }

double available_mib() {
  std::FILE* const file = std::fopen("/proc/meminfo", "re");
  if (file == nullptr) return 0;
  char line[256];
  double kib = 0;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::string_view(line).starts_with("MemAvailable:")) kib = std::strtod(line + 13, nullptr);
  }
  std::fclose(file);
  return kib / 1024;
}

template <class Policy>
class Sizes {
 public:
  Sizes(const std::string& name, const Options& options) : options_(options), report_("sizes", name, options.seed) {}

  Report run() {
    const std::set<std::string> before = belongings();
    const auto began = Clock::now();
    there_and_back();
    in_flight();
    caps();
    report_.say(text("%u sizes, at most %.1f MiB, in %.1f s", sizes_, static_cast<double>(largest_) / static_cast<double>(mib),
                     ms_since(began) / 1000));
    report_.count("payloads that differ", differ_);
    report_.count("calls that failed", failed_);
    report_.count("caps that did not hold", caps_);
    report_.count("sizes left out for want of memory", left_out_);
    report_left_behind(report_, left_behind(before));
    return std::move(report_);
  }

 private:
  void there_and_back() {
    brood::Pool<Policy> pool({.workers = 1});
    const Watched watched(pool);
    std::set<std::uint64_t> sizes{0, 1, 7, 8, 4096, (1U << 16) - 1, 1U << 16, (1U << 16) + 1};
    for (const unsigned power : {20U, 24U, 31U, 32U}) {
      for (const int more : {-1, 0, 1}) sizes.insert((std::uint64_t{1} << power) + static_cast<std::uint64_t>(more));
    }
    sizes.insert(options_.mib * mib + 1);
    for (const std::uint64_t size : sizes) {
      if (size > options_.mib * mib + 1) continue;
      // the argument, its encoded form, and what the worker holds and makes; and some air
      if (available_mib() < static_cast<double>(size) / static_cast<double>(mib) * 4.5) {
        report_.say("left out for want of memory: " + std::to_string(size) + " bytes");
        ++left_out_;
        continue;
      }
      ++sizes_;
      largest_ = std::max(largest_, size);
      Watchdog::beat("a payload there", size);
      Payload payload = make(size);
      const std::uint64_t sum = checksum(payload);
      auto there = pool.submit(&checksum, payload);
      Payload().swap(payload);
      check(there.outcome(), sum + (options_.inject == "checksum" && size == 1 ? 1U : 0U));
      there = {};
      Watchdog::beat("a payload back", size);
      const auto back = pool.submit(&make, size).outcome();
      if (!back) {
        fail(back.failure());
      } else {
        differ_ += checksum(*back) != sum ? 1U : 0U;
      }
    }
  }

  /// More in flight than pipes and workers hold: nobody may wait for the other.
  void in_flight() {
    constexpr unsigned count = 32;
    const std::uint64_t size = std::min<std::uint64_t>(options_.mib, 64) * mib;
    if (available_mib() < static_cast<double>(count * size / mib) * 3) {
      report_.say("32 in flight were left out for want of memory");
      ++left_out_;
      return;
    }
    brood::Pool<Policy> pool({.workers = 4});
    const Watched watched(pool);
    const Payload payload = make(size);
    const std::uint64_t sum = checksum(payload);
    std::vector<brood::Future<Payload>> futures;
    for (unsigned n = 0; n < count; ++n) futures.push_back(pool.submit(&echo, payload));
    for (auto& future : futures) {
      Watchdog::beat("an echo, with others in flight", size);
      const auto outcome = future.outcome();
      if (!outcome) {
        fail(outcome.failure());
      } else {
        differ_ += checksum(*outcome) != sum ? 1U : 0U;
      }
      future = {};
    }
  }

  void caps() {
    constexpr std::uint64_t cap = mib;
    constexpr std::uint64_t air = 4096;  // for what travels beside the payload
    brood::Pool<Policy> pool({.workers = 1, .max_message_bytes = options_.inject == "cap" ? 2 * cap : cap});
    const Watched watched(pool);
    Watchdog::beat("the caps");
    caps_ += pool.submit(&checksum, make(cap - air)).outcome() ? 0U : 1U;
    caps_ += pool.submit(&make, cap - air).outcome() ? 0U : 1U;
    try {
      pool.submit(&checksum, make(cap + 1));
      ++caps_;
    } catch (const brood::MessageTooLarge&) {
    }
    const auto back = pool.submit(&make, cap + 1).outcome();
    caps_ += !back && back.failure().kind() == brood::FailureKind::too_large ? 0U : 1U;
    caps_ += pool.submit(&make_and_forget, cap + 1).outcome() ? 0U : 1U;  // and the pool goes on
    caps_ += pool.stats().workers_died == 0 ? 0U : 1U;
  }

  void check(const brood::Outcome<std::uint64_t>& outcome, std::uint64_t sum) {
    if (!outcome) return fail(outcome.failure());
    differ_ += *outcome != sum ? 1U : 0U;
  }
  void fail(const brood::Failure& failure) {
    ++failed_;
    report_.say("failed: " + failure.message());
  }

  const Options& options_;
  Report report_;
  unsigned sizes_ = 0;
  std::uint64_t largest_ = 0;
  unsigned differ_ = 0;
  unsigned failed_ = 0;
  unsigned caps_ = 0;
  unsigned left_out_ = 0;
};

}  // namespace in_sizes

Mode sizes() {
  using namespace in_sizes;
  Options defaults;
  defaults.mib = 17;
  return {"sizes", "payloads from 0 bytes to N MiB and a byte, there and back; 32 in flight; the caps", "mib", "checksum cap",
          defaults, [](const Options& options) {
            return each_policy(options, [&]<class Policy>(const char* name) { return Sizes<Policy>(name, options).run(); });
          }};
}

}  // namespace chaos
