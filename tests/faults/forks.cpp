// SPDX-License-Identifier: MIT
// Who forks: never the host, save for the snapshot of a ForkPolicy pool. A fork copies the page tables of the one that forks.
#include <doctest/doctest.h>

#include <signal.h>
#include <unistd.h>

#include <vector>

#include <brood/brood.hpp>

#include "faults/board.hpp"
#include "support/eventually.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using support::FaultAction;
using support::ProcessRole;

int add_one(int x) { return x + 1; }
int dies() { return ::raise(SIGKILL); }

/// Workers that are used up, that die, and, where one can be had again, a server that dies.
template <class Policy>
void wears_out(brood::Pool<Policy>& pool) {
  for (int n = 0; n < 20; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);
  for (int n = 0; n < 5; ++n) {
    CHECK_FALSE(pool.submit(&dies).outcome().has_value());
    CHECK(pool.submit(&add_one, n).get() == n + 1);
  }
  CHECK(pool.stats().workers_started >= 25);
}

}  // namespace

TEST_CASE_TEMPLATE("no host forks under a policy that executes its server, replacements included", Policy, brood::SpawnPolicy,
                   support::ForkServer, support::ForkServerWithPreloads) {
  support::Board board;
  const support::Leftovers audit;
  board.plan({{.role = ProcessRole::host, .name = "fork"},
              {.role = ProcessRole::host, .name = "posix_spawn"},
              {.role = ProcessRole::server, .name = "fork"},
              {.role = ProcessRole::host, .name = "clone"}});
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 1});
  wears_out(pool);
  CHECK(board.seen(1) == 1);
  const pid_t server = pool.stats().server_pid;
  ::kill(server, SIGKILL);
  CHECK(support::eventually([&] { return pool.submit(&add_one, 1).outcome().has_value() && pool.stats().server_pid != server; }));
  wears_out(pool);
  CHECK(board.seen(0) == 0);
  CHECK(board.seen(1) == 2);
  CHECK(board.seen(2) >= 50);
  CHECK(board.seen(3) == 0);
}

TEST_CASE("a host forks once under ForkPolicy, in the pool's constructor, and once for each closure's snapshot") {
  support::Board board;
  const support::Leftovers audit;
  board.plan({{.role = ProcessRole::host, .name = "fork"}, {.role = ProcessRole::host, .name = "posix_spawn"}});
  brood::Pool<brood::ForkPolicy> pool({.workers = 2, .tasks_per_worker = 1});
  CHECK(board.seen(0) == 1);
  wears_out(pool);
  CHECK(board.seen(0) == 1);
  int offset = 7;
  CHECK(pool.submit([offset](int n) { return n + offset; }, 1).get() == 8);
  CHECK(board.seen(0) == 2);
  CHECK(board.seen(1) == 0);
}
