// SPDX-License-Identifier: MIT
// PoolOptions::log: what happens in a pool, in words.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using namespace std::chrono_literals;
using Server = brood::ForkServerPolicy<>;

/// What a hook was told.
class Diary {
 public:
  brood::LogHook hook() {
    return [this](brood::LogLevel level, std::string_view text) {
      const std::lock_guard lock(mutex_);
      lines_.push_back({level, std::string(text)});
    };
  }
  /// How many lines of that level have all of the words.
  std::size_t count(brood::LogLevel level, const std::vector<std::string>& words) const {
    const std::lock_guard lock(mutex_);
    std::size_t found = 0;
    for (const auto& [at, text] : lines_) {
      bool all = at == level;
      for (const std::string& word : words) all = all && text.find(word) != std::string::npos;
      found += all;
    }
    return found;
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    std::string all;
    for (const auto& [level, text] : lines_) all += std::to_string(static_cast<int>(level)) + " " + text + "\n";
    return all;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::pair<brood::LogLevel, std::string>> lines_;
};

int die(int signal) { return ::raise(signal); }
int add_one(int n) { return n + 1; }
void fail_to_start() { throw std::runtime_error("no licence"); }

constexpr auto info = brood::LogLevel::info;
constexpr auto warning = brood::LogLevel::warning;
constexpr auto error = brood::LogLevel::error;

}  // namespace

TEST_CASE("PoolOptions::log tells of servers, workers, deaths with their cause, and replacements") {
  const support::Leftovers audit;
  Diary diary;
  {
    brood::Pool<Server> pool({.workers = 1, .name = "resize", .log = diary.hook()});
    const pid_t server = pool.stats().server_pid;
    CHECK(diary.count(info, {"resize: ", "the server (pid " + std::to_string(server) + ") is ready"}) == 1);
    CHECK(pool.submit(&add_one, 1).get() == 2);
    const pid_t worker = pool.stats().workers.at(0).pid;
    CHECK(diary.count(info, {"resize: ", "worker 0 (pid " + std::to_string(worker) + ") is up"}) == 1);
    auto dead = pool.submit(&die, SIGSEGV);
    dead.wait();
    pool.stats();  // hears of what is left to hear
    CHECK(diary.count(warning, {"worker 0 (pid " + std::to_string(worker) + ")", "SIGSEGV", "while it ran task 2 (", "die("}) == 1);
    auto late = pool.submit({.timeout = 20ms}, [] {
      for (;;) ::pause();
    });
    late.wait();
    pool.stats();
    CHECK(diary.count(warning, {"SIGKILL", "passed its deadline", "while it ran task 3"}) == 1);
    CHECK(pool.submit(&add_one, 1).get() == 2);
    ::kill(server, SIGKILL);
    CHECK(support::eventually([&] {
      pool.stats();
      return diary.count(warning, {"server"}) == 1;
    }));
    CHECK(pool.submit(&add_one, 1).get() == 2);
    CHECK(diary.count(info, {"the server (pid ", "is ready"}) == 2);
  }
  CHECK_MESSAGE(diary.count(error, {}) == 0, diary.text());
}

TEST_CASE("PoolOptions::log tells of a pool that is broken, and of workers that have had their share") {
  const support::Leftovers audit;
  Diary diary;
  {
    brood::Pool<Server> pool({.workers = 1, .on_worker_start = &fail_to_start, .log = diary.hook()});
    CHECK_THROWS_AS(pool.submit(&add_one, 1).get(), brood::LaunchError);
    CHECK_MESSAGE(diary.count(error, {"the pool is broken", "no licence"}) == 1, diary.text());
  }
  {
    brood::Pool<Server> pool({.workers = 1, .tasks_per_worker = 2, .log = diary.hook()});
    for (int n = 0; n < 5; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);
    CHECK(pool.stats().workers_recycled == 2);
    CHECK_MESSAGE(diary.count(info, {"worker 0 (pid ", "is replaced, after 2 tasks"}) == 2, diary.text());
  }
}

TEST_CASE("a log hook may call the pool, and what it throws is lost") {
  const support::Leftovers audit;
  std::atomic<int> called{0};
  brood::Pool<Server>* self = nullptr;
  brood::PoolOptions options{.workers = 2};
  options.log = [&](brood::LogLevel, std::string_view) {
    ++called;
    if (self != nullptr) self->stats();
    throw std::runtime_error("from the hook");
  };
  brood::Pool<Server> pool(std::move(options));
  self = &pool;
  CHECK(pool.map(&add_one, std::vector{1, 2, 3}) == std::vector{2, 3, 4});
  CHECK_FALSE(pool.submit(&die, SIGKILL).outcome().has_value());
  CHECK(support::eventually([&] {
    pool.stats();
    return called >= 4;  // the server, two workers, a death
  }));
}

TEST_CASE("without a hook nothing is told, and InlinePolicy has nothing to tell") {
  const support::Leftovers audit;
  Diary diary;
  brood::Pool<brood::InlinePolicy> pool({.log = diary.hook()});
  CHECK(pool.submit(&add_one, 1).get() == 2);
  CHECK_MESSAGE(diary.text().empty(), diary.text());
}
