// SPDX-License-Identifier: MIT
// A server that is stopped (SIGSTOP, a debugger, a frozen container) answers nothing and reports nothing. No task may wait
// for it without bound, and no end of a pool.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

using namespace std::chrono_literals;

namespace {

int add_one(int n) { return n + 1; }
int sleeps() {
  for (;;) ::pause();
}

/// Long enough for a loaded machine, short of the 30 s of start_timeout.
constexpr auto bound = 15s;

template <class Policy>
pid_t stop_server(brood::Pool<Policy>& pool) {
  const pid_t server = pool.stats().server_pid;
  REQUIRE(server > 0);
  const auto is = [&](char state) {
    const auto info = support::process_info(server);
    return info && info->state == state;
  };
  REQUIRE(support::eventually([&] { return is('S'); }));  // it has told of its workers: it sleeps only then
  ::kill(server, SIGSTOP);
  REQUIRE(support::eventually([&] { return is('T'); }));
  return server;
}

/// Lets the first server stop after its second fork, before it can tell of it; that worker's hello comes too late.
struct StopsAfterFork {
  static std::string path() { return "/tmp/brood_stopped_" + std::to_string(::getpgrp()); }
  static inline int forks = 0;

  StopsAfterFork() {
    ::pthread_atfork(
        nullptr,
        [] {
          if (++forks != 2 || ::access(path().c_str(), F_OK) == 0) return;
          ::close(::open(path().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
          ::raise(SIGSTOP);
        },
        nullptr);
  }
  static void start_hook() {
    if (forks == 1 && brood::this_worker::index() == 1) ::usleep(800'000);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("with its server stopped, a worker that dies is noticed", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  auto victim = pool.submit(&sleeps);
  auto other = pool.submit(&sleeps);
  REQUIRE(support::wait_until_running(pool, 2));
  pid_t pid = 0;
  for (const auto& worker : pool.stats().workers) pid = worker.task == victim.id() ? worker.pid : pid;
  REQUIRE(pid > 0);
  const pid_t server = stop_server(pool);
  ::kill(pid, SIGKILL);
  REQUIRE(victim.wait_for(bound));
  const brood::Failure failure = victim.outcome().failure();
  CHECK(failure.kind() == brood::FailureKind::worker_died);
  CHECK((!failure.status().known() || failure.signal() == SIGKILL));
  CHECK_FALSE(other.ready());
  CHECK(other.cancel());
  REQUIRE(other.wait_for(bound));
  CHECK_THROWS_AS(static_cast<void>(other.get()), brood::TaskCancelled);
  ::kill(server, SIGCONT);
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("with its server stopped, a death is noticed although a child of the task holds the pipes", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  auto victim = pool.submit(
      [](const std::string& path) {
        if (::fork() == 0) {
          support::wait_for_gate(path, 0);
          ::_exit(0);
        }
        return sleeps();
      },
      gate.path());
  REQUIRE(support::wait_until_running(pool, 1));
  const pid_t pid = pool.stats().workers.at(0).pid;
  const pid_t server = stop_server(pool);
  ::kill(pid, SIGKILL);
  CHECK(victim.wait_for(bound));
  gate.open();
  ::kill(server, SIGCONT);
  CHECK(pool.submit(&add_one, 1).get() == 2);
  CHECK(support::eventually([] {  // the gate stays open until the child has seen it
    for (const auto& each : support::all_processes()) {
      if (each.group == ::getpgrp() && each.parent == 1 && each.state != 'Z') return false;
    }
    return true;
  }));
}

TEST_CASE_TEMPLATE("with its server stopped, deadlines and cancels hold", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  auto late = pool.submit({.timeout = 300ms}, &sleeps);
  auto cancelled = pool.submit(&sleeps);
  REQUIRE(support::wait_until_running(pool, 2));
  stop_server(pool);
  CHECK(cancelled.cancel());
  REQUIRE(cancelled.wait_for(bound));
  REQUIRE(late.wait_for(bound));
  CHECK_THROWS_AS(static_cast<void>(late.get()), brood::TaskTimeout);
  CHECK_THROWS_AS(static_cast<void>(cancelled.get()), brood::TaskCancelled);
}

TEST_CASE_TEMPLATE("a stopped server is replaced once a worker is overdue", Policy, brood::SpawnPolicy, support::ForkServer) {
  const support::Leftovers audit;
  brood::PoolOptions options;
  options.workers = 2;
  options.start_timeout = support::short_start_timeout;
  brood::Pool<Policy> pool(options);
  const pid_t server = stop_server(pool);
  CHECK(pool.submit(&add_one, 1).get() == 2);
  CHECK(pool.stats().server_pid != server);
  CHECK(pool.stats().state == brood::PoolState::running);
}

TEST_CASE("a server that stops between a fork and its report loses no task") {
  const support::Leftovers audit;
  brood::PoolOptions options;
  options.workers = 2;
  options.start_timeout = support::short_start_timeout;
  options.on_worker_start = &StopsAfterFork::start_hook;
  options.stop_grace = 100ms;
  ::unlink(StopsAfterFork::path().c_str());
  {
    brood::Pool<brood::ForkServerPolicy<StopsAfterFork>> pool(options);
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 4; ++n) futures.push_back(pool.submit(&add_one, n));
    for (auto& future : futures) CHECK(future.wait_for(60s));
    CHECK(::access(StopsAfterFork::path().c_str(), F_OK) == 0);
  }
  ::unlink(StopsAfterFork::path().c_str());
}

TEST_CASE_TEMPLATE("a pool with stopped servers ends", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const auto began = std::chrono::steady_clock::now();
  {
    brood::Pool<Policy> pool({.workers = 2});
    for (int n = 0; n < 4; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);
    stop_server(pool);
  }
  CHECK(std::chrono::steady_clock::now() - began < bound);
}

TEST_CASE("a pool whose closures' servers are all stopped ends") {
  const support::Leftovers audit;
  brood::PoolOptions options;
  options.stop_grace = 100ms;
  options.workers = 4;
  const auto began = std::chrono::steady_clock::now();
  {
    brood::Pool<brood::ForkPolicy> pool(options);
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 4; ++n) {
      futures.push_back(pool.submit([&, n] { return n + ::kill(::getppid(), SIGSTOP); }));
    }
    for (int n = 0; n < 4; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == n);
    stop_server(pool);
  }
  CHECK(std::chrono::steady_clock::now() - began < bound);
}

TEST_CASE_TEMPLATE("Pool::kill ends workers of which the server has not told yet", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const pid_t server = pool.stats().server_pid;
  CHECK(pool.submit(&add_one, 1).get() == 2);
  auto running = pool.submit(&sleeps);
  auto asked_for = pool.submit(&sleeps);  // its `started` is unheard: nobody looks between this and the kill
  pool.kill();
  CHECK_THROWS_AS(static_cast<void>(running.get()), brood::TaskCancelled);
  CHECK_THROWS_AS(static_cast<void>(asked_for.get()), brood::TaskCancelled);
  // by itself: no call of the pool's helps
  CHECK(support::eventually([&] {
    for (const auto& each : support::all_processes()) {
      if (each.parent == server && each.state != 'Z') return false;
    }
    return true;
  }));
}
