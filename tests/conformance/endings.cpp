// SPDX-License-Identifier: MIT
// A pool may be ended in each of its states, in each way: every future is resolved, and nothing is left.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/rounds.hpp"

namespace {

using brood::FailureKind;

int add_one(int n) { return n + 1; }

int never_ends(int) {
  for (;;) ::pause();
}

std::string echo(std::string text) { return text; }

template <class Policy>
struct Ending {
  std::unique_ptr<brood::Pool<Policy>> pool;
  std::vector<brood::Future<int>> futures;
  std::vector<brood::Future<std::string>> texts;
  bool endless = false;  ///< whether some task never ends by itself
};

template <class Policy>
struct Stage {
  const char* name;
  void (*reach)(Ending<Policy>&);
};

template <class Policy>
pid_t first_worker(brood::Pool<Policy>& pool) {
  pid_t found = 0;
  support::eventually([&] {
    for (const auto& worker : pool.stats().workers) found = worker.pid;
    return found != 0;
  });
  return found;
}

template <class Policy>
constexpr std::array stages{
    Stage<Policy>{"unused", [](Ending<Policy>&) {}},
    Stage<Policy>{"a worker is starting", [](Ending<Policy>& it) { it.futures.push_back(it.pool->submit(&add_one, 1)); }},
    Stage<Policy>{"idle", [](Ending<Policy>& it) { it.pool->map(&add_one, std::vector<int>(20)); }},
    Stage<Policy>{"busy",
                  [](Ending<Policy>& it) {
                    it.endless = true;
                    for (int n = 0; n < 2; ++n) it.futures.push_back(it.pool->submit(&never_ends, n));
                    support::wait_until_running(*it.pool, 2);
                  }},
    Stage<Policy>{"busy, with a queue",
                  [](Ending<Policy>& it) {
                    it.endless = true;
                    for (int n = 0; n < 2; ++n) it.futures.push_back(it.pool->submit(&never_ends, n));
                    for (int n = 0; n < 500; ++n) it.futures.push_back(it.pool->submit(&add_one, n));
                  }},
    Stage<Policy>{"large arguments and results on their way",
                  [](Ending<Policy>& it) {
                    for (int n = 0; n < 4; ++n) it.texts.push_back(it.pool->submit(&echo, std::string(std::size_t{4} << 20, 'x')));
                  }},
    Stage<Policy>{"a worker is stopped",
                  [](Ending<Policy>& it) {
                    it.endless = true;
                    it.pool->submit(&add_one, 1).wait();
                    ::kill(first_worker(*it.pool), SIGSTOP);
                    for (int n = 0; n < 4; ++n) it.futures.push_back(it.pool->submit(&add_one, n));
                  }},
    Stage<Policy>{"a worker has crashed",
                  [](Ending<Policy>& it) {
                    it.futures.push_back(it.pool->submit([](int n) {
                      ::raise(SIGKILL);
                      return n;
                    }, 1));
                    it.futures.push_back(it.pool->submit(&add_one, 1));
                  }},
    Stage<Policy>{"the server is dead",
                  [](Ending<Policy>& it) {
                    it.pool->submit(&add_one, 1).wait();
                    it.futures.push_back(it.pool->submit(&add_one, 1));
                    ::kill(it.pool->stats().server_pid, SIGKILL);
                    it.futures.push_back(it.pool->submit(&add_one, 2));
                  }},
    Stage<Policy>{"the server is stopped",
                  [](Ending<Policy>& it) {
                    it.pool->submit(&add_one, 1).wait();
                    ::kill(it.pool->stats().server_pid, SIGSTOP);
                    it.futures.push_back(it.pool->submit(&add_one, 1));
                  }},
};

enum class Way { destroyed, cancelled, killed, unwound };
constexpr const char* name_of(Way way) {
  return std::array{"destroyed", "cancelled and destroyed", "killed and destroyed", "unwound"}[static_cast<std::size_t>(way)];
}

template <class Policy>
void end(Ending<Policy>& it, Way way) {
  switch (way) {
    case Way::cancelled:
      it.pool->cancel_pending();
      for (auto& each : it.futures) each.cancel();
      break;
    case Way::killed: it.pool->kill(); break;
    case Way::unwound:
      try {
        const std::unique_ptr<brood::Pool<Policy>> inner = std::move(it.pool);
        throw std::runtime_error("on the way out");
      } catch (const std::runtime_error&) {
      }
      return;
    case Way::destroyed: break;
  }
  it.pool.reset();
}

template <class R>
bool fits(const brood::Future<R>& future) {
  if (!future.ready()) return false;
  const auto outcome = future.outcome();
  if (outcome) return true;
  const FailureKind kind = outcome.failure().kind();
  return kind == FailureKind::cancelled || kind == FailureKind::worker_died || kind == FailureKind::launch;
}

/// Every stage, every way; prints what it does, for the case that it does not come to its end.
template <class Policy>
int all_endings() {
  for (const Stage<Policy>& stage : stages<Policy>) {
    for (const Way way : {Way::destroyed, Way::cancelled, Way::killed, Way::unwound}) {
      std::printf("%s, %s: ", stage.name, name_of(way));
      std::fflush(stdout);
      Ending<Policy> it;
      it.pool = std::make_unique<brood::Pool<Policy>>(
          brood::PoolOptions{.workers = 2, .stop_grace = std::chrono::milliseconds(100)});
      stage.reach(it);
      if (it.endless && way == Way::destroyed) {  // that destructor waits for the tasks, as it should
        it.pool->kill();
      }
      end(it, way);
      for (const auto& each : it.futures) {
        if (!fits(each)) {
          std::printf("a future is not resolved as it should be\n");
          return 1;
        }
      }
      for (const auto& each : it.texts) {
        if (!fits(each)) {
          std::printf("a future of a text is not resolved as it should be\n");
          return 1;
        }
      }
      std::printf("done\n");
    }
  }
  return 0;
}

}  // namespace

TEST_CASE_TEMPLATE("a pool ends in each state and in each way, and resolves every future", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const int round : support::rounds(1, 500)) {
    CAPTURE(round);
    const support::Ran ran = support::run_in_child(
        [] {
          const support::Leftovers inner;
          return all_endings<Policy>();
        },
        30'000);
    CHECK_MESSAGE(ran.status.describe() == "exited with code 0", ran.output);
  }
}

TEST_CASE_TEMPLATE("thousands of futures may be dropped", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  std::uint64_t dropped = 0;
  for (const int n : support::rounds(5'000, 100'000)) {
    static_cast<void>(pool.submit(&add_one, n));
    ++dropped;
  }
  pool.wait();
  CHECK(pool.stats().done == dropped);
  CHECK(pool.stats().queued == 0);
}
