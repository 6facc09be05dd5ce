// SPDX-License-Identifier: MIT
// this_worker::random_engine(): which numbers a task draws depends on the pool's seed, and on the number of its call and of its
// item, alone. The expectation is computed here, in the host: RandomEngine(seed, call, item).
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using brood::RandomEngine;
using Pair = std::pair<std::uint64_t, std::uint64_t>;

constexpr std::uint64_t seed = 4711;

Pair draw_two() {
  const std::uint64_t first = brood::this_worker::random_engine()();
  return {first, brood::this_worker::random_engine()()};  // asked for again, it goes on
}

Pair first_two(RandomEngine engine) {
  const std::uint64_t first = engine();
  return {first, engine()};
}

/// Draws as many numbers as it likes, and says the first two.
Pair draw_for(int item) {
  const Pair two = draw_two();
  brood::this_worker::random_engine().discard(static_cast<unsigned>(item * 7));
  for (int n = 0; n < item % 5; ++n) brood::this_worker::random_engine()();
  return two;
}

std::vector<Pair> expected_map(std::uint64_t call, std::size_t items) {
  std::vector<Pair> all;
  for (std::size_t item = 0; item < items; ++item) all.push_back(first_two(RandomEngine(seed, call, item)));
  return all;
}

/// Ends its worker the first time, when there is no such file.
Pair draw_in_second_try(const std::string& path) {
  const Pair two = draw_two();
  if (::access(path.c_str(), F_OK) == 0) return two;
  ::close(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  ::raise(SIGKILL);
  return {};
}
Pair draw_item_in_second_try(const std::pair<std::string, int>& item) {
  return item.second % 10 == 3 ? draw_in_second_try(item.first + std::to_string(item.second)) : draw_two();
}

std::uint64_t drawn_in_hook = 0;
void draw_in_hook() { drawn_in_hook = brood::this_worker::random_engine()(); }

/// A Preload that draws in each worker, and tries to in the server.
struct Draws {
  Draws() {
    try {
      brood::this_worker::random_engine();
      said = "it drew";
    } catch (const brood::Error& error) {
      said = error.what();
    }
  }
  void after_fork() { drawn = brood::this_worker::random_engine()(); }
  std::string said;
  std::uint64_t drawn = 0;
};

/// Draws by four threads at once, and by one that asks for the engine itself.
std::vector<std::uint64_t> draw_in_threads() {
  std::vector<std::uint64_t> drawn(5);
  std::vector<std::thread> threads;
  for (std::size_t n = 0; n < 4; ++n) {
    threads.emplace_back([&drawn, n, mine = brood::this_worker::random_engine().part(n + 1)]() mutable { drawn[n] = mine(); });
  }
  for (std::thread& each : threads) each.join();
  std::thread([&] { drawn[4] = brood::this_worker::random_engine()(); }).join();
  return drawn;
}

}  // namespace

TEST_CASE_TEMPLATE("random_engine: the numbers of a task depend on the seed and its call alone", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  for (const unsigned workers : {1U, 3U}) {
    brood::Pool<Policy> pool({.workers = workers, .tasks_per_worker = workers == 3 ? 4U : 0U, .seed = seed});
    CHECK(pool.stats().seed == seed);
    std::uint64_t call = 0;
    std::vector<brood::Future<Pair>> futures;
    for (int n = 0; n < 20; ++n) futures.push_back(pool.submit(&draw_for, n));
    for (auto& future : futures) CHECK(future.get() == first_two(RandomEngine(seed, call++)));

    std::vector<int> items(60);
    std::iota(items.begin(), items.end(), 0);
    for (const std::size_t chunk : {0U, 1U, 7U, 1000U}) {
      CHECK(pool.map(&draw_for, items, {.chunk_size = chunk}) == expected_map(call++, items.size()));
    }
    const std::list<int> one_by_one(items.begin(), items.end());
    const auto outcomes = pool.try_map(&draw_for, one_by_one);
    const std::vector<Pair> expected = expected_map(call++, items.size());
    for (std::size_t n = 0; n < items.size(); ++n) CHECK(outcomes[n].value() == expected[n]);

    CHECK(pool.map(&draw_for, std::vector<int>{}).empty());  // counts, too
    ++call;
    CHECK(pool.submit(&draw_two).get() == first_two(RandomEngine(seed, call++)));
    std::vector<std::uint64_t> into(1);
    CHECK(pool.submit_into(into, [] { return std::vector{brood::this_worker::random_engine()()}; }).get() == 1);
    CHECK(into[0] == RandomEngine(seed, call++)());
  }
}

TEST_CASE_TEMPLATE("random_engine: items of streams and of map_reduce, in whichever order and chunks", Policy, support::ForkServer,
                   brood::InlinePolicy) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .seed = seed});
  std::vector<int> items(50);
  std::iota(items.begin(), items.end(), 0);
  std::vector<Pair> drawn;
  for (const Pair& each : pool.stream(&draw_for, items)) drawn.push_back(each);
  CHECK(drawn == expected_map(0, items.size()));
  drawn.assign(items.size(), Pair());
  auto unordered = pool.stream_unordered(&draw_for, items);
  for (const Pair& each : unordered) drawn[unordered.index()] = each;
  CHECK(drawn == expected_map(1, items.size()));
  const auto one = [](int item) { return std::vector{draw_for(item)}; };
  const auto join = [](std::vector<Pair> all, std::vector<Pair> more) {
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  std::uint64_t call = 2;
  for (const std::size_t chunk : {0U, 1U, 9U}) {
    CHECK(pool.map_reduce(one, join, items, std::vector<Pair>(), {.chunk_size = chunk}) == expected_map(call++, items.size()));
  }
}

TEST_CASE_TEMPLATE("random_engine: a retry draws the same numbers", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::string path = "/tmp/brood_random_" + std::to_string(::getpid()) + "_";
  brood::Pool<Policy> pool({.workers = 2, .seed = seed});
  CHECK(pool.submit({.retries = 1}, &draw_in_second_try, path).get() == first_two(RandomEngine(seed, 0)));
  std::vector<std::pair<std::string, int>> items;
  for (int n = 0; n < 40; ++n) items.emplace_back(path, n);
  using Task = Pair (*)(const std::pair<std::string, int>&);
  const Task task = &draw_item_in_second_try;
  CHECK(pool.map(task, items, {.chunk_size = 20, .retries = 1}) == expected_map(1, items.size()));
  CHECK(pool.stats().workers_died == 5);
  ::unlink(path.c_str());
  for (const auto& [name, n] : items) ::unlink((name + std::to_string(n)).c_str());
}

TEST_CASE("random_engine: closures under ForkPolicy draw what other calls would") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 2, .seed = seed});
  int drawn = 0;
  CHECK(pool.submit([&] { return draw_for(drawn); }).get() == first_two(RandomEngine(seed, 0)));
  std::vector<int> items(30);
  CHECK(pool.map([&](int n) { return draw_for(n + drawn); }, items, {.chunk_size = 4}) == expected_map(1, items.size()));
  CHECK(pool.submit(&draw_two).get() == first_two(RandomEngine(seed, 2)));
}

TEST_CASE_TEMPLATE("random_engine: no two tasks, items, workers and pools without a seed draw the same", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  std::set<Pair> seen;
  std::size_t drawn = 0;
  std::set<std::uint64_t> seeds;
  for (int n = 0; n < 4; ++n) {
    brood::Pool<Policy> pool({.workers = 3, .tasks_per_worker = 9, .spares = 1});
    seeds.insert(pool.stats().seed);
    std::vector<brood::Future<Pair>> futures;
    for (int task = 0; task < 50; ++task) futures.push_back(pool.submit(&draw_two));
    for (auto& future : futures) seen.insert(future.get());
    for (const Pair& each : pool.map(&draw_for, std::vector<int>(200, 1))) seen.insert(each);
    drawn += 250;
  }
  CHECK(seeds.size() == 4);
  CHECK(seen.size() == drawn);
}

TEST_CASE_TEMPLATE("random_engine: in a start hook by the worker's place", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 1, .on_worker_start = &draw_in_hook, .seed = seed});
  for (int n = 0; n < 6; ++n) {
    const auto [index, hook, task] = pool.submit([] {
      return std::tuple(brood::this_worker::index(), drawn_in_hook, brood::this_worker::random_engine()());
    }).get();
    CHECK(hook == RandomEngine(seed, ~std::uint64_t{0}, index)());
    CHECK(task == RandomEngine(seed, static_cast<std::uint64_t>(n))());
  }
}

TEST_CASE("random_engine: not while a Preload is built, but in its after_fork") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkServerPolicy<Draws>> pool({.workers = 1, .seed = seed});
  const auto [said, drawn] = pool.submit([] {
    return std::pair(brood::preloaded<Draws>().said, brood::preloaded<Draws>().drawn);
  }).get();
  CHECK_MESSAGE(said.find("all workers would have its numbers") != std::string::npos, said);
  CHECK(drawn == RandomEngine(seed, ~std::uint64_t{0}, 0)());
  CHECK_THROWS_WITH_AS(brood::this_worker::random_engine(), doctest::Contains("outside of a task"), brood::Error);
}

TEST_CASE_TEMPLATE("random_engine: threads of a task, and a pool in a task", Policy, brood::SpawnPolicy, brood::InlinePolicy) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .seed = seed});
  const RandomEngine whole(seed, 0);
  std::vector<std::uint64_t> expected;
  for (const std::uint64_t n : {1U, 2U, 3U, 4U, 0U}) expected.push_back(whole.part(n)());
  if constexpr (!brood::RunsInline<Policy>) {  // there several threads of the host may run tasks, and theirs run none
    CHECK(pool.submit(&draw_in_threads).get() == expected);
  } else {
    CHECK_THROWS_WITH_AS(pool.submit([] {
                               std::string said;
                               std::thread([&] {
                                 try {
                                   brood::this_worker::random_engine();
                                 } catch (const brood::Error& error) {
                                   said = error.what();
                                 }
                               }).join();
                               if (!said.empty()) throw brood::Error(said);
                             }).get(),
                         doctest::Contains("outside of a task"), brood::Error);
  }
  const auto [before, inner, after] = pool.submit([] {
    const std::uint64_t first = brood::this_worker::random_engine()();
    brood::Pool<brood::InlinePolicy> nested({.seed = seed});
    const Pair drawn = nested.submit(&draw_two).get();
    return std::tuple(first, drawn, brood::this_worker::random_engine()());
  }).get();
  CHECK(std::pair(before, after) == first_two(RandomEngine(seed, 1)));
  CHECK(inner == first_two(RandomEngine(seed, 0)));
}

TEST_CASE("random_engine: a call that is refused takes no number") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1, .max_message_bytes = 4096, .seed = seed});
  CHECK(pool.submit(&draw_two).get() == first_two(RandomEngine(seed, 0)));
  CHECK_THROWS_AS(pool.submit([](const std::string& text) { return text.size(); }, std::string(8192, 'x')),
                  brood::MessageTooLarge);
  CHECK(pool.submit(&draw_two).get() == first_two(RandomEngine(seed, 1)));
}
