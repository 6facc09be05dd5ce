// SPDX-License-Identifier: MIT
// Who drives a pool, and whom it has work for: nothing that was accepted is left without a driver, no worker that could
// run it is forgotten, and what ends does so by itself.
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/gate.hpp"
#include "support/hooked_policy.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

using namespace std::chrono_literals;

namespace {

using brood::detail::Dispatcher;

int add_one(int n) { return n + 1; }
int sleeps() {
  for (;;) ::pause();
}

/// The children of this process that are not gone.
std::size_t count_children() {
  const auto all = support::all_processes();
  return static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [](const auto& each) { return each.parent == ::getpid(); }));
}

/// A task of add_one as submit makes it, for a dispatcher without a pool.
brood::detail::TaskPtr make_call(const std::shared_ptr<Dispatcher>& dispatcher, int n) {
  using namespace brood::detail;
  using F = int (*)(int);
  using Types = CallTypes<F, int&>;
  const TaskPtr task = dispatcher->make_task();
  F f = &add_one;
  task->name = name_of<F>(f);
  brood::Writer out;
  out.raw(code_of<&run_call<F, Types::Arguments, Types::Result>>());
  write_callable<F>(out, f);
  WriteArguments<Types::Arguments>::to(out, n);
  task->payload = shared_bytes(std::move(out));
  return task;
}

/// ForkPolicy, but the copy for a closure takes as long as the test wants.
struct SlowCopies {
  static constexpr std::string_view name = "SlowCopies";
  static constexpr bool copies_host = true;
  std::function<void()> copying;

  std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions& options) const {
    auto source = brood::ForkPolicy{.allow_threads = true}.launch(options);
    if (options.snapshot != nullptr) copying();
    return source;
  }
};

}  // namespace

TEST_CASE("while the host is copied for a closure, other calls are taken, and come to their end") {
  const support::Leftovers audit;
  std::atomic<bool> copying = false;
  std::atomic<bool> served = false;
  bool seen = false;
  {
    brood::Pool<SlowCopies> pool({.workers = 2}, SlowCopies{[&] {
                                   copying = true;
                                   seen = support::eventually([&] { return served.load(); });
                                 }});
    CHECK(pool.submit(&add_one, 1).get() == 2);  // a worker is up: while the host is copied none is started
    int base = 40;
    std::thread closure([&] { CHECK(pool.submit([&](int n) { return base + n; }, 2).get() == 42); });
    CHECK(support::eventually([&] { return copying.load(); }));
    CHECK(pool.submit(&add_one, 2).get() == 3);
    auto late = pool.submit({.timeout = 50ms}, &sleeps);
    CHECK_THROWS_AS(static_cast<void>(late.get()), brood::TaskTimeout);
    auto later = pool.submit(&add_one, 3);  // the next worker's
    CHECK_FALSE(later.ready());
    served = true;
    CHECK(later.wait_for(20s));
    CHECK(later.get() == 4);
    closure.join();
  }
  CHECK(seen);
}

TEST_CASE("a pool that is closed while the host is copied for a closure: PoolClosed, and the copy ends") {
  const support::Leftovers audit;
  const auto ran = support::run_in_child(
      [] {
        support::Leftovers inner;
        {
          std::function<void()> close;
          brood::Pool<SlowCopies> pool({.workers = 1}, SlowCopies{[&] { close(); }});
          close = [&] { pool.close(); };
          int base = 40;
          try {
            static_cast<void>(pool.submit([&](int n) { return base + n; }, 2));
            return 3;
          } catch (const brood::PoolClosed&) {
          }
          if (!support::eventually([] { return count_children() == 1; })) return 4;  // the pool's own server
        }
        const std::string left = inner.judge();
        std::printf("%s", left.c_str());
        return left.empty() ? 0 : 1;
      },
      20'000);
  CHECK_MESSAGE((ran.status.exited() && ran.status.code() == 0), ran.status.describe() << " " << ran.output);
}

TEST_CASE("work that is accepted while stats() drives has a driver when stats() is done") {
  const support::Leftovers audit;
  const auto hooks = std::make_shared<support::Hooks>();
  std::optional<brood::Pool<support::HookedPolicy>> pool(std::in_place, brood::PoolOptions{.workers = 1},
                                                         support::HookedPolicy{hooks});
  std::optional<brood::Future<int>> accepted;
  // stats() takes the driver's place, and destroys the source that has ended
  hooks->destroyed = [&] {
    if (!accepted) accepted = pool->submit(&add_one, 1);
  };
  REQUIRE(::kill(pool->stats().server_pid, SIGKILL) == 0);
  REQUIRE(support::eventually([&] {
    static_cast<void>(pool->stats());
    return accepted.has_value();
  }));
  CHECK(support::eventually([&] { return accepted->ready(); }));  // nobody waits for it
  CHECK(accepted->get() == 2);
  hooks->destroyed = nullptr;
  pool.reset();
}

TEST_CASE("while a worker of a server that has ended does not end, the new server's idle workers are given work") {
  const support::Leftovers audit;
  // A worker whose end is seen when the test says so: a process that the kernel can't end just now.
  const int end_of_first = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  REQUIRE(end_of_first >= 0);
  const auto hooks = std::make_shared<support::Hooks>();
  bool first = true;
  hooks->heard = [&](brood::SourceEvent& event) {
    if (event.kind != brood::SourceEvent::Kind::started || !std::exchange(first, false)) return;
    event.pidfd = brood::detail::Fd(::fcntl(end_of_first, F_DUPFD_CLOEXEC, 3));
  };
  {
    brood::Pool<support::HookedPolicy> pool({.workers = 1}, support::HookedPolicy{hooks});
    auto lost = pool.submit(&sleeps);
    REQUIRE(support::wait_until_running(pool, 1));
    REQUIRE(::kill(pool.stats().server_pid, SIGKILL) == 0);
    REQUIRE(lost.wait_for(20s));
    CHECK_THROWS_AS(static_cast<void>(lost.get()), brood::WorkerDied);
    bool all = true;
    for (int n = 0; all && n < 5; ++n) {
      auto future = pool.submit(&add_one, n);
      all = future.wait_for(20s);
      CHECK_MESSAGE(all, "call " << n << " waits although its worker is idle");
      if (all) CHECK(future.get() == n + 1);
    }
    CHECK(::eventfd_write(end_of_first, 1) == 0);
    if (!all) pool.kill();
  }
  ::close(end_of_first);
}

TEST_CASE("what a callback has captured may call the pool when it is destroyed") {
  const support::Leftovers audit;
  const auto ran = support::run_in_child(
      [] {
        const auto dispatcher = brood::detail::make_dispatcher({.workers = 1}, support::ForkServer{}, true);
        static bool asked = false;
        struct Asks {
          Dispatcher* dispatcher;
          explicit Asks(Dispatcher* whom) : dispatcher(whom) {}
          Asks(const Asks&) = delete;
          Asks& operator=(const Asks&) = delete;
          ~Asks() {
            asked = dispatcher->stats().done == 1;
          }
        };
        const auto task = make_call(dispatcher, 1);
        dispatcher->enqueue(task, Dispatcher::Caller::waits);
        dispatcher->when_resolved(task, [held = std::make_shared<Asks>(dispatcher.get())] {});
        dispatcher->wait(*task);
        dispatcher->close();
        dispatcher->wait_all();
        dispatcher->shut_down();
        return asked ? 0 : 1;
      },
      20'000);
  CHECK_MESSAGE((ran.status.exited() && ran.status.code() == 0), ran.status.describe() << " " << ran.output);
}

TEST_CASE("a host that adopts orphans has none left after a pool whose server was stopped") {
  const support::Leftovers audit;
  const auto ran = support::run_in_child([] {
    if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return 3;
    support::Leftovers inner;
    {
      brood::Pool<support::ForkServer> pool({.workers = 2});
      const support::Gate gate;
      auto one = pool.submit(&support::wait_for_gate, gate.path(), 1);
      auto two = pool.submit(&support::wait_for_gate, gate.path(), 2);
      if (!support::wait_until_running(pool, 2)) return 4;
      gate.open();
      if (one.get() + two.get() != 3) return 5;
      const pid_t server = pool.stats().server_pid;
      ::kill(server, SIGSTOP);
      if (!support::eventually([&] {
            const auto info = support::process_info(server);
            return info && info->state == 'T';
          })) {
        return 6;
      }
    }
    const std::string left = inner.judge();
    std::printf("%s", left.c_str());
    return left.empty() ? 0 : 1;
  });
  CHECK_MESSAGE((ran.status.exited() && ran.status.code() == 0), ran.status.describe() << " " << ran.output);
}

TEST_CASE("the copy of the host that a closure ran in ends by itself, also while nobody uses the pool") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});
  int base = 40;
  SUBCASE("after a map") {
    CHECK(pool.map([&](int n) { return n + base; }, std::vector{1, 2, 3}) == std::vector{41, 42, 43});
  }
  SUBCASE("after a submit") {
    CHECK(pool.submit([&](int n) { return n + base; }, 2).get() == 42);
  }
  CHECK(support::eventually([] { return count_children() == 1; }));  // the pool's own server
}

TEST_CASE("workers that one closure's copy of the host has no work for make room for another's") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2}, brood::ForkPolicy{.allow_threads = true});
  const support::Gate gate;
  std::thread mapper([&] {
    const std::vector<int> items{0, 1, 2, 3};
    const auto outcomes = pool.try_map([&](int n) { return n == 0 ? support::wait_for_gate(gate.path(), n) : n; }, items,
                                       {.chunk_size = 1});
    for (const int n : items) CHECK(outcomes[static_cast<std::size_t>(n)].value() == n);
  });
  // one of the two workers is done with its items, and idle
  CHECK(support::eventually([&] {
    const auto stats = pool.stats();
    return stats.running == 1 && stats.done == 3;
  }));
  int base = 40;
  auto future = pool.submit([&](int n) { return base + n; }, 2);
  CHECK(future.wait_for(20s));
  gate.open();
  mapper.join();
  CHECK(future.get() == 42);
}

TEST_CASE("items that were handed out ahead to a closure's worker that is stuck run in its other worker") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});
  constexpr int last_ones = 40;
  for (int round = 0; round < 3; ++round) {
    const support::Shared<std::atomic<int>> ended;
    std::vector<int> items(400 + static_cast<std::size_t>(round));
    std::iota(items.begin(), items.end(), 0);
    const int stuck = static_cast<int>(items.size()) - last_ones - 1;
    // that one can only come to its end when all behind it have; some of those are its own worker's, for the items are short
    const auto results = pool.map(
        [&](int n) {
          if (n > stuck) ++*ended;
          if (n == stuck && !support::eventually([&] { return *ended == last_ones; })) return -1;
          return n;
        },
        items, {.chunk_size = 1});
    CHECK(results == items);
  }
}
