// SPDX-License-Identifier: MIT
// Many short tasks while workers, and servers, are killed at random. What should not happen: tasks that never resolve,
// resolve or start twice, give a wrong value, or fail without a kill.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"

namespace chaos {
namespace in_kills {

using Starts = SharedArray<std::uint8_t>;
using std::chrono::microseconds;

/// The task.
std::uint64_t work(const std::string& path, std::size_t tasks, std::size_t task) {
  static const Starts* const starts = new Starts(path, tasks);  // once in each worker
  ++(*starts)[task];
  const auto until = Clock::now() + microseconds(task * 7919 % 300);
  while (Clock::now() < until) {
  }
  return task * 31 + 7;
}

// What no pool may do, done on purpose.
std::uint64_t work_wrong(const std::string& path, std::size_t tasks, std::size_t task) {
  return work(path, tasks, task) + 1;
}
std::uint64_t work_twice(const std::string& path, std::size_t tasks, std::size_t task) {
  work(path, tasks, task);
  return work(path, tasks, task);
}
std::uint64_t never() {
  for (;;) ::pause();
}
std::uint64_t ends() {
  std::this_thread::sleep_for(300ms);
  return 0;
}
std::uint64_t dies() {
  ::raise(SIGKILL);
  return 0;
}
std::uint64_t throws() { throw std::runtime_error("injected"); }

/// What has been heard of each task when it was resolved, and how often.
class Tally {
 public:
  explicit Tally(std::size_t tasks) : heard_(tasks) {}

  void listen(const brood::Future<std::uint64_t>& future, std::size_t at) {
    const brood::detail::TaskPtr task = task_of(future);
    task->dispatcher->when_resolved(task, [this, at, it = task.get()] {
      Heard& heard = heard_[at];
      ++heard.times;
      heard.failed = it->failure.has_value();
      heard.results = it->results.size();
    });
  }
  /// Tasks that were resolved more often than once, or are not what they were when they were. Once the pool has ended.
  std::size_t twice(const std::vector<brood::Future<std::uint64_t>>& futures) const {
    std::size_t count = 0;
    for (std::size_t at = 0; at < heard_.size(); ++at) {
      const auto task = task_of(futures[at]);
      const Heard& heard = heard_[at];
      const bool changed =
          heard.times != 0 && (heard.failed != task->failure.has_value() || heard.results != task->results.size());
      count += heard.times > 1 || changed ? 1U : 0U;
    }
    return count;
  }
  std::size_t never() const {
    return static_cast<std::size_t>(std::count_if(heard_.begin(), heard_.end(), [](const Heard& it) { return it.times == 0; }));
  }

 private:
  struct Heard {
    std::atomic<unsigned> times = 0;
    bool failed = false;
    std::size_t results = 0;
  };
  std::vector<Heard> heard_;
};

struct Periods {
  microseconds worker{0};
  microseconds server{0};
  bool worker_as_asked = false;
  bool server_as_asked = false;
};

/// How often to kill: as asked, or twice the time that it takes to have a worker, or a server and its worker, up again.
/// Faster, nothing would ever be done. The time in the middle of some on a machine of our own; else the longest, for
/// others may need the machine at any moment.
template <class Policy>
Periods periods_for(const Options& options) {
  std::vector<double> workers;
  std::vector<double> servers;
  for (int round = 0; round < 5; ++round) {
    const auto made = Clock::now();
    brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 1});
    servers.push_back(ms_since(made));
    for (int start = 0; start < 3; ++start) {
      const auto asked = Clock::now();
      pool.submit([] {}).get();
      workers.push_back(ms_since(asked));
    }
  }
  const auto start = [&](const std::vector<double>& times) {
    return microseconds(static_cast<microseconds::rep>(percentile(times, options.judge_times ? 0.5 : 1) * 1000));
  };
  const microseconds worker = start(workers);
  const microseconds server = start(servers);
  Periods periods;
  const microseconds asked = std::chrono::milliseconds(options.kill_ms);
  const microseconds server_asked = std::chrono::milliseconds(options.kill_server_ms);
  periods.worker = std::max(asked, 2 * worker);
  periods.server = std::max(server_asked, 2 * (server + worker));
  periods.worker_as_asked = periods.worker == asked;
  periods.server_as_asked = periods.server == server_asked;
  return periods;
}

/// Kills at random until it is told to stop.
template <class Policy>
class Killer {
 public:
  Killer(brood::Pool<Policy>& pool, const Options& options, Periods periods)
      : thread_([this, &pool, &options, periods] { run(pool, options, periods); }) {}
  Killer(const Killer&) = delete;
  Killer& operator=(const Killer&) = delete;
  ~Killer() { stop(); }

  void stop() {
    stopped_ = true;
    if (thread_.joinable()) thread_.join();
  }
  unsigned workers = 0;
  unsigned servers = 0;

 private:
  void run(brood::Pool<Policy>& pool, const Options& options, Periods periods) {
    std::mt19937 random(options.seed);
    auto next_worker = Clock::now();  // then one each period: a busy one, or any
    auto next_server = Clock::now();
    while (!stopped_) {
      std::this_thread::sleep_for(200us);
      if (options.kill_ms != 0 && options.inject != "spare" && Clock::now() >= next_worker) {
        const brood::PoolStats stats = pool.stats();
        const bool any = random() % 2 == 0;  // also one that starts, is idle or leaves
        std::vector<pid_t> victims;
        for (const auto& worker : stats.workers) {
          if (worker.pid != 0 && (any || worker.state == brood::WorkerState::busy)) victims.push_back(worker.pid);
        }
        if (!victims.empty() && signal_child_of(stats.server_pid, victims[random() % victims.size()])) {
          ++workers;
          next_worker = Clock::now() + periods.worker;
        }
      }
      if (options.kill_server_ms != 0 && !brood::CopiesHost<Policy> && options.inject != "spare-server" &&
          Clock::now() >= next_server) {
        const brood::PoolStats stats = pool.stats();
        if (stats.running != 0 && stats.server_pid != 0 && signal_child_of(::getpid(), stats.server_pid)) {
          ++servers;
          next_server = Clock::now() + periods.server;
        }
      }
    }
  }

  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

struct Deaths {
  std::vector<double> times;  ///< from a kill to the moment at which the caller has the failure, in ms
  unsigned otherwise = 0;     ///< ends of tasks that were not the failure of a death
};

template <class Policy>
Deaths time_deaths(unsigned deaths, const std::string& inject) {
  brood::Pool<Policy> pool({.workers = 2});
  const Watched watched(pool);
  Deaths found;
  for (unsigned round = 0; round < deaths; ++round) {
    Watchdog::beat("a killed worker's task to fail", round);
    auto future = pool.submit(inject == "missed" ? &ends : &never);
    pid_t pid = 0;
    brood::PoolStats stats;
    support::eventually([&] {
      stats = pool.stats();
      for (const auto& worker : stats.workers) {
        if (worker.task == future.id()) pid = worker.pid;
      }
      return pid != 0;
    });
    const auto killed = Clock::now();
    if (inject != "missed") signal_child_of(stats.server_pid, pid);
    if (inject == "late") std::this_thread::sleep_for(100ms);
    future.wait();
    found.times.push_back(ms_since(killed));
    const auto outcome = future.outcome();
    found.otherwise += outcome || outcome.failure().kind() != brood::FailureKind::worker_died ? 1U : 0U;
  }
  return found;
}

struct Counts {
  unsigned unresolved = 0;
  unsigned wrong = 0;
  unsigned failed = 0;
  unsigned otherwise = 0;
  std::size_t resolved_twice = 0;
  std::size_t unheard = 0;
  std::size_t started_twice = 0;
  unsigned kills = 0;
  unsigned server_kills = 0;
  std::uint64_t resolutions = 0;
  std::string sample;
};

template <class Policy>
Counts run_tasks(const Options& options, const Periods& periods) {
  Counts counts;
  const std::size_t tasks = options.tasks;
  const Starts starts(own_file("starts"), tasks);
  Tally tally(tasks);
  std::vector<brood::Future<std::uint64_t>> futures;
  {
    brood::Pool<Policy> pool({.workers = options.workers, .tasks_per_worker = options.recycle});
    const Watched watched(pool);
    Killer<Policy> killer(pool, options, periods);
    const auto inject = [&](const char* fault, std::size_t task) { return task == tasks / 2 && options.inject == fault; };
    for (std::size_t task = 0; task < tasks; ++task) {
      Watchdog::beat("a task to be taken", task);
      futures.push_back(inject("wrong", task)        ? pool.submit(&work_wrong, starts.path(), tasks, task)
                        : inject("start", task)      ? pool.submit(&work_twice, starts.path(), tasks, task)
                        : inject("unresolved", task) ? pool.submit(&never)
                        : inject("death", task)      ? pool.submit(&dies)
                        : inject("otherwise", task)  ? pool.submit(&throws)
                                                     : pool.submit(&work, starts.path(), tasks, task));
      if (!inject("unheard", task)) tally.listen(futures.back(), task);
      if (inject("twice", task)) tally.listen(futures.back(), task);
    }
    for (std::size_t task = 0; task < tasks; ++task) {
      Watchdog::beat("a task to be resolved", task);
      // the watchdog is the more patient one: it is for calls that don't come back
      const auto patience = counts.unresolved == 0 ? std::chrono::milliseconds(options.patience * 500) : 100ms;
      if (!futures[task].wait_for(patience)) {
        if (counts.unresolved++ == 0) counts.sample = "unresolved: task " + std::to_string(task) + "; " + describe(pool.stats());
        continue;
      }
      const auto outcome = futures[task].outcome();
      if (outcome) {
        counts.wrong += *outcome != task * 31 + 7 ? 1U : 0U;
      } else if (outcome.failure().kind() == brood::FailureKind::worker_died) {
        ++counts.failed;
      } else {
        ++counts.otherwise;
        counts.sample = "failed otherwise: " + outcome.failure().message();
      }
    }
    killer.stop();
    counts.kills = killer.workers;
    counts.server_kills = killer.servers;
    if (counts.unresolved != 0) pool.kill();
    Watchdog::beat("the pool to be idle");
    pool.wait();
    const brood::PoolStats stats = pool.stats();
    counts.resolutions = stats.done + stats.failed;
    Watchdog::beat("the pool to end");
  }
  counts.resolved_twice = tally.twice(futures);
  counts.unheard = tally.never();
  for (std::size_t task = 0; task < tasks; ++task) counts.started_twice += starts[task] > 1 ? 1U : 0U;
  return counts;
}

template <class Policy>
Report storm(const std::string& name, const Options& options) {
  Report report(options.kill_server_ms != 0 ? "kills of servers" : "kills", name, options.seed);
  const std::set<std::string> before = belongings();
  const Periods periods = periods_for<Policy>(options);
  const auto began = Clock::now();
  const Counts counts = run_tasks<Policy>(options, periods);
  const double seconds = ms_since(began) / 1000;
  const Deaths deaths = time_deaths<Policy>(options.rounds, options.inject);
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> leak(nullptr, &std::fclose);
  if (options.inject == "leftover") leak.reset(std::fopen("/dev/null", "r"));

  const auto each = [](microseconds period, bool as_asked, const char* otherwise) {
    return text("each %.1f ms (%s)", static_cast<double>(period.count()) / 1000, as_asked ? "as asked" : otherwise);
  };
  report.say(text("%u tasks on %u workers in %.1f s", options.tasks, options.workers, seconds) +
             (options.recycle != 0 ? text(", a worker replaced after %u tasks", options.recycle) : std::string()));
  if (options.kill_ms != 0) {
    report.say(std::to_string(counts.kills) + " workers killed, one " +
               each(periods.worker, periods.worker_as_asked, "twice the start of a worker"));
  }
  if (options.kill_server_ms != 0) {
    report.say(brood::CopiesHost<Policy> ? "no server killed: this one can't be made again"
                                         : std::to_string(counts.server_kills) + " servers killed, one " +
                                               each(periods.server, periods.server_as_asked,
                                                    "twice the start of a server and its worker"));
  }
  if (!counts.sample.empty()) report.say(counts.sample);
  report.count("unresolved", counts.unresolved);
  report.count("resolved, but nobody was told", static_cast<double>(counts.unheard));
  report.count("resolved twice", static_cast<double>(counts.resolved_twice));
  report.count("resolutions counted too many or too few",
               std::abs(static_cast<double>(counts.resolutions) - static_cast<double>(options.tasks)));
  report.count("started twice", static_cast<double>(counts.started_twice));
  report.count("wrong values", counts.wrong);
  report.count("failures (at most: kills)", counts.failed, counts.kills + counts.server_kills * options.workers);
  report.count("failed otherwise than by a death", counts.otherwise);
  if (options.kill_ms != 0) report.need("workers killed", counts.kills);
  if (options.kill_server_ms != 0 && !brood::CopiesHost<Policy>) report.need("servers killed", counts.server_kills);
  if (options.rounds != 0) {
    report.measure("a death is heard of, p50", percentile(deaths.times, 0.5), 50, "ms", options.judge_times);
    report.measure("a death is heard of, p99", percentile(deaths.times, 0.99), 50, "ms", options.judge_times);
    report.count("timed deaths heard of as something else", deaths.otherwise);
  }
  report_left_behind(report, left_behind(before));
  return report;
}

}  // namespace in_kills

Mode kills() {
  using namespace in_kills;
  Options defaults;
  defaults.tasks = 20'000;
  defaults.rounds = 100;
  return {"kills", "N tasks while workers (--kill-ms) and servers (--kill-server-ms) are killed; --rounds: deaths timed",
          "tasks workers recycle kill-ms kill-server-ms rounds",
          "unresolved unheard twice start wrong death otherwise spare spare-server late missed leftover", defaults,
          [](const Options& options) {
            return each_policy(options, [&]<class Policy>(const char* name) { return storm<Policy>(name, options); });
          }};
}

}  // namespace chaos
