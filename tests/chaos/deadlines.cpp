// SPDX-License-Identifier: MIT
// Tasks that never end by themselves, each with a deadline: how late the host is told that it has passed.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"

namespace chaos {
namespace in_deadlines {

using Times = SharedArray<std::int64_t>;

constexpr auto deadline = 50ms;
constexpr std::array<const char*, 4> kinds = {"busy loop", "signals blocked", "stopped", "asleep"};

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

/// Notes when it starts, unless it has nowhere to; and never ends.
std::uint64_t outlast(const std::string& path, std::size_t tasks, std::size_t task) {
  static const Times* const started = path.empty() ? nullptr : new Times(path, tasks);
  if (started != nullptr) (*started)[task] = now_ns();
  sigset_t all;
  ::sigfillset(&all);
  std::atomic<unsigned> turns = 0;
  switch (task % kinds.size()) {
    case 0:
      for (;;) ++turns;
    case 1:
      ::sigprocmask(SIG_SETMASK, &all, nullptr);
      for (;;) ++turns;
    case 2:
      for (;;) ::raise(SIGSTOP);
    default:
      for (;;) ::pause();
  }
}
std::uint64_t end_at_once(const std::string&, std::size_t, std::size_t task) { return task; }
std::uint64_t triple(std::uint64_t task) { return task * 3; }
std::uint64_t fail(std::uint64_t) { throw std::runtime_error("injected"); }

template <class Policy>
Report time_out(const std::string& name, const Options& options) {
  Report report("deadlines", name, options.seed);
  const std::set<std::string> before = belongings();
  const std::size_t tasks = options.tasks * kinds.size();
  std::vector<std::int64_t> told(tasks);
  unsigned survivors = 0;
  unsigned bystanders = 0;
  const auto began = Clock::now();
  std::array<std::vector<double>, kinds.size()> late;
  {
    const Times started(own_file("started"), tasks);
    std::vector<std::size_t> order(tasks);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::shuffle(order.begin(), order.end(), std::mt19937(options.seed));
    brood::Pool<Policy> pool({.workers = options.workers});
    const Watched watched(pool);
    std::vector<brood::Future<std::uint64_t>> endless(tasks);
    std::vector<brood::Future<std::uint64_t>> behind(tasks);
    const brood::TaskOptions limited{.timeout = deadline};
    for (const std::size_t task : order) {
      const bool survives = options.inject == "survivor" && task == 0;
      const std::string notes = options.inject == "unseen" ? std::string() : started.path();
      endless[task] = survives ? pool.submit(limited, &end_at_once, notes, tasks, task)
                               : pool.submit(limited, &outlast, notes, tasks, task);
      const brood::detail::TaskPtr it = task_of(endless[task]);
      it->dispatcher->when_resolved(it, [&told, task, slow = options.inject == "late"] {
        if (slow) std::this_thread::sleep_for(150ms);
        told[task] = now_ns();
      });
      behind[task] = options.inject == "bystander" && task == 0 ? pool.submit(&fail, task) : pool.submit(&triple, task);
    }
    for (std::size_t at = 0; at < tasks; ++at) {
      Watchdog::beat("a task with a deadline", at);
      const auto outcome = endless[order[at]].outcome();
      survivors += outcome || outcome.failure().kind() != brood::FailureKind::timeout ? 1U : 0U;
      const auto other = behind[order[at]].outcome();
      bystanders += !other || *other != order[at] * 3 ? 1U : 0U;
    }
    Watchdog::beat("the pool to be idle");
    pool.wait();  // and its callbacks are done
    for (std::size_t task = 0; task < tasks; ++task) {
      if (started[task] == 0) continue;
      const auto due = started[task] + std::chrono::nanoseconds(deadline).count();
      late[task % kinds.size()].push_back(static_cast<double>(told[task] - due) / 1e6);
    }
    Watchdog::beat("the pool to end");
  }
  report.say(text("%u tasks of each kind, each with a deadline of %lld ms and a task without one behind it, on %u workers in "
                  "%.1f s",
                  options.tasks, static_cast<long long>(deadline.count()), options.workers, ms_since(began) / 1000));
  report.count("not timed out", survivors);
  report.count("tasks behind them that failed", bystanders);
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    const std::string label = kinds[kind];
    report.say(text("%-16s late by, p50 %.2f ms, p99 %.2f ms, at most %.2f ms", kinds[kind], percentile(late[kind], 0.5),
                    percentile(late[kind], 0.99), percentile(late[kind], 1)));
    report.measure(label + ": late by, p99", percentile(late[kind], 0.99), 100, "ms", options.judge_times);
    // a task that gets no CPU before its deadline can't be timed; for want of samples, the figure above would be worth nothing
    report.need(label + ": timed", static_cast<double>(late[kind].size()), std::ceil(0.9 * options.tasks), options.judge_times);
  }
  report_left_behind(report, left_behind(before));
  return report;
}

}  // namespace in_deadlines

Mode deadlines() {
  using namespace in_deadlines;
  Options defaults;
  defaults.tasks = 100;
  defaults.workers = 4;
  return {"deadlines", "N tasks each of four kinds that never end, with a deadline", "tasks workers",
          "late unseen survivor bystander", defaults, [](const Options& options) {
            return each_policy(options, [&]<class Policy>(const char* name) { return time_out<Policy>(name, options); });
          }};
}

}  // namespace chaos
