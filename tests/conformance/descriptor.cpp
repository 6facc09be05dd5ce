// SPDX-License-Identifier: MIT
// A pool that a loop of the host's drives, through its descriptor: everything that a helper thread would see to is done, and no
// thread is ever started.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/eventually.hpp"
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
int dies() { return ::raise(SIGKILL); }
int dies_once(const std::string& path) {
  if (::access(path.c_str(), F_OK) == 0) return 7;
  ::close(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  return ::raise(SIGKILL);
}
std::vector<int> many(int count) { return std::vector<int>(static_cast<std::size_t>(count), 7); }

bool readable(int fd, int milliseconds) {
  pollfd watched{fd, POLLIN, 0};
  return ::poll(&watched, 1, milliseconds) == 1;
}

/// A loop of the host's: sleeps until the descriptor is readable, and never longer than it should. False when the condition does
/// not come to hold: nothing woke the loop up for a long time.
template <class Pool, class Condition>
bool loop_until(Pool& pool, Condition condition) {
  const auto until = std::chrono::steady_clock::now() + 60s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until || !readable(pool.descriptor(), 20'000)) return false;
    pool.poll();
  }
  return true;
}

std::size_t count_threads() { return support::numbers_in("/proc/self/task").size(); }

brood::PoolOptions driven(unsigned workers) {
  brood::PoolOptions options;
  options.workers = workers;
  options.helper_thread = false;
  return options;
}

}  // namespace

TEST_CASE_TEMPLATE("a loop drives a pool: values, deaths, deadlines, retries, a server's end, without a thread", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::size_t threads = count_threads();
  brood::Pool<Policy> pool(driven(2));
  const std::thread::id here = std::this_thread::get_id();
  std::vector<int> values;
  for (int n = 0; n < 20; ++n) {
    pool.submit(&add_one, n).then([&](int value) {
      if (std::this_thread::get_id() == here) values.push_back(value);
    });
  }
  CHECK(loop_until(pool, [&] { return values.size() == 20; }));

  auto death = pool.submit(&dies);
  CHECK(loop_until(pool, [&] { return death.ready(); }));
  CHECK(death.outcome().failure().kind() == brood::FailureKind::worker_died);

  auto late = pool.submit({.timeout = 50ms}, &sleeps);  // nothing but the alarm tells of it
  CHECK(loop_until(pool, [&] { return late.ready(); }));
  CHECK(late.outcome().failure().kind() == brood::FailureKind::timeout);

  support::Gate once;
  auto again = pool.submit({.retries = 1}, &dies_once, once.path());
  CHECK(loop_until(pool, [&] { return again.ready(); }));
  CHECK(again.get() == 7);

  auto large = pool.submit(&many, 1 << 20);  // it is read piece by piece
  CHECK(loop_until(pool, [&] { return large.ready(); }));
  CHECK(large.get().size() == std::size_t{1} << 20);

  auto running = pool.submit(&sleeps);
  CHECK(support::wait_until_running(pool, 1));
  CHECK(running.cancel());
  CHECK(loop_until(pool, [&] { return running.ready(); }));

  if constexpr (!brood::CopiesHost<Policy>) {
    ::kill(pool.stats().server_pid, SIGKILL);
    CHECK(loop_until(pool, [&] { return pool.stats().server_pid == 0; }));
    auto next = pool.submit(&add_one, 1);
    CHECK(loop_until(pool, [&] { return next.ready(); }));
    CHECK(next.get() == 2);
  }
  CHECK(count_threads() == threads);
}

TEST_CASE_TEMPLATE("a pool without a helper thread: who waits drives, and so does its end", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::size_t threads = count_threads();
  brood::Future<int> left;
  {
    brood::Pool<Policy> pool(driven(2));
    CHECK(pool.submit(&add_one, 1).then(&add_one).get() == 3);
    CHECK(pool.map(&add_one, std::vector{1, 2, 3}) == std::vector{2, 3, 4});
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 10; ++n) futures.push_back(pool.submit(&add_one, n));
    CHECK(brood::when_all(std::move(futures)).get().back() == 10);
    left = pool.submit(&add_one, 5).then(&add_one);
    if constexpr (brood::CopiesHost<Policy>) {
      const int base = 40;
      CHECK(pool.submit([&] { return base + 2; }).get() == 42);
    }
  }
  CHECK(left.get() == 7);
  CHECK(count_threads() == threads);
}

TEST_CASE("waiting for one of several pools' futures drives all those that nobody else does") {
  const support::Leftovers audit;
  using Pool = brood::Pool<brood::SpawnPolicy>;
  Pool one(driven(1));
  Pool two(driven(1));
  Pool with_helper({.workers = 1});
  support::Gate gate;
  std::vector<brood::Future<int>> futures;
  futures.push_back(one.submit(&support::wait_for_gate, gate.path(), 1));
  futures.push_back(two.submit(&add_one, 1));
  futures.push_back(with_helper.submit(&support::wait_for_gate, gate.path(), 3));
  CHECK(brood::when_any(futures).get().index == 1);
  // what is returned is another pool's, and that has no other driver either
  CHECK(one.submit(&support::wait_for_gate, gate.path(), 1).wait_for(1ms) == false);
  gate.open();
  CHECK(one.submit(&add_one, 1).then([&](int n) { return two.submit(&add_one, n); }).get() == 3);
  CHECK(brood::when_all(futures).get() == std::vector{1, 2, 3});
}

TEST_CASE("the descriptor is quiet while there is nothing to do, and pools with a helper thread have none") {
  const support::Leftovers audit;
  {
    brood::Pool<brood::SpawnPolicy> pool(driven(1));
    CHECK(pool.submit(&add_one, 1).get() == 2);
    for (int n = 0; n < 100 && readable(pool.descriptor(), 20); ++n) pool.poll();  // what is still to be heard of the worker
    CHECK_FALSE(readable(pool.descriptor(), 50));
    CHECK(pool.poll() == 0);

    // another thread's calls make it readable, also through an epoll set of the host's
    brood::detail::Poller loop;
    loop.add(pool.descriptor(), EPOLLIN, 0);
    brood::Future<int> future;
    std::thread caller([&] { future = pool.submit(&add_one, 5); });
    caller.join();
    std::size_t resolved = 0;
    std::array<brood::detail::Poller::Event, 4> room;
    while (!future.ready() && !loop.wait(room, 20s).empty()) resolved += pool.poll();
    CHECK(future.get() == 6);
    CHECK(resolved == 1);
    loop.remove(pool.descriptor());
  }
  brood::Pool<brood::SpawnPolicy> ordinary({.workers = 1});
  CHECK_THROWS_WITH_AS(static_cast<void>(ordinary.descriptor()), doctest::Contains("helper_thread = false"), brood::Error);
  CHECK(ordinary.poll() == 0);
  brood::PoolOptions options;
  options.helper_thread = false;
  brood::Pool<brood::InlinePolicy> here(options);
  CHECK(here.submit(&add_one, 1).then(&add_one).get() == 3);
  CHECK_FALSE(readable(here.descriptor(), 0));
}

TEST_CASE("spare workers are started by a loop, too") {
  const support::Leftovers audit;
  brood::PoolOptions options = driven(1);
  options.spares = 2;
  brood::Pool<brood::SpawnPolicy> pool(options);
  CHECK(loop_until(pool, [&] { return pool.stats().spares == 2; }));
}
