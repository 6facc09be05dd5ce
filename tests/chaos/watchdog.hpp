// SPDX-License-Identifier: MIT
// Ends a run that makes no progress, and says who waits for whom: the pools as they see themselves, the threads of the
// host and the processes around it as the kernel sees them.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include <brood/brood.hpp>

#include "chaos/ours.hpp"
#include "support/eventually.hpp"
#include "support/proc.hpp"
#include "support/who_waits.hpp"

namespace chaos {

inline std::string describe(const brood::PoolStats& stats) {
  std::string text = "server " + std::to_string(stats.server_pid) + ", " + std::to_string(stats.queued) + " queued, " +
                     std::to_string(stats.running) + " running, " + std::to_string(stats.done) + " done, " +
                     std::to_string(stats.failed) + " failed, " + std::to_string(stats.workers_started) +
                     " workers started, " + std::to_string(stats.workers_died) + " died\n";
  if (!stats.cause.empty()) text += "    broken: " + stats.cause + '\n';
  constexpr const char* states[] = {"starting", "idle", "busy", "stopping", "spare"};
  for (const brood::WorkerStats& worker : stats.workers) {
    text += "    worker " + std::to_string(worker.pid) + ": " + states[static_cast<int>(worker.state)] + ", task " +
            std::to_string(worker.task) + ", " + std::to_string(worker.tasks_done) + " done\n";
  }
  return text;
}

class Watchdog {
 public:
  explicit Watchdog(std::chrono::seconds patience) {
    one = this;
    // ForkPolicy refuses a host with threads; this one sleeps, holds nothing, and is counted as the library's own
    brood::detail::helper_threads.fetch_add(1);
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this, patience] { watch(patience); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    wake_.notify_all();
    thread_.join();
    brood::detail::helper_threads.fetch_sub(1);
  }

  /// Progress: `what` is being waited for next, the `number`th of its kind.
  static void beat(const char* what, std::uint64_t number = 0) noexcept {
    what_ = what;
    number_ = number;
    beats_.fetch_add(1);
  }

  static inline Watchdog* one = nullptr;

 private:
  template <class Policy>
  friend class Watched;

  void watch(std::chrono::seconds patience) {
    std::unique_lock lock(mutex_);
    std::uint64_t seen = beats_;
    auto last = std::chrono::steady_clock::now();
    while (!ends_) {
      wake_.wait_for(lock, std::chrono::seconds(1));
      const auto now = std::chrono::steady_clock::now();
      if (seen != beats_) {
        seen = beats_;
        last = now;
      } else if (now - last >= patience && !ends_) {
        bark(patience);
      }
    }
  }

  [[noreturn]] void bark(std::chrono::seconds patience) {
    std::printf("WATCHDOG: no progress for %lld s. It waits for: %s (number %llu)\n",
                static_cast<long long>(patience.count()), what_.load(), static_cast<unsigned long long>(number_.load()));
    for (const auto& pool : pools_) {
      std::atomic<bool> told = false;  // the pool's lock may be what all wait for
      std::thread([&told, &pool] {
        std::printf("  pool: %s", pool.second().c_str());
        told = true;
      }).detach();
      if (!support::eventually([&] { return told.load(); }, std::chrono::seconds(2))) {
        std::printf("  pool: it does not answer either: somebody holds its lock\n");
      }
    }
    for (const int thread : support::numbers_in("/proc/self/task")) {
      std::printf("  thread %s", support::what_it_waits_in(thread).c_str());
    }
    for (const auto& each : support::all_processes()) {
      if (!is_ours(each)) continue;
      std::printf("  process, child of %d, %s", each.parent, support::what_it_waits_in(each.pid).c_str());
    }
    std::fflush(stdout);
    for (const auto& each : support::all_processes()) {
      if (is_ours(each)) ::kill(each.pid, SIGKILL);
    }
    std::_Exit(3);
  }

  static inline std::atomic<const char*> what_ = "the start";
  static inline std::atomic<std::uint64_t> number_ = 0;
  static inline std::atomic<std::uint64_t> beats_ = 0;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool ends_ = false;
  std::map<const void*, std::function<std::string()>> pools_;
  std::thread thread_;
};

/// The watchdog may ask this pool, as long as this lives.
template <class Policy>
class Watched {
 public:
  explicit Watched(brood::Pool<Policy>& pool) : pool_(&pool) {
    if (Watchdog::one == nullptr) return;  // a host that was forked has none
    const std::lock_guard lock(Watchdog::one->mutex_);
    Watchdog::one->pools_[pool_] = [&pool] { return describe(pool.stats()); };
  }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;
  ~Watched() {
    if (Watchdog::one == nullptr) return;
    const std::lock_guard lock(Watchdog::one->mutex_);
    Watchdog::one->pools_.erase(pool_);
  }

 private:
  const void* pool_;
};

}  // namespace chaos
