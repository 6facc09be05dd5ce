// SPDX-License-Identifier: MIT
// A pool that can't get a worker up says so in bounded time, fails what waits with the cause, and mends itself when
// workers come up again. Retries, and calls that wait.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
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
  options.start_timeout = 200ms;
  options.on_worker_start = [] {
    for (;;) ::pause();
  };
  brood::Pool<Policy> pool(options);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&add_one, 1).get()), doctest::Contains("was not up after 200 ms"),
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
