// SPDX-License-Identifier: MIT
// Many short tasks while workers, and servers, are killed at random; then a report of what should not have happened:
// tasks that never resolved, resolved or started twice, gave a wrong value, or failed without a kill; what is left
// behind; and how long it takes to hear of a death. Repeatable by its seed as far as the machine's timing is.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "support/eventually.hpp"
#include "support/proc.hpp"

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr const char* usage = R"(Usage: chaos [--policy fork|spawn|server|all] [--tasks N] [--workers N] [--recycle N]
             [--kill-ms N] [--kill-server-ms N] [--seed N]

Runs N tasks while a random busy worker is killed every --kill-ms (default 5; 0: never)
and the server every --kill-server-ms (default 0: never; not under fork), each at least
twice the time that it takes to have a worker up again. --recycle N replaces each worker after N tasks
(default 0: never). Ends with 1 when a promise was broken.
)";

struct Options {
  std::string policy = "all";
  unsigned tasks = 20'000;
  unsigned workers = 8;
  unsigned recycle = 0;
  unsigned kill_ms = 5;
  unsigned kill_server_ms = 0;
  unsigned seed = 1;
};

Options read_options(int argc, char** argv) {
  Options result;
  for (int at = 1; at < argc; at += 2) {
    const std::string_view name = argv[at];
    const std::string_view value = at + 1 < argc ? argv[at + 1] : "";
    if (name == "--policy") {
      result.policy = value;
      if (!std::set<std::string_view>{"fork", "spawn", "server", "all"}.contains(value)) {
        throw std::invalid_argument("--policy is fork, spawn, server or all");
      }
      continue;
    }
    unsigned* const target = name == "--tasks"            ? &result.tasks
                             : name == "--workers"        ? &result.workers
                             : name == "--recycle"        ? &result.recycle
                             : name == "--kill-ms"        ? &result.kill_ms
                             : name == "--kill-server-ms" ? &result.kill_server_ms
                             : name == "--seed"           ? &result.seed
                                                          : nullptr;
    if (target == nullptr) throw std::invalid_argument("there is no option " + std::string(name));
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *target);
    if (error != std::errc() || end != value.data() + value.size()) {
      throw std::invalid_argument(std::string(name) + " needs a number");
    }
  }
  return result;
}

/// One byte for each task, in a file that all processes share: how often it has started.
class Starts {
 public:
  Starts(std::string path, std::size_t tasks) : path_(std::move(path)), size_(tasks) {
    const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(size_)) != 0) throw std::runtime_error(path_ + " can't be written");
    void* const memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    if (memory == MAP_FAILED) throw std::runtime_error(path_ + " can't be mapped");
    bytes_ = static_cast<std::atomic<std::uint8_t>*>(memory);
  }
  Starts(const Starts&) = delete;
  Starts& operator=(const Starts&) = delete;
  ~Starts() { ::munmap(bytes_, size_); }

  void count(std::size_t task) { ++bytes_[task]; }
  std::size_t twice() const {
    return static_cast<std::size_t>(std::count_if(bytes_, bytes_ + size_, [](const auto& byte) { return byte > 1; }));
  }

 private:
  std::string path_;
  std::size_t size_;
  std::atomic<std::uint8_t>* bytes_;
};

/// The task.
std::uint64_t work(const std::string& path, std::size_t tasks, std::size_t task) {
  static Starts* const starts = new Starts(path, tasks);  // once in each worker
  starts->count(task);
  const auto until = Clock::now() + std::chrono::microseconds(task * 7919 % 300);
  while (Clock::now() < until) {
  }
  return task * 31 + 7;
}

/// Kills a child of `parent`, and no other process that has come to its number. Whether it did.
bool kill_child_of(pid_t parent, pid_t pid) {
  const brood::detail::Fd pidfd = brood::detail::open_pidfd(pid);
  if (!pidfd) return false;
  const auto info = support::process_info(pid);
  return info && info->parent == parent && info->state != 'Z' && brood::detail::signal_pidfd(pidfd.get(), SIGKILL);
}

struct StartTimes {
  std::chrono::microseconds worker{0};
  std::chrono::microseconds server{0};
};

/// Kills at random until it is told to stop.
template <class Policy>
class Killer {
 public:
  Killer(brood::Pool<Policy>& pool, const Options& options, StartTimes periods)
      : thread_([this, &pool, &options, periods] { run(pool, options, periods); }) {}
  void stop() {
    stopped_ = true;
    thread_.join();
  }
  unsigned workers = 0;
  unsigned servers = 0;

 private:
  void run(brood::Pool<Policy>& pool, const Options& options, StartTimes periods) {
    std::mt19937 random(options.seed);
    auto next_worker = Clock::now() + periods.worker;
    auto next_server = Clock::now() + periods.server;
    while (!stopped_) {
      std::this_thread::sleep_for(200us);
      if (options.kill_ms != 0 && Clock::now() >= next_worker) {
        next_worker = Clock::now() + periods.worker;
        const brood::PoolStats stats = pool.stats();
        std::vector<pid_t> busy;
        for (const auto& worker : stats.workers) {
          if (worker.state == brood::WorkerState::busy) busy.push_back(worker.pid);
        }
        if (!busy.empty() && kill_child_of(stats.server_pid, busy[random() % busy.size()])) ++workers;
      }
      if (options.kill_server_ms != 0 && !brood::CopiesHost<Policy> && Clock::now() >= next_server) {
        next_server = Clock::now() + periods.server;
        if (const pid_t server = pool.stats().server_pid; server != 0 && kill_child_of(::getpid(), server)) ++servers;
      }
    }
  }

  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

/// Processes of ours, descriptors and threads.
std::set<std::string> belongings() {
  std::set<std::string> found = support::own_descriptors();
  for (const auto& each : support::all_processes()) {
    if (each.parent == ::getpid() || (each.group == ::getpgrp() && each.pid != ::getpid())) {
      found.insert("process " + std::to_string(each.pid));
    }
  }
  for (const int thread : support::numbers_in("/proc/self/task")) found.insert("thread " + std::to_string(thread));
  return found;
}

/// From a kill to the moment at which the caller has the failure: the 99th of a hundred, in ms.
template <class Policy>
double crash_latency(brood::Pool<Policy>& pool) {
  std::vector<double> times;
  for (int round = 0; round < 100; ++round) {
    auto future = pool.submit([] {
      for (;;) ::pause();
    });
    brood::PoolStats stats;
    support::eventually([&] {
      stats = pool.stats();
      return stats.running == 1;
    });
    pid_t pid = 0;
    for (const auto& worker : stats.workers) {
      if (worker.task == future.id()) pid = worker.pid;
    }
    const auto killed = Clock::now();
    kill_child_of(stats.server_pid, pid);
    future.wait();
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - killed).count());
  }
  std::sort(times.begin(), times.end());
  return times[98];
}

/// How long a worker and a server take to start: the longest of a few.
template <class Policy>
StartTimes start_times() {
  StartTimes longest;
  const auto since = [](Clock::time_point then) {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - then);
  };
  for (int round = 0; round < 5; ++round) {
    const auto made = Clock::now();
    brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 1});
    longest.server = std::max(longest.server, since(made));
    for (int start = 0; start < 3; ++start) {
      const auto asked = Clock::now();
      pool.submit([] {}).get();
      longest.worker = std::max(longest.worker, since(asked));
    }
  }
  return longest;
}

/// True when every promise was kept.
template <class Policy>
bool storm(const std::string& name, const Options& options) {
  const std::set<std::string> before = belongings();
  const std::string path = "/tmp/brood_chaos_" + std::to_string(::getpid());
  unsigned unresolved = 0;
  unsigned wrong = 0;
  unsigned failed = 0;
  unsigned other = 0;
  std::size_t started_twice = 0;
  std::uint64_t resolutions = 0;
  unsigned kills = 0;
  unsigned server_kills = 0;
  double latency = 0;
  std::string sample;
  StartTimes periods = start_times<Policy>();
  const auto generation = periods.server + periods.worker;  // a server that has no time for a worker gets nothing done
  periods.worker = std::max<std::chrono::microseconds>(std::chrono::milliseconds(options.kill_ms), 2 * periods.worker);
  periods.server = std::max<std::chrono::microseconds>(std::chrono::milliseconds(options.kill_server_ms), 2 * generation);
  const auto began = Clock::now();
  {
    const Starts starts(path, options.tasks);
    brood::Pool<Policy> pool({.workers = options.workers, .tasks_per_worker = options.recycle});
    Killer<Policy> killer(pool, options, periods);
    std::vector<brood::Future<std::uint64_t>> futures;
    for (std::size_t task = 0; task < options.tasks; ++task) {
      futures.push_back(pool.submit(&work, path, std::size_t{options.tasks}, task));
    }
    for (std::size_t task = 0; task < options.tasks; ++task) {
      if (!futures[task].wait_for(60s)) {
        ++unresolved;
        continue;
      }
      const auto outcome = futures[task].outcome();
      if (outcome) {
        wrong += *outcome != task * 31 + 7 ? 1U : 0U;
      } else {
        ++failed;
        if (outcome.failure().kind() != brood::FailureKind::worker_died) {
          ++other;
          sample = outcome.failure().message();
        }
      }
    }
    killer.stop();
    kills = killer.workers;
    server_kills = killer.servers;
    const brood::PoolStats stats = pool.stats();
    resolutions = stats.done + stats.failed;
    started_twice = starts.twice();
    if (unresolved != 0) pool.kill();
    latency = crash_latency(pool);
  }
  ::unlink(path.c_str());
  const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
  std::set<std::string> after;
  support::eventually(
      [&] {
        after = belongings();
        return after == before;
      },
      3s);

  const std::uint64_t allowed = kills + std::uint64_t{server_kills} * options.workers;
  const bool kept = unresolved == 0 && wrong == 0 && other == 0 && started_twice == 0 && failed <= allowed &&
                    resolutions == options.tasks && after == before;
  std::printf(
      "%-18s seed %u: %u tasks in %.1f s; %u workers killed, one each %.1f ms, %u servers, one each %.1f ms\n"
      "  unresolved %u, resolved twice %lld, started twice %zu, wrong values %u\n"
      "  failed %u (at most %llu), not by a death %u, deaths heard of after %.2f ms (p99), left behind %zu: %s\n",
      name.c_str(), options.seed, options.tasks, seconds, kills, static_cast<double>(periods.worker.count()) / 1000, server_kills,
      static_cast<double>(periods.server.count()) / 1000,
      unresolved, static_cast<long long>(resolutions) - static_cast<long long>(options.tasks) + unresolved, started_twice, wrong,
      failed, static_cast<unsigned long long>(allowed), other, latency, after == before ? std::size_t{0} : after.size(),
      kept ? "kept" : "BROKEN");
  if (!sample.empty()) std::printf("  one that failed otherwise: %s\n", sample.c_str());
  for (const std::string& each : after) {
    if (!before.contains(each)) std::printf("  left behind: %s\n", each.c_str());
  }
  std::fflush(stdout);
  return kept;
}

}  // namespace

int main(int argc, char** argv) try {
  brood::init(argc, argv);
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    std::cout << usage;
    return 0;
  }
  const Options options = read_options(argc, argv);
  ::setpgid(0, 0);  // orphans of ours can be told from the processes of others
  const auto wanted = [&](std::string_view name) { return options.policy == "all" || options.policy == name; };
  bool kept = true;
  if (wanted("fork")) kept &= storm<brood::ForkPolicy>("ForkPolicy", options);
  if (wanted("spawn")) kept &= storm<brood::SpawnPolicy>("SpawnPolicy", options);
  if (wanted("server")) kept &= storm<brood::ForkServerPolicy<>>("ForkServerPolicy<>", options);
  return kept ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << "chaos: " << error.what() << '\n' << usage;
  return 2;
}
