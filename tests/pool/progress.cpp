// SPDX-License-Identifier: MIT
// How far a task has come, and how far a long call has.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using Server = brood::ForkServerPolicy<>;

int report_and_wait(const std::string& gate, std::uint64_t done, std::uint64_t total) {
  brood::this_task::progress(done, total);
  support::wait_for_gate(gate, 0);
  brood::this_task::progress(total, total);
  return 1;
}

int work_on(const std::string& gate, int n) {
  if (n == 5) return report_and_wait(gate, 1, 2);
  if (n == 7) throw std::runtime_error("seven");
  return n;
}

int twice(int n) { return 2 * n; }

/// What a callback was told.
struct Told {
  std::vector<brood::Progress> all;
  std::vector<std::thread::id> threads;

  brood::ProgressCallback callback(std::function<void(const brood::Progress&)> also = nullptr) {
    return [this, also = std::move(also)](const brood::Progress& now) {
      all.push_back(now);
      threads.push_back(std::this_thread::get_id());
      if (also) also(now);
    };
  }

  /// What holds for every call, however long it takes.
  void check_manners() const {
    REQUIRE(all.size() >= 2);
    for (std::size_t at = 0; at < all.size(); ++at) {
      CHECK(threads[at] == std::this_thread::get_id());
      CHECK(all[at].finished == (at + 1 == all.size()));
      CHECK(all[at].failed <= all[at].done);
      if (at == 0) continue;
      CHECK(all[at].done >= all[at - 1].done);
      CHECK(all[at].elapsed >= all[at - 1].elapsed);
      CHECK(all[at].total == all[at - 1].total);
    }
    CHECK(all.front().done == 0);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("Future::progress tells what the task tells, while it runs and afterwards", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  auto running = pool.submit(&report_and_wait, gate.path(), 3U, 10U);
  auto waiting = pool.submit([] { brood::this_task::progress(7, 9); });
  REQUIRE(support::eventually([&] { return running.progress().done == 3; }));
  CHECK(running.progress() == brood::TaskProgress{3, 10});
  CHECK(waiting.progress() == brood::TaskProgress{});
  gate.open();
  CHECK(running.get() == 1);
  waiting.get();
  CHECK(running.progress() == brood::TaskProgress{10, 10});
  CHECK(waiting.progress() == brood::TaskProgress{7, 9});
  // one that tells nothing is not taken for the one before
  auto silent = pool.submit(&twice, 1);
  silent.wait();
  CHECK(silent.progress() == brood::TaskProgress{});
  // how far the dead one came
  auto dead = pool.submit([]() -> int {
    brood::this_task::progress(340, 1000);
    return ::raise(SIGKILL);
  });
  dead.wait();
  CHECK(dead.progress() == brood::TaskProgress{340, 1000});
}

TEST_CASE("Future::progress: a task that is run again begins anew") {
  const support::Leftovers audit;
  const support::Gate died;
  brood::Pool<Server> pool({.workers = 1});
  auto again = pool.submit({.retries = 1}, [](const std::string& mark) {
    if (::access(mark.c_str(), F_OK) == 0) return 1;
    brood::this_task::progress(1, 2);
    ::close(::open(mark.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    return ::raise(SIGKILL);
  }, died.path());
  CHECK(again.get() == 1);
  CHECK(again.progress() == brood::TaskProgress{});
}

TEST_CASE("Future::progress under InlinePolicy") {
  const support::Leftovers audit;
  brood::Pool<brood::InlinePolicy> pool;
  CHECK(pool.submit([] { brood::this_task::progress(2, 3); }).progress() == brood::TaskProgress{2, 3});
  CHECK(pool.submit([] {}).progress() == brood::TaskProgress{});
}

TEST_CASE("this_task::progress may be called by threads of the task, and by Preloads") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 1});
  auto future = pool.submit([] {
    std::thread([] { brood::this_task::progress(4, 5); }).join();
    return 1;
  });
  CHECK(future.get() == 1);
  CHECK(future.progress() == brood::TaskProgress{4, 5});
  CHECK_THROWS_AS(brood::this_task::progress(1, 2), brood::Error);
}

TEST_CASE("a Future without a task has no progress") {
  CHECK_THROWS_AS(brood::Future<int>().progress(), brood::Error);
}

TEST_CASE_TEMPLATE("MapOptions::progress is called at the start and at the end", Policy, brood::SpawnPolicy, brood::InlinePolicy) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  Told told;
  std::vector<int> items(1000, 1);
  CHECK(pool.map(&twice, items, {.progress = told.callback()}).size() == 1000);
  told.check_manners();
  CHECK(told.all.front().total == 1000);
  CHECK(told.all.back().done == 1000);
  CHECK(told.all.back().failed == 0);
  CHECK(told.all.back().share() == 1);

  Told empty;
  CHECK(pool.map(&twice, std::vector<int>(), {.progress = empty.callback()}).empty());
  empty.check_manners();
  CHECK(empty.all.back().total == 0);
  CHECK(empty.all.back().share() == 1);

  Told unsized;
  std::istringstream numbers("1 2 3 4");
  std::ranges::istream_view<int> range(numbers);
  CHECK(pool.map(&twice, range, {.progress = unsized.callback()}).size() == 4);
  unsized.check_manners();
  CHECK_FALSE(unsized.all.back().total);
  CHECK(unsized.all.back().done == 4);
  CHECK(unsized.all.back().share() == 0);
}

TEST_CASE("MapOptions::progress sees items that are done before their chunk is, and how far the running one is") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Server> pool({.workers = 1});
  std::vector<std::pair<std::string, int>> items;
  for (int n = 0; n < 10; ++n) items.emplace_back(gate.path(), n);
  Told told;
  bool seen = false;
  const auto outcomes = pool.try_map(&work_on, items, {.chunk_size = 10, .progress = told.callback([&](const brood::Progress& now) {
    if (now.done != 5 || now.running != 0.5) return;
    seen = true;
    CHECK(now.share() == 0.55);
    gate.open();
  })});
  CHECK(seen);
  CHECK(outcomes.size() == 10);
  told.check_manners();
  CHECK(told.all.back().done == 10);
  CHECK(told.all.back().failed == 1);
  CHECK(told.all.back().running == 0);
}

TEST_CASE("MapOptions::progress of a closure, and of items that run at the same time") {
  const support::Leftovers audit;
  const support::Gate gate;
  const std::string path = gate.path();
  Told told;
#if BROOD_TEST_HAS_THREAD_SANITIZER
  brood::Pool<brood::InlinePolicy> pool;
  gate.open();
  const bool expected = false;
#else
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});
  const bool expected = true;
#endif
  bool seen = false;
  const auto values = pool.map([&](int n) { return n + report_and_wait(path, 1, 2); }, std::vector{1, 2},
                               {.progress = told.callback([&](const brood::Progress& now) {
                                 if (now.running != 1.0) return;
                                 seen = true;
                                 gate.open();
                               })});
  CHECK(values == std::vector{2, 3});
  CHECK(seen == expected);
  told.check_manners();
}

TEST_CASE("MapOptions::progress: what fails is counted, and map says that it is over when it throws") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 2});
  const support::Gate gate;
  gate.open();
  std::vector<std::pair<std::string, int>> items;
  for (int n = 0; n < 9; ++n) items.emplace_back(gate.path(), n);
  Told told;
  CHECK_THROWS_WITH_AS(pool.map(&work_on, items, {.chunk_size = 1, .progress = told.callback()}), "seven", std::runtime_error);
  told.check_manners();
  CHECK(told.all.back().failed == 1);

  Told dead;
  const auto outcomes = pool.try_map([](int n) { return n == 3 ? ::raise(SIGKILL) : n; }, std::vector{1, 2, 3, 4},
                                     {.progress = dead.callback()});
  CHECK(outcomes.size() == 4);
  dead.check_manners();
  CHECK(dead.all.back().done == 4);
  CHECK(dead.all.back().failed == 1);
}

TEST_CASE("a progress callback that throws ends the map") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 1});
  const auto stop = [](const brood::Progress& now) {
    if (now.finished) throw std::logic_error("at the end");
  };
  CHECK_THROWS_WITH_AS(pool.map(&twice, std::vector{1, 2, 3}, {.progress = stop}), "at the end", std::logic_error);
  const auto refuse = [](const brood::Progress&) { throw std::logic_error("at the start"); };
  CHECK_THROWS_WITH_AS(pool.map(&twice, std::vector{1, 2, 3}, {.progress = refuse}), "at the start", std::logic_error);
  CHECK(pool.map(&twice, std::vector{1, 2}) == std::vector{2, 4});
}

TEST_CASE("Pool::wait tells how many tasks are done") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Server> pool({.workers = 2});
  CHECK(pool.submit(&twice, 1).get() == 2);  // before: not counted
  std::vector<brood::Future<int>> futures;
  futures.push_back(pool.submit(&report_and_wait, gate.path(), 1U, 4U));
  futures.push_back(pool.submit([]() -> int { throw std::runtime_error("no"); }));
  futures.push_back(pool.submit(&twice, 1));
  Told told;
  bool seen = false;
  pool.wait(told.callback([&](const brood::Progress& now) {
    if (now.running != 0.25 || pool.stats().failed != 1) return;  // it may call anything
    seen = true;
    gate.open();
  }));
  CHECK(seen);
  told.check_manners();
  CHECK(told.all.back().total == 3);
  CHECK(told.all.back().done == 3);
  CHECK(told.all.back().failed <= 1);
}
