// SPDX-License-Identifier: MIT
// Signals that interrupt system calls, in host and workers; queues that grow while nobody answers.
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

namespace {

int add_one(int n) { return n + 1; }

std::atomic<int> ticks{0};

/// A thousand times a second, without SA_RESTART: any system call may end with EINTR.
void interrupt_often() {
  struct sigaction counting {};
  counting.sa_handler = [](int) { ++ticks; };
  ::sigaction(SIGALRM, &counting, nullptr);
  const itimerval often{{0, 1000}, {0, 1000}};
  ::setitimer(ITIMER_REAL, &often, nullptr);
}

int ticks_so_far() { return ticks; }

}  // namespace

TEST_CASE_TEMPLATE("a timer that interrupts every system call, in host and workers, changes no byte", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    brood::Pool<Policy> pool({.workers = 2, .on_worker_start = &interrupt_often});
    interrupt_often();
    std::string large(std::size_t{1} << 20, 'x');
    const auto echo = [](std::string text) { return text; };
    std::vector<brood::Future<std::string>> futures;
    std::vector<std::string> sent;
    for (int n = 0; n < 100; ++n) {
      large[static_cast<std::size_t>(n) * 1000] = static_cast<char>('a' + n % 26);
      if (n % 10 == 9) {
        if (pool.submit(echo, large).get() != large) return 1;
      } else {
        futures.push_back(pool.submit(echo, large));
        sent.push_back(large);
      }
    }
    for (std::size_t n = 0; n < futures.size(); ++n) {
      if (futures[n].get() != sent[n]) return 2;
    }
    if (pool.map(&add_one, std::vector<int>(5000)) != std::vector<int>(5000, 1)) return 3;
    const auto died = pool.submit([] { return ::raise(SIGKILL); }).outcome();
    if (died || died.failure().signal() != SIGKILL) return 4;
    // it did interrupt
    if (!support::eventually([&] { return ticks > 10 && pool.submit(&ticks_so_far).get() > 10; })) return 5;
    return 0;
  });
  CHECK_MESSAGE(ran.status.describe() == "exited with code 0", ran.output);
}

TEST_CASE_TEMPLATE("any number of submits returns while no worker answers, and all resolve later", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const pid_t worker = pool.submit([] { return ::getpid(); }).get();
  REQUIRE(::kill(worker, SIGSTOP) == 0);
  REQUIRE(support::eventually([&] { return support::process_info(worker)->state == 'T'; }));
  std::vector<std::vector<brood::Future<int>>> futures(2);
  std::vector<std::thread> threads;
  for (auto& mine : futures) {
    threads.emplace_back([&pool, &mine] {
      for (int n = 0; n < 10'000; ++n) mine.push_back(pool.submit(&add_one, n));
    });
  }
  for (std::thread& each : threads) each.join();
  CHECK(pool.stats().queued + pool.stats().running == 20'000);
  REQUIRE(::kill(worker, SIGCONT) == 0);
  for (const auto& mine : futures) {
    for (int n = 0; n < 10'000; ++n) REQUIRE(mine[static_cast<std::size_t>(n)].get() == n + 1);
  }
}
