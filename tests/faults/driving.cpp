// SPDX-License-Identifier: MIT
// Calls of the driver that the kernel refuses for a moment: what was to be done is done later, and whoever happened to drive
// does not pay for it.
#include <doctest/doctest.h>

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "faults/suite.hpp"
#include "support/gate.hpp"
#include "support/policies.hpp"

using namespace std::chrono_literals;

namespace {

using support::FaultAction;
using support::ProcessRole;

std::size_t length(const std::vector<std::string>& lines) {
  return std::accumulate(lines.begin(), lines.end(), std::size_t{0},
                         [](std::size_t sum, const std::string& line) { return sum + line.size(); });
}
pid_t own_pid() { return ::getpid(); }

constexpr std::size_t large = std::size_t{8} << 20;  ///< more than a pipe takes at once

support::Fault refuses(const char* call, int error, std::uint64_t first, std::uint64_t last) {
  return {.action = FaultAction::fail, .value = error, .role = ProcessRole::host, .name = call, .first = first, .last = last};
}

bool is_stopped(pid_t pid) {
  const auto info = support::process_info(pid);
  return info && info->state == 'T';
}

}  // namespace

TEST_CASE("a large call is sent although the watch on its pipe is refused") {
  support::Board board;
  const support::Leftovers audit;
  auto pool = std::make_unique<brood::Pool<support::ForkServer>>(brood::PoolOptions{.workers = 1});
  CHECK(pool->submit(&support::add_one, 1).get() == 2);
  const std::vector<std::string> text(large >> 10, std::string(1024, 'x'));  // small parts, which go through the pipe
  // an idle pool makes no calls: the first watch to come is the one on that pipe
  SUBCASE("when it is submitted") {
    board.plan({refuses("epoll_ctl", ENOSPC, 1, 1)});
    std::optional<brood::Future<std::size_t>> sent;
    CHECK_NOTHROW(sent = pool->submit(&length, text));
    REQUIRE(sent);
    CHECK(sent->wait_for(20s));
    CHECK(sent->get() == large);
    CHECK(board.hits() == 1);
    CHECK(pool->stats().workers_died == 0);  // it did not have to be taken for one that takes no calls
  }
  SUBCASE("when it follows a call that another waits for") {
    const support::Gate gate;
    auto before = pool->submit(&support::wait_for_gate, gate.path(), 5);
    auto sent = pool->submit(&length, text);
    REQUIRE(support::wait_until_running(*pool, 1));
    board.plan({refuses("epoll_ctl", ENOSPC, 1, 1)});
    gate.open();
    CHECK_NOTHROW(CHECK(before.get() == 5));
    CHECK(sent.wait_for(20s));
    CHECK(sent.get() == large);
    CHECK(board.hits() == 1);
    CHECK(pool->stats().workers_died == 0);
  }
  SUBCASE("when only the pool's destructor waits for it") {
    const support::Gate gate;
    auto before = pool->submit(&support::wait_for_gate, gate.path(), 5);
    auto sent = pool->submit(&length, text);
    REQUIRE(support::wait_until_running(*pool, 1));
    board.plan({refuses("epoll_ctl", ENOSPC, 1, 1)});
    gate.open();
    pool.reset();
    CHECK(board.hits() == 1);
    CHECK(before.ready());
    CHECK(sent.ready());
    if (sent.ready()) CHECK(sent.get() == large);
  }
}

TEST_CASE("the watch on a worker is refused, and its server is stopped: its end is seen all the same") {
  support::Board board;
  const support::Leftovers audit;
  brood::Pool<support::ForkServer> pool({.workers = 1, .stop_grace = 100ms});
  const support::Gate gate;
  board.plan({refuses("epoll_ctl", ENOMEM, 2, 2)});  // the first is the one on its result pipe
  auto running = pool.submit(&support::wait_for_gate, gate.path(), 5);
  REQUIRE(support::wait_until_running(pool, 1));
  CHECK(support::eventually([&] { return board.hits() == 1; }));  // its server may tell of it after it has begun
  const auto stats = pool.stats();
  REQUIRE(stats.workers.size() == 1);
  REQUIRE(::kill(stats.server_pid, SIGSTOP) == 0);
  REQUIRE(support::eventually([&] { return is_stopped(stats.server_pid); }));
  REQUIRE(::kill(stats.workers.front().pid, SIGKILL) == 0);
  REQUIRE(running.wait_for(20s));
  CHECK_THROWS_AS(static_cast<void>(running.get()), brood::WorkerDied);
  REQUIRE(::kill(stats.server_pid, SIGCONT) == 0);
  CHECK(pool.submit(&support::add_one, 1).get() == 2);
}

TEST_CASE("a start that could not be sent is tried again, though nothing happens meanwhile") {
  support::Board board;
  const support::Leftovers audit;
  for (const int error : {ENOBUFS, EAGAIN, ENOMEM}) {
    brood::Pool<support::ForkServer> pool({.workers = 1});
    constexpr std::uint64_t times = 30;
    board.plan({refuses("sendmsg", error, 1, times)});
    auto future = pool.submit(&support::add_one, 1);
    const bool resolved = future.wait_for(20s);
    CHECK_MESSAGE(resolved, "the start was tried " << board.seen() << " times");
    CHECK(board.hits() == times);
    board.lift();
    if (resolved) {
      CHECK(future.get() == 2);
    } else {
      pool.kill();
    }
  }
}

TEST_CASE("a thread whose wait fails leaves the work of others to the helper") {
  support::Board board;
  const support::Leftovers audit;
  brood::Pool<support::ForkServer> pool({.workers = 2});
  const support::Gate gate;
  board.plan({refuses("pthread_create", EAGAIN, 1, ~std::uint64_t{0})});  // no helper yet
  auto waited_for = pool.submit(&support::wait_for_gate, gate.path(), 1);
  auto other = pool.submit(&support::wait_for_gate, gate.path(), 2);
  CHECK(board.hits() >= 1);
  board.plan({refuses("epoll_wait", ENOMEM, 1, 1)});
  CHECK_THROWS_AS(waited_for.wait(), brood::detail::SystemError);
  CHECK(board.hits() == 1);
  gate.open();
  CHECK(support::eventually([&] { return other.ready() && waited_for.ready(); }));  // nobody waits for them
  CHECK(other.get() == 2);
  CHECK(waited_for.get() == 1);
}

TEST_CASE("a pool's destructor whose wait fails goes on: what was accepted is done, and nothing is left") {
  support::Board board;
  const support::Leftovers audit;
  auto pool = std::make_unique<brood::Pool<support::ForkServer>>(brood::PoolOptions{.workers = 1});
  board.plan({refuses("pthread_create", EAGAIN, 1, ~std::uint64_t{0}),  // nobody else drives
              refuses("epoll_wait", ENOMEM, 1, 3)});
  auto future = pool->submit(&support::add_one, 1);
  pool.reset();
  CHECK(board.hits(1) == 3);
  CHECK(future.ready());
  if (future.ready()) CHECK(future.get() == 2);
}

TEST_CASE("the end of a pool that waits for a stopped worker makes few turns, also when a retry was cancelled") {
  support::Board board;
  const support::Leftovers audit;
  auto pool = std::make_unique<brood::Pool<support::ForkServer>>(brood::PoolOptions{.workers = 1, .stop_grace = 1500ms});
  auto dies = pool->submit({.retries = 100}, &support::dies_by, SIGKILL);
  // later tries wait longer: there is time to cancel one that waits
  REQUIRE(support::eventually([&] { return pool->stats().workers_died >= 10; }, 60s));
  CHECK(dies.cancel());
  const pid_t worker = pool->submit(&own_pid).get();
  REQUIRE(::kill(worker, SIGSTOP) == 0);
  REQUIRE(support::eventually([&] { return is_stopped(worker); }));
  board.plan({{.action = FaultAction::none, .role = ProcessRole::host, .name = "epoll_wait"}});
  pool.reset();
  CHECK(board.seen() < 500);  // a driver that does not sleep makes more of them in a few milliseconds
}
