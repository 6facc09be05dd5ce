// SPDX-License-Identifier: MIT
// PoolOptions::kill_tree: what a task has started ends with its worker, however that ends.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/sanitizer.hpp"

using namespace std::chrono_literals;

namespace {

/// A child of the task that starts one itself: both sleep with the task's descriptors open, and ignore what can be ignored.
pid_t start_sleepers(pid_t* grandchild) {
  int ends[2];
  if (::pipe(ends) != 0) return -1;
  const pid_t child = ::fork();
  if (child == 0) {
    for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_IGN);
    ::prctl(PR_SET_NAME, "sleeper");
    const pid_t own = ::fork();
    if (own != 0) static_cast<void>(!::write(ends[1], &own, sizeof own));
    ::close(ends[0]);
    ::close(ends[1]);
    for (;;) ::pause();
  }
  ::close(ends[1]);
  const ssize_t size = ::read(ends[0], grandchild, sizeof *grandchild);
  ::close(ends[0]);
  return size == static_cast<ssize_t>(sizeof *grandchild) ? child : -1;
}

/// The file in which a task tells the pids of what it has started: they must be known whatever becomes of the task.
class Told {
 public:
  Told() : path_("/tmp/brood_told_" + std::to_string(::getpid()) + "_" + std::to_string(++count)) { forget(); }
  Told(const Told&) = delete;
  Told& operator=(const Told&) = delete;
  ~Told() {
    for (const pid_t pid : pids()) {
      if (support::runs(pid)) ::kill(pid, SIGKILL);  // a failed test leaves nothing either
    }
    forget();
  }

  const std::string& path() const { return path_; }
  void forget() const { ::unlink(path_.c_str()); }

  /// Those that the tasks have told so far.
  std::vector<pid_t> pids() const {
    std::ifstream file(path_);
    std::vector<pid_t> found;
    for (pid_t pid = 0; file >> pid;) found.push_back(pid);
    return found;
  }

  bool wait_for(std::size_t wanted) const {
    return support::eventually([&] { return pids().size() == wanted; });
  }

  /// Whether all of them end.
  bool all_ended() const {
    std::string running;
    const bool ended = support::eventually([&] {
      running.clear();
      for (const pid_t pid : pids()) {
        if (const auto info = support::process_info(pid); info && support::runs(pid)) {
          running += " " + std::to_string(pid) + " (parent " + std::to_string(info->parent) + ", group " +
                     std::to_string(info->group) + ")";
        }
      }
      return running.empty();
    });
    if (!ended) MESSAGE("still running:" << running);
    return ended;
  }

  bool all_run() const {
    for (const pid_t pid : pids()) {
      if (!support::runs(pid)) return false;
    }
    return true;
  }

 private:
  static inline int count = 0;
  std::string path_;
};

enum class Then : int { hang, crash, exit, throws, answer };

int start_and(Then then, const std::string& told) {
  pid_t grandchild = 0;
  const pid_t child = start_sleepers(&grandchild);
  if (child < 0) throw std::runtime_error("no sleeper could be started");
  const std::string text = std::to_string(child) + "\n" + std::to_string(grandchild) + "\n";
  const int fd = ::open(told.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  if (::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) throw std::runtime_error("can't tell");
  ::close(fd);
  switch (then) {
    case Then::hang:
      for (;;) ::pause();
    case Then::crash: ::raise(SIGSEGV); break;
    case Then::exit: ::_exit(3);
    case Then::throws: throw std::runtime_error("its own words");
    case Then::answer: break;
  }
  return 5;
}

int add_one(int n) { return n + 1; }

}  // namespace

TEST_CASE_TEMPLATE("kill_tree: each worker leads a process group, and a task may see it", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .kill_tree = true});
  CHECK(pool.submit([] { return ::getpgrp() == ::getpid(); }).get());
  brood::Pool<Policy> plain({.workers = 1});
  CHECK(plain.submit([] { return ::getpgrp(); }).get() == ::getpgrp());
}

TEST_CASE_TEMPLATE("kill_tree: a deadline, a cancel, a crash and an exit take the task's processes along", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  const Told told;
  brood::Pool<Policy> pool({.workers = 2, .kill_tree = true});
  SUBCASE("deadline") {
    // long enough for two forks on a loaded machine: the pids must be told before it
    auto future = pool.submit({.timeout = 3s}, &start_and, Then::hang, told.path());
    CHECK(told.wait_for(2));
    CHECK(told.all_run());
    CHECK_THROWS_AS(static_cast<void>(future.get()), brood::TaskTimeout);
  }
  SUBCASE("cancel") {
    auto future = pool.submit(&start_and, Then::hang, told.path());
    CHECK(told.wait_for(2));
    CHECK(told.all_run());
    CHECK(future.cancel());
    CHECK_THROWS_AS(static_cast<void>(future.get()), brood::TaskCancelled);
  }
  SUBCASE("crash") {
    auto future = pool.submit(&start_and, Then::crash, told.path());
    CHECK_THROWS_AS(static_cast<void>(future.get()), brood::WorkerDied);
  }
  SUBCASE("exit") {
    auto future = pool.submit(&start_and, Then::exit, told.path());
    CHECK_THROWS_AS(static_cast<void>(future.get()), brood::WorkerDied);
  }
  SUBCASE("killed by somebody else") {
    auto future = pool.submit(&start_and, Then::hang, told.path());
    CHECK(told.wait_for(2));
    CHECK(support::eventually([&] { return pool.stats().running == 1; }));
    for (const auto& worker : pool.stats().workers) {
      if (worker.task != 0) ::kill(worker.pid, SIGKILL);
    }
    CHECK_THROWS_AS(static_cast<void>(future.get()), brood::WorkerDied);
  }
  CHECK(told.pids().size() == 2);
  CHECK(told.all_ended());
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("kill_tree: what an answered task has left runs until its worker ends", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Told told;
  {
    brood::Pool<Policy> pool({.workers = 1, .kill_tree = true});
    CHECK(pool.submit(&start_and, Then::answer, told.path()).get() == 5);
    CHECK_THROWS_AS(static_cast<void>(pool.submit(&start_and, Then::throws, told.path()).get()), std::runtime_error);
    CHECK(pool.submit(&add_one, 1).get() == 2);
    CHECK(told.pids().size() == 4);
    CHECK(told.all_run());
  }
  CHECK(told.all_ended());
  told.forget();
  if (brood::detail::signal_group_of_pidfd(brood::detail::open_pidfd(::getpid()).get(), 0)) {  // a server that can't do it
    {
      brood::Pool<Policy> pool({.workers = 1, .kill_tree = true});
      CHECK(pool.submit(&start_and, Then::answer, told.path()).get() == 5);
      ::kill(pool.stats().server_pid, SIGSTOP);
    }
    CHECK(told.all_ended());
    told.forget();
  }
  brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 1, .kill_tree = true});
  CHECK(pool.submit(&start_and, Then::answer, told.path()).get() == 5);
  CHECK(told.all_ended());
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("kill_tree: kill(), and the end of a pool in an exception", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Told told;
  SUBCASE("kill") {
    brood::Pool<Policy> pool({.workers = 2, .kill_tree = true});
    auto one = pool.submit(&start_and, Then::hang, told.path());
    auto two = pool.submit(&start_and, Then::hang, told.path());
    CHECK(told.wait_for(4));
    pool.kill();
    CHECK_THROWS_AS(static_cast<void>(one.get()), brood::TaskCancelled);
    CHECK_THROWS_AS(static_cast<void>(two.get()), brood::TaskCancelled);
    // nobody waits for a task any more: a worker of which the pool has not heard yet is killed when it does
    CHECK(support::eventually([&] { return pool.stats().workers.empty(); }));
    CHECK(told.all_ended());
  }
  SUBCASE("unwinding") {
    try {
      brood::Pool<Policy> pool({.workers = 1, .kill_tree = true});
      auto one = pool.submit(&start_and, Then::hang, told.path());
      CHECK(told.wait_for(2));
      throw std::runtime_error("unwind");
    } catch (const std::runtime_error&) {
    }
    CHECK(told.all_ended());
  }
}

TEST_CASE_TEMPLATE("kill_tree: the server's end", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Told told;
  brood::Pool<Policy> pool({.workers = 1, .kill_tree = true});
  auto future = pool.submit(&start_and, Then::hang, told.path());
  CHECK(told.wait_for(2));
  // the host kills the group through the worker's pidfd, where the kernel can do that
  const brood::detail::Fd own = brood::detail::open_pidfd(::getpid());
  const bool kernel_can = own && brood::detail::signal_group_of_pidfd(own.get(), 0);
  ::kill(pool.stats().server_pid, SIGKILL);
  CHECK_THROWS_AS(static_cast<void>(future.get()), brood::WorkerDied);
  if (kernel_can) {
    CHECK(told.all_ended());
  } else {
    MESSAGE("skipped: this kernel can't signal a process group through a pidfd (Linux 6.9)");
  }
}

TEST_CASE_TEMPLATE("kill_tree: the host's end", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Told told;
  const auto ran = support::run_in_child([&] {
    brood::Pool<Policy> pool({.workers = 2, .kill_tree = true});
    auto one = pool.submit(&start_and, Then::hang, told.path());
    auto two = pool.submit(&start_and, Then::hang, told.path());
    if (!told.wait_for(4)) return 1;
    if (!told.all_run()) return 2;
    ::raise(SIGKILL);
    return 3;
  });
  CHECK_MESSAGE(ran.status.signaled(), ran.output);
  CHECK(told.pids().size() == 4);
  CHECK(told.all_ended());
}

TEST_CASE("kill_tree: closures, too") {
  const support::Leftovers audit;
  const Told told;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1, .kill_tree = true});
  auto future = pool.submit([&] { return start_and(Then::hang, told.path()); });
  CHECK(told.wait_for(2));
  CHECK(future.cancel());
  CHECK(told.all_ended());
}

TEST_CASE_TEMPLATE("without kill_tree they live on, and hold up nothing", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Told told;
  // the sleepers hold the pipe that is this child's stdout: the child's own end must not wait for them
  const auto ran = support::run_in_child([&] {
    {
      brood::Pool<Policy> pool({.workers = 1});
      auto future = pool.submit({.timeout = 3s}, &start_and, Then::hang, told.path());
      if (!told.wait_for(2)) return 1;
      const auto outcome = future.outcome();
      if (outcome || outcome.failure().kind() != brood::FailureKind::timeout) return 2;
      auto crash = pool.submit(&start_and, Then::crash, told.path());
      if (crash.outcome() || !told.wait_for(4)) return 3;
      if (pool.submit(&add_one, 1).get() != 2) return 4;
    }
    if (!told.all_run()) return 5;
    for (const pid_t pid : told.pids()) ::kill(pid, SIGKILL);
    return 0;
  });
  CHECK_MESSAGE(ran.status.exited(), ran.output);
  CHECK_MESSAGE(ran.status.code() == 0, ran.output);
  CHECK(told.all_ended());
}

TEST_CASE_TEMPLATE("kill_tree and many ends at once", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Told told;
  const int rounds = std::is_same_v<Policy, brood::SpawnPolicy> || support::has_sanitizer ? 5 : 20;
  brood::Pool<Policy> pool({.workers = 4, .kill_tree = true});
  for (int round = 0; round < rounds; ++round) {
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 4; ++n) futures.push_back(pool.submit(&start_and, n % 2 == 0 ? Then::crash : Then::exit, told.path()));
    for (auto& each : futures) CHECK_THROWS_AS(static_cast<void>(each.get()), brood::WorkerDied);
    CHECK(pool.submit(&add_one, round).get() == round + 1);
  }
  CHECK(told.pids().size() == static_cast<std::size_t>(rounds) * 8);
  CHECK(told.all_ended());
}
