// SPDX-License-Identifier: MIT
// Pools that come and go: what the host has after thousands of them that it had not after the first.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"

namespace chaos {
namespace in_cycles {

std::uint64_t twice(std::uint64_t n) { return n * 2; }
std::uint64_t dies() {
  ::raise(SIGKILL);
  return 0;
}

/// The files of brood's in the folders for temporary ones.
std::set<std::string> temporary_files() {
  std::set<std::string> found;
  for (const char* folder : {"/tmp", "/dev/shm", "/var/tmp"}) {
    std::error_code error;
    for (const auto& each : std::filesystem::directory_iterator(folder, error)) {
      if (each.path().filename().string().find("brood") != std::string::npos) found.insert(each.path().string());
    }
  }
  return found;
}

/// One pool. Whether all was as it should be.
template <class Policy>
bool live_once(std::mt19937& random) {
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = random() % 3});
  const Watched watched(pool);
  bool right = true;
  switch (random() % 6) {
    case 0: break;  // never used
    case 1: right = pool.submit(&twice, std::uint64_t{21}).get() == 42; break;
    case 2: right = !pool.submit(&dies).outcome(); break;
    case 3: {
      std::vector<std::uint64_t> items(20);
      std::iota(items.begin(), items.end(), std::uint64_t{0});
      const std::vector<std::uint64_t> values = pool.map(&twice, items);
      right = values.size() == items.size() && values[7] == 14;
      break;
    }
    case 4:
      for (std::uint64_t n = 0; n < 5; ++n) pool.submit(&twice, n);  // dropped
      break;
    default:
      pool.submit(&twice, std::uint64_t{1});
      pool.kill();
  }
  return right;
}

template <class Policy>
Report come_and_go(const std::string& name, const Options& options) {
  Report report("cycles", name, options.seed);
  std::mt19937 random(options.seed);
  unsigned wrong = live_once<Policy>(random) ? 0 : 1;
  const std::set<std::string> before = belongings();
  const std::set<std::string> files = temporary_files();
  const double memory = resident_kib(::getpid());
  const auto began = Clock::now();
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> leak(nullptr, &std::fclose);
  pid_t child = 0;
  pid_t orphan = 0;
  for (unsigned round = 0; round < options.rounds; ++round) {
    Watchdog::beat("a pool to live and end", round);
    wrong += live_once<Policy>(random) ? 0U : 1U;
    if (round == 0 && options.inject == "descriptor") leak.reset(std::fopen("/dev/null", "r"));
    if (round == 0 && options.inject == "process") child = fork_host([] {});
    if (round == 0 && options.inject == "orphan") orphan = leave_orphan();
  }
  std::set<std::string> left = left_behind(before);
  if (options.judge_times) {  // nobody else uses it now
    for (const std::string& each : temporary_files()) {
      if (!files.contains(each)) left.insert("file " + each);
    }
  }
  report.say(text("%u pools in %.1f s, unused, used, with deaths, dropped futures, killed; the host's memory went from %.1f "
                  "to %.1f MiB",
                  options.rounds, ms_since(began) / 1000, memory / 1024, resident_kib(::getpid()) / 1024));
  report.count("pools that did not do their work", wrong);
  report_left_behind(report, left);
  if (child != 0) ::waitpid(child, nullptr, 0);
  if (orphan != 0) ::kill(orphan, SIGKILL);
  return report;
}

}  // namespace in_cycles

Mode cycles() {
  using namespace in_cycles;
  Options defaults;
  defaults.rounds = 200;
  return {"cycles", "N pools, one after the other", "rounds", "descriptor process orphan", defaults, [](const Options& options) {
            return each_policy(options, [&]<class Policy>(const char* name) { return come_and_go<Policy>(name, options); });
          }};
}

}  // namespace chaos
