// SPDX-License-Identifier: MIT
// Signals that interrupt system calls, in host and workers; queues that grow while nobody answers.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/rounds.hpp"

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

/// Holds a thread of this process, as a debugger does, for as long as this lives.
class HeldThread {
 public:
  explicit HeldThread(pid_t thread) {
    ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);  // where a child may not hold its parent
    tracer_ = ::fork();
    if (tracer_ == 0) {
      if (::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0) ::_exit(1);
      if (::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) != 0) ::_exit(1);
      if (::waitpid(thread, nullptr, __WALL) != thread) ::_exit(1);
      *holds_ = true;
      for (;;) ::pause();  // with its end the thread goes on
    }
    support::eventually([&] {
      if (::waitpid(tracer_, nullptr, WNOHANG) == tracer_) tracer_ = -1;
      return holds_->load() || tracer_ < 0;
    });
  }
  HeldThread(const HeldThread&) = delete;
  HeldThread& operator=(const HeldThread&) = delete;
  ~HeldThread() {
    if (tracer_ > 0) {
      ::kill(tracer_, SIGKILL);
      ::waitpid(tracer_, nullptr, 0);
    }
    ::prctl(PR_SET_PTRACER, 0);
  }
  explicit operator bool() const { return holds_->load(); }

 private:
  support::Shared<std::atomic<bool>> holds_;
  pid_t tracer_ = -1;
};

bool waits_for_events(pid_t thread) {
  const std::string call = support::read_text("/proc/self/task/" + std::to_string(thread) + "/syscall");
  bool waits = call.starts_with(std::to_string(SYS_epoll_pwait) + " ");
#ifdef SYS_epoll_wait
  waits = waits || call.starts_with(std::to_string(SYS_epoll_wait) + " ");
#endif
  return waits;
}

}  // namespace

TEST_CASE_TEMPLATE("a timer that interrupts every system call, in host and workers, changes no byte", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const int round : support::rounds(1, 100)) {  // of 100 large tasks
    CAPTURE(round);
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
}

TEST_CASE_TEMPLATE("any number of submits returns while no worker answers, and all resolve later", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  // in the middle of a task: one that is stopped while it is idle is replaced after some seconds
  const support::Gate gate;
  const auto first = pool.submit(&support::wait_for_gate, gate.path(), 1);
  REQUIRE(support::wait_until_running(pool, 1));
  const pid_t worker = pool.stats().workers.at(0).pid;
  REQUIRE(::kill(worker, SIGSTOP) == 0);
  REQUIRE(support::eventually([&] { return support::process_info(worker)->state == 'T'; }));
  std::vector<std::vector<brood::Future<int>>> futures(2);
  std::vector<std::thread> threads;
  for (auto& mine : futures) {
    threads.emplace_back([&pool, &mine] {
      for (const int n : support::rounds(10'000, 500'000)) mine.push_back(pool.submit(&add_one, n));
    });
  }
  for (std::thread& each : threads) each.join();
  CHECK(pool.stats().queued + pool.stats().running == 1 + futures[0].size() + futures[1].size());
  gate.open();
  REQUIRE(::kill(worker, SIGCONT) == 0);
  CHECK(first.get() == 1);
  for (const auto& mine : futures) {
    int n = 0;
    for (const auto& each : mine) REQUIRE(each.get() == ++n);
  }
}

TEST_CASE_TEMPLATE("any number of submits returns while the thread that drives is held, and all resolve later", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  const auto first = pool.submit(&support::wait_for_gate, gate.path(), 1);
  REQUIRE(support::wait_until_running(pool, 1));
  pid_t driver = 0;
  REQUIRE(support::eventually([&] {
    for (const int thread : support::numbers_in("/proc/self/task")) driver = waits_for_events(thread) ? thread : driver;
    return driver != 0;
  }));
  std::vector<brood::Future<int>> futures;
  {
    const HeldThread held(driver);
    if (!held) {
      MESSAGE("skipped: no thread can be held here (ptrace)");
      gate.open();
      return;
    }
    gate.open();
    for (const int n : support::rounds(20'000, 1'000'000)) futures.push_back(pool.submit(&add_one, n));
    for (const auto& each : futures) REQUIRE_FALSE(each.ready());
  }
  CHECK(first.get() == 1);
  int n = 0;
  for (const auto& each : futures) REQUIRE(each.get() == ++n);
}
