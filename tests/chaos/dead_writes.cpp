// SPDX-License-Identifier: MIT
// Calls written to workers that have just died, or die while they read, by a host whose SIGPIPE is as it is by default.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"
#include "support/child.hpp"

namespace chaos {
namespace in_dead_writes {

constexpr unsigned workers = 2;

std::uint64_t triple(std::uint64_t n) { return n * 3; }
std::uint64_t size_of(const std::vector<std::uint8_t>& bytes) { return bytes.size(); }

struct Notes {
  std::atomic<unsigned> rounds = 0;
  std::atomic<unsigned> kills = 0;
  std::atomic<unsigned> failed = 0;
  std::atomic<unsigned> otherwise = 0;
  std::atomic<unsigned> wrong = 0;
  std::atomic<unsigned> signals_changed = 0;
};

std::string signal_state() {
  std::string all;
  for (const char* field : {"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"}) {
    // 32 and 33 are libc's own: it takes them when a process starts its first thread
    const std::uint64_t own = std::stoull(support::own_status(field), nullptr, 16) & ~(std::uint64_t{3} << 31);
    all += std::string(field) + ' ' + std::to_string(own) + ' ';
  }
  return all;
}

void take(const brood::Future<std::uint64_t>& future, std::uint64_t expected, Notes& notes) {
  const auto outcome = future.outcome();
  if (outcome) {
    notes.wrong += *outcome != expected ? 1U : 0U;
  } else if (outcome.failure().kind() == brood::FailureKind::worker_died) {
    ++notes.failed;
  } else {
    ++notes.otherwise;
  }
}

template <class Policy>
void write_to_the_dead(const Options& options, Notes& notes) {
  const std::string signals = signal_state();
  std::mt19937 random(options.seed);
  const std::vector<std::uint8_t> large(std::size_t{options.mib} << 20, 3);
  brood::Pool<Policy> pool({.workers = workers});
  for (unsigned round = 0; round < options.rounds; ++round) {
    std::vector<brood::Future<std::uint64_t>> futures;
    for (unsigned n = 0; n < workers; ++n) futures.push_back(pool.submit(&triple, std::uint64_t{n}));
    for (unsigned n = 0; n < workers; ++n) take(futures[n], n * 3, notes);
    const brood::PoolStats stats = pool.stats();
    if (stats.workers.empty()) continue;
    const pid_t victim = stats.workers[random() % stats.workers.size()].pid;
    futures.clear();
    if (round % 8 == 7) {
      for (unsigned n = 0; n < workers; ++n) futures.push_back(pool.submit(&size_of, large));
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
      notes.kills += signal_child_of(stats.server_pid, victim) ? 1U : 0U;
      for (const auto& future : futures) take(future, large.size(), notes);
    } else {  // the host has not heard of it when it writes
      notes.kills += signal_child_of(stats.server_pid, victim) ? 1U : 0U;
      for (unsigned n = 0; n < workers; ++n) futures.push_back(pool.submit(&triple, std::uint64_t{n}));
      for (unsigned n = 0; n < workers; ++n) take(futures[n], n * 3, notes);
    }
    if (options.inject == "handler" && round == 1) ::signal(SIGUSR1, SIG_IGN);
    if (options.inject == "raw-write" && round == 1) {
      std::array<int, 2> ends{};
      if (::pipe(ends.data()) == 0) {
        ::close(ends[0]);
        static_cast<void>(!::write(ends[1], "x", 1));
      }
    }
    notes.signals_changed += signal_state() != signals ? 1U : 0U;
    ++notes.rounds;
  }
}

template <class Policy>
Report dead_peers(const std::string& name, const Options& options) {
  Report report("dead-writes", name, options.seed);
  const std::set<std::string> before = belongings();
  const support::Shared<Notes> notes;
  const auto began = Clock::now();
  const pid_t host = fork_host([&] { write_to_the_dead<Policy>(options, *notes); });
  const brood::ExitStatus end = end_of_host(host, notes->rounds, "a host that writes to the dead");
  report.say(text("%u rounds, every eighth with %u MiB, in %.1f s; %u workers killed, %u tasks failed by it; the host %s",
                  notes->rounds.load(), options.mib, ms_since(began) / 1000, notes->kills.load(), notes->failed.load(),
                  end.describe().c_str()));
  report.count("hosts ended by a signal", end.signaled() ? 1 : 0);
  report.count("rounds not done", options.rounds - notes->rounds);
  report.count("signal state changed", notes->signals_changed);
  report.count("wrong values", notes->wrong);
  report.count("failures (at most: kills)", notes->failed, notes->kills);
  report.count("failed otherwise than by a death", notes->otherwise);
  report_left_behind(report, left_behind(before));
  return report;
}

}  // namespace in_dead_writes

Mode dead_writes() {
  using namespace in_dead_writes;
  Options defaults;
  defaults.rounds = 400;
  defaults.mib = 16;
  return {"dead-writes", "N rounds of writing to workers that have just died; every eighth with --mib", "rounds mib",
          "raw-write handler", defaults, [](const Options& options) {
            return each_policy(options, [&]<class Policy>(const char* name) { return dead_peers<Policy>(name, options); });
          }};
}

}  // namespace chaos
