// SPDX-License-Identifier: MIT
// Server and workers end with the host, however it ends and whatever they do.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/rounds.hpp"

namespace {

/// What a host tells the test before it dies.
struct Notes {
  std::array<std::atomic<pid_t>, 8> processes{};
  std::atomic<std::size_t> count = 0;
  std::atomic<bool> complete = false;
};

int loops() {
  for (volatile unsigned n = 0;;) n = n + 1;
}
int sleeps_deaf() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  for (;;) ::pause();
}
int stops() {
  ::raise(SIGSTOP);
  return 0;
}
int add_one(int n) { return n + 1; }

/// Runs a host in a child of the test. The host makes a pool, calls `use`, notes its processes and waits to be killed.
template <class Policy, class Use>
void one_host_dies(Use use, int signal) {
  const support::Shared<Notes> notes;
  std::fflush(nullptr);
  const pid_t host = ::fork();
  if (host == 0) {
    try {
      ::signal(signal, SIG_DFL);
      brood::Pool<Policy> pool({.workers = 3});
      std::vector<brood::Future<int>> futures;
      use(pool, futures);
      const auto stats = pool.stats();
      notes->processes[notes->count++] = stats.server_pid;
      for (const auto& worker : stats.workers) notes->processes[notes->count++] = worker.pid;
      notes->complete = true;
      for (;;) ::pause();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "the host: %s\n", error.what());
    }
    ::_exit(1);  // never into the runner of the tests, which is here twice
  }
  REQUIRE(support::eventually([&] { return notes->complete.load(); }));
  REQUIRE(::kill(host, signal) == 0);
  int status = 0;
  REQUIRE(::waitpid(host, &status, 0) == host);
  for (std::size_t n = 0; n < notes->count; ++n) {
    const pid_t pid = notes->processes[n];
    CHECK_MESSAGE(support::eventually([&] { return !support::runs(pid); }), (n == 0 ? "the server" : "a worker")
                                                                                << " outlives its host: " << pid);
    if (support::runs(pid)) ::kill(pid, SIGKILL);
  }
  CHECK(notes->count >= 1);
}

template <class Policy, class Use, class Then = void (*)()>
void host_dies(Use use, int signal = SIGKILL, Then then = [] {}) {
  for (const int round : support::rounds(1, 300)) {
    CAPTURE(round);
    one_host_dies<Policy>(use, signal);
    then();
  }
}

template <class Policy>
bool all_run(brood::Pool<Policy>& pool) {
  return support::eventually([&] { return pool.stats().running == 3; });
}

}  // namespace

TEST_CASE_TEMPLATE("a host that is killed with idle workers", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  host_dies<Policy>([](auto& pool, auto&) { pool.map(&add_one, std::vector<int>(200), {.chunk_size = 1}); });
}

TEST_CASE_TEMPLATE("a host that is killed before it has a worker", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  host_dies<Policy>([](auto&, auto&) {});
}

TEST_CASE_TEMPLATE("a host that is killed with workers in a pure loop", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  host_dies<Policy>([](auto& pool, auto& futures) {
    for (int n = 0; n < 3; ++n) futures.push_back(pool.submit(&loops));
    all_run(pool);
  });
}

TEST_CASE_TEMPLATE("a host that is killed with workers that block every signal", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  host_dies<Policy>([](auto& pool, auto& futures) {
    for (int n = 0; n < 3; ++n) futures.push_back(pool.submit(&sleeps_deaf));
    all_run(pool);
  });
}

TEST_CASE_TEMPLATE("a host that is killed with stopped workers", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  host_dies<Policy>([](auto& pool, auto& futures) {
    for (int n = 0; n < 3; ++n) futures.push_back(pool.submit(&stops));
    all_run(pool);
  });
}

TEST_CASE_TEMPLATE("a host that is killed while its server is stopped", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  host_dies<Policy>([](auto& pool, auto& futures) {
    for (int n = 0; n < 3; ++n) futures.push_back(pool.submit(&sleeps_deaf));
    all_run(pool);
    const pid_t server = pool.stats().server_pid;
    ::kill(server, SIGSTOP);
    support::eventually([&] { return support::process_info(server)->state == 'T'; });
  });
}

TEST_CASE_TEMPLATE("a host that a signal ends", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const int signal : {SIGTERM, SIGINT, SIGABRT}) {
    host_dies<Policy>(
        [](auto& pool, auto& futures) {
          for (int n = 0; n < 3; ++n) futures.push_back(pool.submit(&sleeps_deaf));
          all_run(pool);
        },
        signal);
  }
}

TEST_CASE_TEMPLATE("a host that is killed while a bystander holds its descriptors", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Shared<std::atomic<pid_t>> bystander;
  const auto use = [&](auto& pool, auto& futures) {
    futures.push_back(pool.submit(&sleeps_deaf));
    const pid_t child = ::fork();  // has everything that the host has, and lives on
    if (child == 0) {
      for (;;) ::pause();
    }
    *bystander = child;
    support::eventually([&] { return pool.stats().running == 1; });
  };
  host_dies<Policy>(use, SIGKILL, [&] {
    REQUIRE(*bystander > 0);
    ::kill(bystander->exchange(0), SIGKILL);
  });
}

TEST_CASE_TEMPLATE("a host that is killed at any moment of the constructor", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;  // finds by the process group what is left
  for (const int round : support::rounds(30, 300)) {
    std::fflush(nullptr);
    const pid_t host = ::fork();
    if (host == 0) {
      brood::Pool<Policy> pool({.workers = 2});
      auto future = pool.submit(&loops);
      for (;;) ::pause();
    }
    const timespec moment{0, round % 30 * 400'000 + round / 30 * 40'000};
    ::nanosleep(&moment, nullptr);
    ::kill(host, SIGKILL);
    ::waitpid(host, nullptr, 0);
  }
}

TEST_CASE_TEMPLATE("a host that kills itself right after a call that starts processes", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const int round : support::rounds(4, 300)) {
    std::fflush(nullptr);
    const pid_t host = ::fork();
    if (host == 0) {
      brood::Pool<Policy> pool({.workers = 2});
      switch (round % 4) {
        case 0: break;
        case 1: static_cast<void>(pool.submit(&loops)); break;
        case 2: pool.submit(&add_one, 1).wait(); break;
        case 3: pool.map(&add_one, std::vector{1, 2}, {.chunk_size = 1}); break;
      }
      ::raise(SIGKILL);
    }
    int status = 0;
    REQUIRE(::waitpid(host, &status, 0) == host);
    CHECK(WTERMSIG(status) == SIGKILL);
  }
}

TEST_CASE_TEMPLATE("a host that leaves with _exit, without destroying its pool", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    auto* const pool = new brood::Pool<Policy>({.workers = 2});
    auto future = pool->submit(&sleeps_deaf);
    return future.ready() ? 1 : 0;
  });
  CHECK(ran.status.code() == 0);
}

TEST_CASE_TEMPLATE("a static pool ends with its program", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  std::fflush(nullptr);
  const pid_t host = ::fork();
  if (host == 0) {
    static brood::Pool<Policy> pool({.workers = 2});
    std::_Exit(pool.submit(&add_one, 1).get() == 2 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(host, &status, 0) == host);
  CHECK(status == 0);
}
