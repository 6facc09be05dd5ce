// SPDX-License-Identifier: MIT
// A long life: many tasks of which one in a hundred crashes, and what the host and its server have at half-time and at
// the end.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/sanitizer.hpp"

namespace chaos {
namespace in_growth {

std::uint64_t crash_often(std::uint64_t task) {
  if (task % 100 != 99) return task * 3;
  switch (task / 100 % 4) {
    case 0: ::_exit(static_cast<int>(task % 7)); break;
    case 1: ::raise(SIGKILL); break;
    case 2: std::abort();
    default:
      if (support::has_sanitizer) ::signal(SIGSEGV, SIG_DFL);  // its report would be printed each time
      ::raise(SIGSEGV);
  }
  return 0;
}

/// How much the values grow from the first to the last, by the straight line that fits them best.
double growth_of(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  if (count < 2) return 0;
  const double middle = (count - 1) / 2;
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double above = 0;
  double below = 0;
  for (std::size_t at = 0; at < values.size(); ++at) {
    const double x = static_cast<double>(at) - middle;
    above += x * (values[at] - mean);
    below += x * x;
  }
  return above / below * (count - 1);
}

struct Holdings {
  double host_fds = 0;
  double server_fds = 0;
  double zombies = 0;
};

/// How many processes this one has pidfds of.
std::size_t count_pidfds() {
  const auto numbers = support::numbers_in("/proc/self/fd");
  return static_cast<std::size_t>(std::count_if(numbers.begin(), numbers.end(), [](int number) {
    std::array<char, 64> target{};
    const std::string path = "/proc/self/fd/" + std::to_string(number);
    return ::readlink(path.c_str(), target.data(), target.size() - 1) > 0 &&
           std::string_view(target.data()).find("pidfd") != std::string_view::npos;
  }));
}

/// With every worker up and idle.
template <class Policy>
Holdings holdings(brood::Pool<Policy>& pool, unsigned workers) {
  {
    const support::Gate gate;
    std::vector<brood::Future<int>> futures;
    for (unsigned n = 0; n < workers; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), 1));
    support::wait_until_running(pool, workers);
    gate.open();
    for (const auto& future : futures) future.wait();
  }
  // a worker may have answered before its server has told of it: it has no pidfd until then
  support::eventually([&] {
    static_cast<void>(pool.stats());
    return count_pidfds() > workers;  // those, and the server's
  });
  Holdings found;
  const pid_t server = pool.stats().server_pid;
  found.host_fds = static_cast<double>(support::numbers_in("/proc/self/fd").size());
  found.server_fds = static_cast<double>(support::numbers_in("/proc/" + std::to_string(server) + "/fd").size());
  for (const auto& each : support::all_processes()) {
    found.zombies += each.state == 'Z' && (each.parent == ::getpid() || each.parent == server) ? 1 : 0;
  }
  return found;
}

template <class Policy>
Report live_long(const std::string& name, const Options& options) {
  const std::uint64_t batch = std::clamp<std::uint64_t>(options.tasks / 40, 1, 500);  // enough samples for a line
  Report report("growth", name, options.seed);
  const std::set<std::string> before = belongings();
  std::vector<double> host;
  std::vector<double> server;
  std::vector<std::unique_ptr<std::vector<char>>> leaked;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> descriptor(nullptr, &std::fclose);
  pid_t zombie = 0;
  std::uint64_t failures = 0;
  std::uint64_t expected = 0;
  std::uint64_t wrong = 0;
  const auto began = Clock::now();
  {
    brood::Pool<Policy> pool({.workers = options.workers});
    const Watched watched(pool);
    const auto judge = [&](std::uint64_t task, const brood::Outcome<std::uint64_t>& outcome) {
      expected += task % 100 == 99 ? 1U : 0U;
      failures += !outcome ? 1U : 0U;
      wrong += outcome && *outcome != task * 3 ? 1U : 0U;
    };
    Holdings half;
    bool at_half = false;
    for (std::uint64_t task = 0; task < options.tasks; task += 2 * batch) {
      Watchdog::beat("a batch of tasks to be done", task);
      if (!at_half && task >= options.tasks / 2) {
        half = holdings(pool, options.workers);
        at_half = true;
        host.clear();
        server.clear();
        if (options.inject == "descriptor") descriptor.reset(std::fopen("/dev/null", "r"));
        if (options.inject == "zombie") zombie = fork_host([] {});
      }
      std::vector<brood::Future<std::uint64_t>> futures;
      for (std::uint64_t at = task; at < task + batch; ++at) futures.push_back(pool.submit(&crash_often, at));
      std::vector<std::uint64_t> items(batch);
      std::iota(items.begin(), items.end(), task + batch);
      const auto outcomes = pool.try_map(&crash_often, items);
      for (std::uint64_t at = 0; at < batch; ++at) {
        judge(task + at, futures[at].outcome());
        judge(task + batch + at, outcomes[at]);
      }
      if (options.inject == "failure" && task == 0) ++failures;
      if (options.inject == "memory") leaked.push_back(std::make_unique<std::vector<char>>(std::size_t{4} << 20, 'x'));
      host.push_back(resident_kib(::getpid()));
      server.push_back(resident_kib(pool.stats().server_pid));
    }
    const Holdings end = holdings(pool, options.workers);
    report.say(text("%u tasks in %.1f s, half of them by try_map; %llu crashed", options.tasks, ms_since(began) / 1000,
                    static_cast<unsigned long long>(expected)));
    report.say(text("resident at the end: host %.1f MiB, server %.1f MiB; descriptors: host %.0f, server %.0f",
                    host.back() / 1024, server.back() / 1024, end.host_fds, end.server_fds));
    report.say("growth: in the second half of the run");
    report.count("wrong values", static_cast<double>(wrong));
    report.count("failures too many or too few", std::abs(static_cast<double>(failures) - static_cast<double>(expected)));
    report.measure("host's memory grows by", growth_of(host) / 1024, 1, "MiB", options.judge_times);
    report.measure("server's memory grows by", growth_of(server) / 1024, 1, "MiB", options.judge_times);
    report.count("descriptors more, in the host", end.host_fds - half.host_fds);
    report.count("descriptors more, in the server", end.server_fds - half.server_fds);
    report.count("zombies", end.zombies);
  }
  if (zombie != 0) ::waitpid(zombie, nullptr, 0);
  descriptor.reset();
  report_left_behind(report, left_behind(before));
  return report;
}

}  // namespace in_growth

Mode growth() {
  using namespace in_growth;
  Options defaults;
  defaults.tasks = 20'000;
  defaults.workers = 4;
  return {"growth", "N tasks, 1 % of them crash: memory, descriptors and zombies of host and server",
          "tasks workers", "memory descriptor zombie failure", defaults, [](const Options& options) {
            return each_policy(options, [&]<class Policy>(const char* name) { return live_long<Policy>(name, options); });
          }};
}

}  // namespace chaos
