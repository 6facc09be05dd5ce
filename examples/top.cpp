// SPDX-License-Identifier: MIT
// A live view of a pool, like top: what each worker runs, since when, how far it is. One picture when there is no terminal.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

using namespace std::chrono_literals;

int work(int steps) {
  for (int step = 0; step < steps; ++step) {
    brood::this_task::progress(static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(steps));
    std::this_thread::sleep_for(10ms);
  }
  return steps;
}

std::string state_of(const brood::WorkerStats& worker) {
  constexpr const char* names[] = {"starting", "idle", "busy", "stopping", "spare"};
  return names[static_cast<int>(worker.state)];
}

template <class Pool>
void show(const Pool& pool) {
  const brood::PoolStats stats = pool.stats();
  const auto now = std::chrono::steady_clock::now();
  std::printf("server %d, %zu queued, %zu running, %llu done, %llu failed, %.0f%% busy\n", stats.server_pid, stats.queued,
              stats.running, static_cast<unsigned long long>(stats.done), static_cast<unsigned long long>(stats.failed),
              100 * stats.busy_share());
  std::printf("%5s %8s %-9s %8s %5s  %s\n", "index", "pid", "state", "seconds", "done", "callable");
  for (const brood::WorkerStats& worker : stats.workers) {
    const double seconds = worker.task != 0 ? std::chrono::duration<double>(now - worker.since).count() : 0;
    std::printf("%5u %8d %-9s %8.2f %4.0f%%  %s\n", worker.index, worker.pid, state_of(worker).c_str(), seconds,
                100 * worker.progress.share(), worker.callable.c_str());
  }
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2, .name = "top"});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 8; ++n) futures.push_back(pool.submit(&work, 30 + 10 * n));
  const bool live = ::isatty(STDOUT_FILENO) == 1;
  while (pool.stats().running < 2) std::this_thread::sleep_for(1ms);
  std::thread([&] {
    do {
      if (live) std::printf("\x1b[H\x1b[J");
      show(pool);
      std::this_thread::sleep_for(live ? 200ms : 0ms);
    } while (live && pool.stats().queued + pool.stats().running != 0);
  }).join();
  pool.wait();
}
