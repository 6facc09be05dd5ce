// SPDX-License-Identifier: MIT
// PoolOptions::on_worker_start and on_worker_stop: with arguments, when they run, and what they can't spoil.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
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

namespace {

using namespace std::chrono_literals;
using ForkServer = brood::ForkServerPolicy<>;

/// A file to which hooks append lines.
class Log {
 public:
  Log() : path_("/tmp/brood_hooks_" + std::to_string(::getpid()) + "_" + std::to_string(++count)) { ::unlink(path_.c_str()); }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  ~Log() { ::unlink(path_.c_str()); }

  const std::string& path() const { return path_; }
  std::vector<std::string> lines() const {
    std::vector<std::string> all;
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
  std::set<std::string> set() const {
    const auto all = lines();
    return {all.begin(), all.end()};
  }

 private:
  static inline int count = 0;
  std::string path_;
};

void append(const std::string& path, const std::string& line) {
  const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  const std::string text = line + '\n';
  [[maybe_unused]] const auto written = ::write(fd, text.data(), text.size());
  ::close(fd);
}

std::string greeting;
std::vector<int> numbers;
void remember(const std::string& text, std::vector<int> values) {
  greeting = text;
  numbers = std::move(values);
}

/// Says which worker it was, and how many tasks it had run.
int tasks_run = 0;
void say_farewell(const std::string& path) {
  append(path, std::to_string(brood::this_worker::pid()) + " " + std::to_string(brood::this_worker::index()) + " " +
                   std::to_string(tasks_run) + (brood::this_worker::random_engine()() != 0 ? "" : " no numbers"));
}
pid_t count_task() {
  ++tasks_run;
  return ::getpid();
}
int add_one(int n) { return n + 1; }

struct Prefix {
  std::string text;
  void operator()() const { greeting = text; }
};

/// Can be sent, but not taken apart.
struct Stubborn {};

}  // namespace

template <>
struct brood::Serializer<Stubborn> {
  static void write(Writer& out, const Stubborn&) { out.value(1); }
  static Stubborn read(Reader& in) {
    in.value<int>();
    throw std::runtime_error("it does not come apart");
  }
};

TEST_CASE_TEMPLATE("hooks: on_worker_start with arguments, as what they were when the hook was made", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  std::vector<int> values{1, 2, 3};
  brood::WorkerHook hook = brood::worker_hook(&remember, "hello", values);
  values.clear();
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 1, .on_worker_start = hook});
  for (int n = 0; n < 3; ++n) {
    const auto [text, found] = pool.submit([] { return std::pair(greeting, numbers); }).get();
    CHECK(text == "hello");
    CHECK(found == std::vector{1, 2, 3});
  }
  CHECK(greeting.empty());
}

TEST_CASE("hooks: what can be one") {
  const support::Leftovers audit;
  const auto greets = [](brood::WorkerHook hook) {
    brood::Pool<ForkServer> pool({.workers = 1, .on_worker_start = std::move(hook)});
    return pool.submit([] { return greeting; }).get();
  };
  CHECK(greets(Prefix{"a functor"}) == "a functor");
  CHECK(greets([] { greeting = "a lambda"; }) == "a lambda");
  CHECK(greets([] { return greeting = "its result is dropped"; }) == "its result is dropped");
  CHECK(greets(brood::worker_hook([](char letter, auto more) { greeting = letter + more; }, 'x', std::string("yz"))) == "xyz");
  CHECK(greets({}) == "");
  CHECK(greets(nullptr) == "");
  void (*none)() = nullptr;
  CHECK(greets(none) == "");
  CHECK_FALSE(brood::WorkerHook(none));
  CHECK(brood::WorkerHook(&tzset));
  const brood::SharedArray<int> shared(std::vector{4, 5});
  CHECK(greets(brood::worker_hook([](const brood::SharedArray<const int>& array) { greeting = std::to_string(array[1]); },
                                  shared)) == "5");
}

TEST_CASE("hooks: a descriptor can't be an argument: there is one hook for all workers") {
  const support::Leftovers audit;
  CHECK_THROWS_WITH_AS(brood::worker_hook([](const brood::Fd&) {}, brood::Fd::duplicate(0)), doctest::Contains("worker_hook"),
                       brood::SerializationError);
}

TEST_CASE("hooks: arguments that can't be taken apart, and a hook that throws, are a LaunchError") {
  const support::Leftovers audit;
  brood::Pool<ForkServer> pool({.workers = 1, .on_worker_start = brood::worker_hook([](const Stubborn&) {}, Stubborn{})});
  CHECK_THROWS_WITH_AS(pool.submit(&add_one, 1).get(), doctest::Contains("it does not come apart"), brood::LaunchError);
  const auto refuse = [](const std::string& why) { throw std::runtime_error(why); };
  brood::Pool<ForkServer> other({.workers = 1, .on_worker_start = brood::worker_hook(refuse, "no licence")});
  CHECK_THROWS_WITH_AS(other.submit(&add_one, 1).get(),
                       doctest::Contains("PoolOptions::on_worker_start threw std::runtime_error: no licence"), brood::LaunchError);
}

TEST_CASE_TEMPLATE("hooks: on_worker_stop runs once in each worker that leaves, behind its last task", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Log log;
  std::map<pid_t, int> ran;
  {
    const auto hook = brood::worker_hook(&say_farewell, log.path());
    brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 2, .on_worker_stop = hook});
    for (int n = 0; n < 7; ++n) ++ran[pool.submit(&count_task).get()];
    CHECK(pool.submit({.limits = {.cpu_time = 100s}}, &count_task).get() > 0);
    CHECK(pool.stats().workers_died == 0);
  }
  std::set<std::string> expected;
  const auto lines = log.lines();
  std::set<pid_t> pids;
  for (const std::string& line : lines) {
    const pid_t pid = std::stoi(line);
    CHECK_MESSAGE(pids.insert(pid).second, line);
    if (ran.count(pid) == 0) continue;  // that of the task with limits, or one that had none
    CHECK_MESSAGE(line.find("no numbers") == std::string::npos, line);
  }
  for (const auto& [pid, tasks] : ran) CHECK_MESSAGE(pids.count(pid) == 1, pid);
  CHECK(std::count_if(lines.begin(), lines.end(), [](const std::string& line) { return line.ends_with(" 2"); }) >= 3);
}

TEST_CASE("hooks: on_worker_stop of idle, spare and recycled workers, and of copies for a closure") {
  const support::Leftovers audit;
  const Log log;
  const auto hook = brood::worker_hook(&say_farewell, log.path());
  {
    brood::Pool<brood::ForkPolicy> pool({.workers = 1, .spares = 2, .on_worker_stop = hook});
    CHECK(support::eventually([&] { return pool.stats().spares == 2; }));
    int captured = 1;
    CHECK(pool.submit([&] { return captured; }).get() == 1);
    CHECK(support::eventually([&] { return log.lines().size() == 1; }));  // the copy has left when it was not needed any more
  }
  CHECK(log.set().size() == 3);
  {
    brood::Pool<ForkServer> grown({.workers = 1, .memory_per_worker = 1, .on_worker_stop = hook});
    CHECK_THROWS_AS(grown.submit(&add_one, 1).get(), brood::LaunchError);  // beyond its limit before its hello: never was one
  }
  CHECK(log.set().size() == 3);
}

TEST_CASE("hooks: no on_worker_stop after a kill, a crash, an exit or a deadline") {
  const support::Leftovers audit;
  const Log log;
  const support::Gate gate;
  {
    brood::Pool<ForkServer> pool({.workers = 2, .on_worker_stop = brood::worker_hook(&say_farewell, log.path())});
    CHECK_FALSE(pool.submit([] { std::abort(); }).outcome());
    CHECK_FALSE(pool.submit([] { std::exit(0); }).outcome());
    CHECK_FALSE(pool.submit({.timeout = 50ms}, [] { for (;;) ::pause(); }).outcome());
    auto running = pool.submit(&support::wait_for_gate, gate.path(), 1);
    CHECK(support::wait_until_running(pool, 1));
    CHECK(running.cancel());
    auto killed = pool.submit(&support::wait_for_gate, gate.path(), 1);
    CHECK(support::wait_until_running(pool, 1));
    pool.kill();
    CHECK_THROWS_AS(killed.get(), brood::TaskCancelled);
  }
  CHECK(log.lines().empty());
}

TEST_CASE("hooks: an on_worker_stop that throws, crashes, exits or ends its thread harms nothing") {
  const support::Leftovers audit;
  const std::vector<void (*)()> hooks{[] { throw std::runtime_error("not now"); }, [] { throw 1; }, [] { std::abort(); },
                                      [] { ::_exit(3); }, [] { std::exit(4); }, [] { ::pthread_exit(nullptr); },
                                      [] { ::raise(SIGKILL); }, [] { if (::fork() == 0) return; }};
  for (const auto hook : hooks) {
    brood::Pool<ForkServer> pool({.workers = 2, .tasks_per_worker = 1, .on_worker_stop = hook});
    for (int n = 0; n < 4; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);
    CHECK(pool.map(&add_one, std::vector{1, 2, 3}) == std::vector{2, 3, 4});
    const auto stats = pool.stats();
    CHECK(stats.state == brood::PoolState::running);
    CHECK(stats.workers_died == 0);
    CHECK(stats.failed == 0);
  }
}

TEST_CASE_TEMPLATE("hooks: an on_worker_stop that hangs is ended at stop_grace, also when nobody waits", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool(
      {.workers = 1, .tasks_per_worker = 1, .stop_grace = 100ms, .on_worker_stop = [] { for (;;) ::pause(); }});
  const pid_t first = pool.submit(&count_task).get();
  CHECK(support::eventually([&] { return !support::process_info(first); }));  // the pool is not asked meanwhile
  const pid_t second = pool.submit(&count_task).get();
  CHECK(second != first);
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE("hooks: one that prints much does not hang where output is captured") {
  const support::Leftovers audit;
  const Log log;
  {
    brood::Pool<ForkServer> pool({.workers = 1, .tasks_per_worker = 1, .output = brood::Output::capture,
                                  .on_worker_stop = brood::worker_hook([](const std::string& path) {
                                    std::puts(std::string(1 << 20, 'x').c_str());
                                    std::fflush(stdout);
                                    append(path, "done");
                                  }, log.path())});
    auto future = pool.submit([] { std::puts("of the task"); });
    future.get();
    CHECK(future.output() == "of the task\n");
    CHECK(support::eventually([&] { return log.lines().size() == 1; }));
    auto second = pool.submit([] { std::puts("of the second"); });
    second.get();
    CHECK(second.output() == "of the second\n");
  }
  CHECK(log.lines().size() == 2);
}

TEST_CASE("hooks: InlinePolicy has no workers, and calls none") {
  const support::Leftovers audit;
  {
    brood::Pool<brood::InlinePolicy> pool({.on_worker_start = [] { std::abort(); }, .on_worker_stop = [] { std::abort(); }});
    CHECK(pool.submit(&add_one, 1).get() == 2);
  }
  CHECK(tasks_run == 0);
}
