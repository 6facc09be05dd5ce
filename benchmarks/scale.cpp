// SPDX-License-Identifier: MIT
// What a pool costs the host when it is large: CPU for each task beside idle workers, a thousand workers, a million tasks.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <fstream>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "harness.hpp"
#include "raw.hpp"

namespace {

using namespace bench;
using Server = brood::ForkServerPolicy<>;

/// CPU time of this process, all its threads, in us.
double cpu_us() {
  rusage used{};
  must(::getrusage(RUSAGE_SELF, &used) == 0, "getrusage");
  const auto us = [](const timeval& time) { return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec); };
  return us(used.ru_utime) + us(used.ru_stime);
}

double resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  double pages = 0;
  must(static_cast<bool>(statm >> pages >> pages), "statm");
  return pages * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

/// Makes every worker of the pool come up, and returns when all of them have answered.
template <class Policy>
void start_all(brood::Pool<Policy>& pool, std::size_t workers) {
  while (pool.stats().workers.size() < workers) {
    std::vector<brood::Future<void>> futures;
    for (std::size_t n = 0; n < workers; ++n) {
      futures.push_back(pool.submit([] { std::this_thread::sleep_for(std::chrono::milliseconds(300)); }));
    }
    for (auto& future : futures) future.get();
  }
}

// ---- CPU for each task --------------------------------------------------------------------------------------------------

/// The host's CPU for each task, with two tasks in flight.
double cpu_for_each(brood::Pool<Server>& pool, int tasks) {
  const double before = cpu_us();
  std::deque<brood::Future<void>> in_flight;
  for (int n = 0; n < tasks; ++n) {
    if (in_flight.size() == 2) {
      in_flight.front().get();
      in_flight.pop_front();
    }
    in_flight.push_back(pool.submit([] {
      const auto start = Clock::now();
      while (Clock::now() - start < std::chrono::microseconds(50)) {}
    }));
  }
  for (auto& future : in_flight) future.get();
  return (cpu_us() - before) / tasks;
}

void idle_workers(Row& row, Size size) {
  const unsigned idle = pick(size, 10U, 500U, 500U);
  const int tasks = pick(size, 20, 1'000, 3'000);
  brood::Pool<Server> two({.workers = 2});
  brood::Pool<Server> many({.workers = idle + 2});
  start_all(two, 2);
  start_all(many, idle + 2);
  row.brood("2 workers", [&] { return Samples{cpu_for_each(two, tasks)}; });
  row.brood("2 busy workers and 500 idle ones", [&] { return Samples{cpu_for_each(many, tasks)}; });
  row.run(pick(size, 1, 5, 9));
  row.mark_ratio("host CPU for each task, 500 idle workers beside 2 busy ones", "2 busy workers and 500 idle ones", "2 workers",
                 true, 1.3);
}

// ---- a thousand workers -------------------------------------------------------------------------------------------------

void thousand_workers(Row& row, Size size) {
  const std::size_t workers = pick<std::size_t>(size, 10, 1'000, 1'000);
  const RawForkServer server;
  row.limit("raw fork server", [&] {
    std::vector<RawWorker> started;
    started.reserve(workers);
    return Samples{to_ms(timed([&] {
      for (std::size_t n = 0; n < workers; ++n) started.push_back(server.start(false));
      for (const RawWorker& worker : started) worker.answer();
    }))};
  });
  row.brood("brood", [&] {
    brood::Pool<Server> pool({.workers = static_cast<unsigned>(workers)});
    std::vector<brood::Future<void>> futures;
    const double ns = timed([&] {
      for (std::size_t n = 0; n < workers; ++n) futures.push_back(pool.submit([] { ::sleep(3'600); }));
      while (pool.stats().running < workers) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
    pool.kill();
    return Samples{to_ms(ns)};
  });
  row.run(pick(size, 1, 2, 3));
}

// ---- a million tasks ----------------------------------------------------------------------------------------------------

/// The growth for each of so many tasks. In a process of its own: a heap that has been larger does not grow.
double grown_for_each(std::size_t tasks) {
  brood::Pool<Server> pool({.workers = 2});
  start_all(pool, 2);
  std::vector<brood::Future<void>> futures;
  for (int n = 0; n < 2; ++n) futures.push_back(pool.submit([] { ::sleep(3'600); }));
  const double before = resident_bytes();
  for (std::size_t n = 0; n < tasks; ++n) futures.push_back(pool.submit([] {}));
  const double grown = resident_bytes() - before;
  pool.kill();
  return grown / static_cast<double>(tasks);
}

void queued_memory(Row& row, Size size) {
  const int tasks = pick(size, 10'000, 200'000, 1'000'000);
  const auto in_fresh_process = [](const std::vector<std::string>& command, int count) {
    return [=] { return Peer(command).round(std::to_string(count)); };
  };
  row.brood("brood", in_fresh_process({"/proc/self/exe", "--queued"}, tasks));
  row.add(Kind::peer, "multiprocessing.Pool, fork",
          in_fresh_process({python, peer_script("multiprocessing_pool"), "fork", "queued_memory"}, std::min(tasks, 100'000)));
  row.run(pick(size, 1, 1, 2));
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  RawForkServer::serve_if_asked(argc, argv);
  if (argc == 2 && std::strcmp(argv[1], "--queued") == 0) {
    std::puts("ready");
    std::fflush(stdout);
    for (std::size_t tasks = 0; std::cin >> tasks;) std::cout << grown_for_each(tasks) << std::endl;
    return 0;
  }
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  return run_all(argc, argv, {
      {"idle_workers", idle_workers, "the host's CPU for each task of 50 us, 2 in flight", "us"},
      {"thousand_workers", thousand_workers, "from nothing to 1,000 workers that run a task each", "ms"},
      {"queued_memory", queued_memory, "the host's memory for each of 1,000,000 tasks that wait, with its Future", "bytes"},
  });
}
