// SPDX-License-Identifier: MIT
// A pool that can't get a worker up says so in bounded time, fails what waits with the cause, and mends itself when
// workers come up again. Retries, and calls that wait.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
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

std::string mood_path() { return "/tmp/brood_mood_" + std::to_string(::getpgrp()); }

/// A file that is there as long as this lives: start hooks fail.
class BadMood {
 public:
  BadMood() { begin(); }
  BadMood(const BadMood&) = delete;
  BadMood& operator=(const BadMood&) = delete;
  ~BadMood() { end(); }

  void begin() const { ::close(::open(path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)); }
  void end() const { ::unlink(path_.c_str()); }

 private:
  std::string path_ = mood_path();
};

bool bad_mood() { return ::access(mood_path().c_str(), F_OK) == 0; }

void throws_in_a_bad_mood() {
  if (bad_mood()) throw std::runtime_error("in a bad mood");
}
void exits_in_a_bad_mood() {
  if (bad_mood()) ::_exit(3);
}
void crashes_in_a_bad_mood() {
  if (bad_mood()) ::raise(SIGKILL);
}

std::chrono::microseconds cpu_time() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::chrono::seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         std::chrono::microseconds(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/// Each run of the task adds a byte to a file.
long runs_of(const std::string& path, bool add) {
  const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  if (add) static_cast<void>(!::write(fd, "x", 1));
  const long count = ::lseek(fd, 0, SEEK_END);
  ::close(fd);
  return count;
}

int dies_for_ever(const std::string& path) {
  runs_of(path, true);
  return ::raise(SIGKILL);
}

/// Dies by itself while its deadline kills it, the first time; hangs less the second.
int dies_at_its_deadline(const std::string& path) {
  if (runs_of(path, true) > 1) return 7;
  ::signal(SIGALRM, [](int) { ::raise(SIGSEGV); });
  ::ualarm(49'000, 0);
  for (;;) ::pause();
}

}  // namespace

TEST_CASE_TEMPLATE("a pool whose workers never come up is broken, with the cause, and mends itself", Policy, WORKER_POLICIES) {
  for (void (*const hook)() : {&throws_in_a_bad_mood, &exits_in_a_bad_mood, &crashes_in_a_bad_mood}) {
    const support::Leftovers audit;
    const BadMood mood;
    brood::PoolOptions options;
    options.workers = 2;
    options.on_worker_start = hook;
    brood::Pool<Policy> pool(options);
    CHECK(pool.stats().state == brood::PoolState::running);

    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 10; ++n) futures.push_back(pool.submit(&add_one, n));
    for (auto& future : futures) {
      const brood::Outcome<int> outcome = future.outcome();
      REQUIRE_FALSE(outcome);
      CHECK(outcome.failure().kind() == brood::FailureKind::launch);
      CHECK_THROWS_AS(static_cast<void>(future.get()), brood::LaunchError);
    }
    brood::PoolStats stats = pool.stats();
    CHECK(stats.state == brood::PoolState::broken);
    const std::string said = hook == &throws_in_a_bad_mood    ? "in a bad mood"
                             : hook == &exits_in_a_bad_mood ? "exited with code 3"
                                                            : "SIGKILL";
    CHECK_MESSAGE(stats.cause.find(said) != std::string::npos, stats.cause);
    CHECK_MESSAGE(futures[0].outcome().failure().message().find(said) != std::string::npos,
                  futures[0].outcome().failure().message());
    CHECK_THROWS_WITH_AS(static_cast<void>(futures[9].get()),
                         doctest::Contains("; the pool is broken (PoolStats::state): all that waited fails, and the next call has "
                                           "one more try"),
                         brood::LaunchError);
    CHECK(stats.cause.find("the pool is broken") == std::string::npos);

    // broken: one try for what comes now, no more
    const std::uint64_t before = stats.workers_died;
    CHECK_THROWS_AS(static_cast<void>(pool.submit(&add_one, 1).get()), brood::LaunchError);
    stats = pool.stats();
    CHECK(stats.state == brood::PoolState::broken);
    CHECK(stats.workers_died - before <= 2);

    // nobody starts workers for nothing
    const auto cpu = cpu_time();
    const std::uint64_t started = pool.stats().workers_started;
    CHECK_FALSE(pool.submit(&add_one, 1).outcome());
    CHECK(cpu_time() - cpu < 500ms);
    CHECK(pool.stats().workers_started - started <= 2);

    mood.end();
    CHECK(pool.submit(&add_one, 1).get() == 2);
    CHECK(pool.stats().state == brood::PoolState::running);
    CHECK(pool.stats().cause.empty());
    pool.close();
    CHECK(pool.stats().state == brood::PoolState::closed);
  }
}

TEST_CASE_TEMPLATE("a start hook that hangs breaks the pool within its start timeouts", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::PoolOptions options;
  options.workers = 1;
  options.start_timeout = 1'500ms;  // the server needs some, too
  options.on_worker_start = [] {
    for (;;) ::pause();
  };
  brood::Pool<Policy> pool(options);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&add_one, 1).get()), doctest::Contains("was not up after 1500 ms"),
                       brood::LaunchError);
  CHECK(pool.stats().state == brood::PoolState::broken);
}

TEST_CASE("a ForkPolicy pool that lost its snapshot stays broken, and takes no other in its place") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  CHECK(pool.submit(&add_one, 1).get() == 2);
  const pid_t server = pool.stats().server_pid;
  ::kill(server, SIGKILL);
  REQUIRE(support::eventually([&] { return pool.stats().server_pid == 0; }));
  CHECK_THROWS_AS(static_cast<void>(pool.submit(&add_one, 1).get()), brood::LaunchError);
  CHECK(pool.stats().state == brood::PoolState::broken);
  const int captured = 4;
  CHECK(pool.submit([&] { return captured; }).get() == 4);  // a snapshot of its own
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&add_one, 1).get()), doctest::Contains("Make a new pool"),
                       brood::LaunchError);
  CHECK(pool.stats().state == brood::PoolState::broken);
}

TEST_CASE_TEMPLATE("TaskOptions::retries: a task that kills each of its workers is given up, and says how often it ran", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::string path = "/tmp/brood_runs_" + std::to_string(::getpid());
  ::unlink(path.c_str());
  brood::Pool<Policy> pool({.workers = 2});
  auto poison = pool.submit({.retries = 3}, &dies_for_ever, path);
  std::vector<brood::Future<int>> others;
  for (int n = 0; n < 50; ++n) others.push_back(pool.submit(&add_one, n));
  CHECK_THROWS_WITH_AS(static_cast<void>(poison.get()), doctest::Contains("it was run 4 times (TaskOptions::retries)"),
                       brood::WorkerDied);
  for (int n = 0; n < 50; ++n) CHECK(others[static_cast<std::size_t>(n)].get() == n + 1);
  CHECK(runs_of(path, false) == 4);
  CHECK(pool.stats().state == brood::PoolState::running);
  ::unlink(path.c_str());
}

TEST_CASE_TEMPLATE("MapOptions::retries: an item that kills each of its workers is given up, and holds up no other", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::string path = "/tmp/brood_runs_" + std::to_string(::getpid());
  std::vector<std::pair<int, std::string>> items;
  for (int n = 0; n < 30; ++n) items.emplace_back(n, path);
  const auto body = [](int n, const std::string& file) { return n == 12 ? dies_for_ever(file) : n; };
  const auto fits = [&](const std::vector<brood::Outcome<int>>& outcomes) {
    REQUIRE(outcomes.size() == 30);
    for (int n = 0; n < 30; ++n) {
      const brood::Outcome<int>& outcome = outcomes[static_cast<std::size_t>(n)];
      CAPTURE(n);
      REQUIRE(outcome.has_value() == (n != 12));
      if (outcome) CHECK(*outcome == n);
    }
    CHECK_THROWS_WITH_AS(static_cast<void>(outcomes[12].value()),
                         doctest::Contains("only this item fails, the worker is replaced; it was run 4 times "
                                           "(MapOptions::retries)"),
                         brood::WorkerDied);
    CHECK(runs_of(path, false) == 4);
    ::unlink(path.c_str());
  };
  for (const std::size_t chunk : {1U, 13U, 30U}) {  // the item is a chunk's only one, its last, one in its middle
    CAPTURE(chunk);
    ::unlink(path.c_str());
    brood::Pool<Policy> pool({.workers = 2});
    fits(pool.try_map(body, items, {.chunk_size = chunk, .retries = 3}));
    CHECK(pool.stats().done == 29);
    CHECK(pool.stats().failed == 1);
    CHECK(pool.stats().workers_died == 4);
    if constexpr (brood::CopiesHost<Policy>) {
      const int captured = 0;
      fits(pool.try_map([&](int n, const std::string& file) { return body(n, file) + captured; }, items,
                        {.chunk_size = chunk, .retries = 3}));
    }
  }
}

TEST_CASE_TEMPLATE("MapOptions::retries: an item waits for its next try, longer each time, while the others are done", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::string path = "/tmp/brood_runs_" + std::to_string(::getpid());
  ::unlink(path.c_str());
  std::vector<std::pair<int, std::string>> items;
  for (int n = 0; n < 8; ++n) items.emplace_back(n, path);
  brood::Pool<Policy> pool({.workers = 2});
  std::thread closes([&] {
    // seven tries take 1 + 2 + 4 + ... + 32 ms in pauses; by then all others are done
    support::eventually([&] { return runs_of(path, false) >= 7 && pool.stats().done == 7; });
    pool.kill();
  });
  const auto begin = std::chrono::steady_clock::now();
  const auto map = [&] {
    return pool.try_map([](int n, const std::string& file) { return n == 0 ? dies_for_ever(file) : n; }, items,
                        {.chunk_size = 8, .retries = 1'000'000});
  };
  try {
    const auto outcomes = map();
    CHECK(outcomes[0].failure().kind() == brood::FailureKind::cancelled);
    for (std::size_t n = 1; n < 8; ++n) CHECK(outcomes[n].value() == static_cast<int>(n));
  } catch (const brood::PoolClosed&) {  // killed while the item was on its way back
  }
  closes.join();
  CHECK(std::chrono::steady_clock::now() - begin >= 63ms);
  ::unlink(path.c_str());
}

TEST_CASE("a call or a map that is too large says so, once, and which item it was") {
  const support::Leftovers audit;
  brood::PoolOptions options;
  options.workers = 1;
  options.max_message_bytes = 1000;
  brood::Pool<brood::ForkPolicy> pool(options);
  const auto length = [](const std::string& text) { return text.size(); };
  const std::vector<std::string> items{"a", "b", std::string(2000, 'c')};
  const std::string why = "it is 2008 bytes long, more than PoolOptions::max_message_bytes (1000); raise the limit, or pass a file "
                          "name instead of its contents";
  const auto text_of = [](auto call) -> std::string {
    try {
      call();
    } catch (const brood::MessageTooLarge& error) {
      return error.what();
    }
    return "no exception";
  };
  const std::string submitted = text_of([&] { pool.submit(length, items[2]); });
  CHECK_MESSAGE(submitted.starts_with("the call of "), submitted);
  CHECK_MESSAGE(submitted.find("), item") == std::string::npos, submitted);
  const std::string mapped = text_of([&] { pool.map(length, items); });
  CHECK_MESSAGE(mapped.ends_with(", item 2, can't be sent to a worker: " + why), mapped);
  const std::string tried = pool.try_map(length, items)[2].failure().message();
  CHECK(tried == mapped);
  CHECK_MESSAGE(tried.find("lambda") == tried.rfind("lambda"), tried);
  const std::string result = text_of([&] { pool.submit([](std::size_t size) { return std::string(size, 'r'); }, 3000).get(); });
  CHECK_MESSAGE(result.ends_with(": its result is 3008 bytes long, more than PoolOptions::max_message_bytes (1000); raise the "
                                 "limit or return less"), result);
}

TEST_CASE("PoolClosed says what the pool was: closed, killed or being destroyed; a name may be empty") {
  const support::Leftovers audit;
  const auto submits = [](auto& pool) { return [&pool] { static_cast<void>(pool.submit(&add_one, 1)); }; };
  brood::Pool<brood::ForkPolicy> pool({.workers = 1, .name = "sums"});
  pool.close();
  CHECK_THROWS_WITH_AS(submits(pool)(), "the pool sums takes no more work: it was closed", brood::PoolClosed);
  pool.kill();
  CHECK_THROWS_WITH_AS(submits(pool)(), "the pool sums takes no more work: it was killed", brood::PoolClosed);
  pool.close();
  CHECK_THROWS_WITH_AS(submits(pool)(), "the pool sums takes no more work: it was killed", brood::PoolClosed);
  const support::Gate gate;
  auto nameless = std::make_unique<brood::Pool<brood::ForkPolicy>>(brood::PoolOptions{.workers = 1, .name = ""});
  auto holds = nameless->submit(&support::wait_for_gate, gate.path(), 1);
  brood::Pool<brood::ForkPolicy>& ending = *nameless;
  std::thread destroys([&] { nameless.reset(); });
  std::string text;
  CHECK(support::eventually([&] {
    try {
      submits(ending)();
    } catch (const brood::PoolClosed& error) {
      text = error.what();
    }
    return !text.empty();
  }));
  gate.open();
  destroys.join();
  CHECK(holds.get() == 1);
  CHECK(text == "the pool takes no more work: it is being destroyed");
}

TEST_CASE("options that let nothing work are refused by name") {
  const support::Leftovers audit;
  brood::PoolOptions options;
  options.max_message_bytes = 0;
  CHECK_THROWS_WITH_AS(brood::Pool<brood::ForkPolicy>{options}, doctest::Contains("PoolOptions::max_message_bytes is 0; "),
                       std::invalid_argument);
  options = {};
  options.start_timeout = 0ms;
  CHECK_THROWS_WITH_AS(brood::Pool<brood::InlinePolicy>{options}, doctest::Contains("PoolOptions::start_timeout is 0 ms; "),
                       std::invalid_argument);
}

TEST_CASE_TEMPLATE("a task that waits for its next try can be cancelled, and goes with the pool", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::string path = "/tmp/brood_runs_" + std::to_string(::getpid());
  ::unlink(path.c_str());
  brood::Future<int> left;
  {
    brood::Pool<Policy> pool({.workers = 1});
    for (int round = 0; round < 10; ++round) {
      auto poison = pool.submit({.retries = 1'000'000}, &dies_for_ever, path);
      REQUIRE(support::eventually([&] { return runs_of(path, false) > round * 2 + 1; }));
      CHECK(poison.cancel());
      CHECK_THROWS_AS(static_cast<void>(poison.get()), brood::TaskCancelled);
    }
    auto poison = pool.submit({.retries = 1'000'000}, &dies_for_ever, path);
    pool.cancel_pending();
    left = pool.submit({.retries = 1'000'000}, &dies_for_ever, path);
    pool.kill();
    CHECK(poison.ready());
  }
  CHECK_THROWS_AS(static_cast<void>(left.get()), brood::TaskCancelled);
  ::unlink(path.c_str());
}

TEST_CASE_TEMPLATE("a death just before the deadline is retried like any other", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::string path = "/tmp/brood_runs_" + std::to_string(::getpid());
  brood::Pool<Policy> pool({.workers = 1});
  for (int round = 0; round < 20; ++round) {
    ::unlink(path.c_str());
    const auto outcome = pool.submit({.timeout = 50ms, .retries = 3}, &dies_at_its_deadline, path).outcome();
    // whichever was first: the deadline, or the death and a second run
    if (outcome) {
      CHECK(*outcome == 7);
    } else {
      CHECK_MESSAGE(outcome.failure().kind() == brood::FailureKind::timeout, outcome.failure().message());
      CHECK(runs_of(path, false) == 1);
    }
  }
  ::unlink(path.c_str());
}

TEST_CASE_TEMPLATE("PoolOptions::max_pending_bytes: a call beyond it is QueueFull, until others are done", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  support::Gate gate;
  brood::PoolOptions options;
  options.workers = 1;
  options.max_pending_bytes = 100'000;
  brood::Pool<Policy> pool(options);
  const auto size = [](const std::string& text) { return text.size(); };
  auto running = pool.submit(&support::wait_for_gate, gate.path(), 1);
  std::vector<brood::Future<std::size_t>> waiting;
  for (int n = 0; n < 9; ++n) waiting.push_back(pool.submit(size, std::string(10'000, 'x')));
  CHECK_THROWS_WITH_AS(pool.submit(size, std::string(10'000, 'x')), doctest::Contains("PoolOptions::max_pending_bytes (100000)"),
                       brood::QueueFull);
  CHECK_THROWS_WITH_AS(pool.submit(size, std::string(200'000, 'x')), doctest::Contains("Raise the limit"), brood::QueueFull);
  CHECK(waiting.back().cancel());
  waiting.pop_back();
  waiting.push_back(pool.submit(size, std::string(10'000, 'x')));  // room again
  gate.open();
  for (auto& each : waiting) CHECK(each.get() == 10'000);
  CHECK(running.get() == 1);
  // a map keeps to few chunks at a time by itself, and is not refused
  const std::vector<std::string> texts(100, std::string(50'000, 'x'));
  CHECK(pool.map(size, texts) == std::vector<std::size_t>(100, 50'000));
  CHECK(pool.submit(size, std::string(90'000, 'x')).get() == 90'000);
}
