// SPDX-License-Identifier: MIT
// ForkServerPolicy: Preloads.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace app {

struct Model {
  Model(std::string name, int size) : file(std::move(name)), weights(static_cast<std::size_t>(size), 0.5) {}
  std::string file;
  std::vector<double> weights;
  pid_t built_in = ::getpid();
};

struct Defaulted {
  Defaulted() = default;
  explicit Defaulted(int n) : value(n) {}
  int value = 1;
};

struct Throws {
  Throws() { throw std::runtime_error("no such dictionary"); }
};
struct ThrowsInt {
  ThrowsInt() { throw 42; }
};
struct Exits {
  Exits() { ::_exit(11); }
};
struct ExitsByFunction {
  ExitsByFunction() { std::exit(12); }
};
struct Crashes {
  Crashes() { ::raise(SIGSEGV); }
};
struct Hangs {
  Hangs() {
    for (;;) ::pause();
  }
};
struct LeavesThread {
  LeavesThread() {
    std::thread([] {
      for (;;) ::pause();
    }).detach();
  }
  int value = 5;
};
struct ChangesSignals {
  ChangesSignals() {
    ::signal(SIGINT, SIG_DFL);
    ::signal(SIGTSTP, SIG_DFL);
    for (const int signal : {SIGUSR1, SIGPIPE, SIGCHLD}) ::signal(signal, SIG_IGN);
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  }
};
struct EndsItsThread {
  EndsItsThread() { ::pthread_exit(nullptr); }
};
struct ClosesAll {
  ClosesAll() {
    for (int fd = 3; fd < 100; ++fd) ::close(fd);
  }
};
struct JoinsThread {
  JoinsThread() {
    std::thread([this] { value = 6; }).join();
  }
  int value = 0;
};
struct Unreadable {
  explicit Unreadable(std::vector<int> list) {
    if (list.empty()) throw std::invalid_argument("an empty list");
  }
};

}  // namespace app

namespace {
struct Twin {
  int value = 1;
};
}  // namespace
int value_of_other_twin();  // other_twin.cpp

TEST_CASE("a Preload is built once, by the server, and seen by 64 workers") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<support::ForkServerWithPreloads> pool({.workers = 64});
  const auto at_start = pool.stats();
  REQUIRE(at_start.preloads.size() == 2);
  for (const auto& preload : at_start.preloads) {
    CHECK(preload.built == 1);
    CHECK(preload.time.count() > 0);
  }
  CHECK(at_start.preloads[0].type == "support::Numbers");
  CHECK(at_start.preloads[1].type == "support::Sums");
  std::vector<brood::Future<std::tuple<pid_t, pid_t, int, std::uintptr_t, int>>> seen;
  for (int n = 0; n < 64; ++n) {
    seen.push_back(pool.submit(
        [](const std::string& path) {
          const auto& numbers = brood::preloaded<support::Numbers>();
          const auto& sums = brood::preloaded<support::Sums>();
          support::wait_for_gate(path, 0);  // so that each of the 64 has its own worker
          return std::tuple(::getpid(), numbers.built_in, numbers.construction,
                            reinterpret_cast<std::uintptr_t>(&numbers), sums.values[10]);
        },
        gate.path()));
  }
  CHECK(support::wait_until_running(pool, 64));
  gate.open();
  std::set<pid_t> workers;
  std::set<std::uintptr_t> addresses;
  for (auto& future : seen) {
    const auto [pid, built_in, construction, address, sum] = future.get();
    workers.insert(pid);
    addresses.insert(address);
    CHECK(built_in == at_start.server_pid);
    CHECK(construction == 1);
    CHECK(sum == 385);
  }
  CHECK(workers.size() == 64);
  CHECK(addresses.size() == 1);
  CHECK(pool.stats().workers_started == 64);
  CHECK(pool.stats().preloads[0].built == 1);
}

TEST_CASE_TEMPLATE("preloaded is the same object in every task of a worker", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto look = [] {
    const auto& numbers = brood::preloaded<support::Numbers>();
    return std::tuple(numbers.values[30], numbers.built_in, numbers.construction);
  };
  const auto first = pool.submit(look).get();
  CHECK(std::get<0>(first) == 900);
  CHECK(pool.submit(look).get() == first);
  if constexpr (std::is_same_v<Policy, support::ForkServerWithPreloads>) {
    CHECK(std::get<1>(first) == pool.stats().server_pid);
  }
  CHECK(pool.submit([] { return brood::preloaded<support::Sums>().values[2]; }).get() == 5);
}

TEST_CASE_TEMPLATE("preloaded says so when it can't build the type", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  CHECK_THROWS_WITH_AS(pool.submit([] { return brood::preloaded<app::Model>().file; }).get(), doctest::Contains("app::Model"),
                       brood::Error);
}

TEST_CASE("preload_args gives a Preload its arguments") {
  const support::Leftovers audit;
  using Policy = brood::ForkServerPolicy<app::Model, app::Defaulted>;
  brood::Pool<Policy> pool({.workers = 1}, {brood::preload_args<app::Model>("m.bin", 10)});
  CHECK(pool.submit([] { return brood::preloaded<app::Model>().file; }).get() == "m.bin");
  CHECK(pool.submit([] { return brood::preloaded<app::Model>().weights.size(); }).get() == 10);
  CHECK(pool.submit([] { return brood::preloaded<app::Model>().built_in; }).get() == pool.stats().server_pid);
  CHECK(pool.submit([] { return brood::preloaded<app::Defaulted>().value; }).get() == 1);
  const std::string name = "other";
  brood::Pool<Policy> both({.workers = 1}, {brood::preload_args<app::Defaulted>(9), brood::preload_args<app::Model>(name, 1)});
  CHECK(both.submit([] { return brood::preloaded<app::Model>().file; }).get() == "other");
  CHECK(both.submit([] { return brood::preloaded<app::Defaulted>().value; }).get() == 9);
}

TEST_CASE("workers share a Preload copy-on-write: a change stays in its worker") {
  const support::Leftovers audit;
  brood::Pool<support::ForkServerWithPreloads> pool({.workers = 1, .tasks_per_worker = 1});
  const auto change = [] { return const_cast<support::Numbers&>(brood::preloaded<support::Numbers>()).values[1]++; };
  CHECK(pool.submit(change).get() == 1);
  CHECK(pool.submit(change).get() == 1);
}

TEST_CASE_TEMPLATE("a Preload that can't be built is a PreloadError that names it", Bad, app::Throws, app::ThrowsInt, app::Exits,
                   app::ExitsByFunction, app::Crashes, app::Hangs, app::LeavesThread, app::EndsItsThread, app::ClosesAll) {
  const support::Leftovers audit;
  const std::string type(brood::detail::type_name<Bad>());
  std::string cause;
  if (std::is_same_v<Bad, app::Throws>) cause = "no such dictionary";
  if (std::is_same_v<Bad, app::ThrowsInt>) cause = "int";
  if (std::is_same_v<Bad, app::Exits>) cause = "code 11";
  if (std::is_same_v<Bad, app::ExitsByFunction>) cause = "code 12";
  if (std::is_same_v<Bad, app::Crashes>) cause = "SIGSEGV";
  if (std::is_same_v<Bad, app::Hangs>) cause = "start_timeout";
  if (std::is_same_v<Bad, app::LeavesThread>) cause = "1 thread";
  if (std::is_same_v<Bad, app::EndsItsThread>) cause = "code 0";
  if (std::is_same_v<Bad, app::ClosesAll>) cause = "somebody closed its descriptors";
  const auto limit = std::is_same_v<Bad, app::Hangs> ? support::short_start_timeout : std::chrono::milliseconds(20'000);
  try {
    // the Preload before it is fine, the one behind it never built
    brood::Pool<brood::ForkServerPolicy<support::Numbers, Bad, app::Defaulted>> pool({.workers = 1, .start_timeout = limit});
    FAIL("no exception");
  } catch (const brood::PreloadError& error) {
    const std::string text = error.what();
    CHECK(error.preload() == type);
    CHECK_MESSAGE(text.find(type) != std::string::npos, text);
    CHECK_MESSAGE(text.find(cause) != std::string::npos, text);
  }
}

TEST_CASE("workers start with clean signals, whatever a Preload has done to them") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkServerPolicy<app::ChangesSignals>> pool({.workers = 1});
  const auto unusual = pool.submit([] {
                             std::vector<int> found;
                             sigset_t mask;
                             ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
                             for (const int signal : {SIGINT, SIGTSTP, SIGUSR1, SIGPIPE, SIGCHLD, SIGTERM}) {
                               struct sigaction now {};
                               ::sigaction(signal, nullptr, &now);
                               const auto wanted = signal == SIGINT || signal == SIGTSTP ? SIG_IGN : SIG_DFL;
                               if (now.sa_handler != wanted || ::sigismember(&mask, signal) == 1) found.push_back(signal);
                             }
                             return found;
                           })
                           .get();
  CHECK(unusual.empty());
  const auto died = pool.submit([] { ::raise(SIGKILL); }).outcome();  // ends are still reported
  CHECK(died.failure().signal() == SIGKILL);
}

TEST_CASE("Preloads with the same name in two source files are two") {
  const support::Leftovers audit;
  CHECK(brood::preloaded<Twin>().value == 1);
  brood::Pool<brood::ForkServerPolicy<Twin>> pool({.workers = 1});
  CHECK(pool.submit([] { return brood::preloaded<Twin>().value; }).get() == 1);
  CHECK(pool.submit(&value_of_other_twin).get() == 77);
}

TEST_CASE("ForkServerPolicy::allow_threads lets a Preload leave threads") {
  const support::Leftovers audit;
  brood::ForkServerPolicy<app::LeavesThread> policy;
  policy.allow_threads = true;
  brood::Pool<brood::ForkServerPolicy<app::LeavesThread>> pool({.workers = 1}, policy);
  CHECK(pool.submit([] { return brood::preloaded<app::LeavesThread>().value; }).get() == 5);
}

TEST_CASE("a Preload may use threads that it joins") {
  const support::Leftovers audit;
  for (int n = 0; n < 20; ++n) {
    brood::Pool<brood::ForkServerPolicy<app::JoinsThread>> pool({.workers = 1});
    CHECK(pool.submit([] { return brood::preloaded<app::JoinsThread>().value; }).get() == 6);
  }
}

TEST_CASE("arguments that a Preload refuses are its failure") {
  const support::Leftovers audit;
  using Policy = brood::ForkServerPolicy<app::Unreadable>;
  CHECK_THROWS_WITH_AS(brood::Pool<Policy>({.workers = 1}, {brood::preload_args<app::Unreadable>(std::vector<int>())}),
                       doctest::Contains("an empty list"), brood::PreloadError);
  const brood::Pool<Policy> pool({.workers = 1}, {brood::preload_args<app::Unreadable>(std::vector<int>{1})});
  CHECK(pool.stats().preloads.size() == 1);
}

TEST_CASE("async with a Preload that fails throws at the call") {
  const support::Leftovers audit;
  CHECK_THROWS_AS(static_cast<void>(brood::async<brood::ForkServerPolicy<app::Throws>>([] { return 1; })), brood::PreloadError);
}

TEST_CASE("SharedLibrary opens a library in the server") {
  const support::Leftovers audit;
  using Math = brood::SharedLibrary<"libm.so.6">;
  brood::Pool<brood::ForkServerPolicy<Math>> pool({.workers = 1});
  const auto cosine = [](double x) { return brood::preloaded<Math>().symbol<double(double)>("cos")(x); };
  CHECK(pool.submit(cosine, 0.0).get() == doctest::Approx(1.0));
  CHECK_THROWS_WITH_AS(pool.submit([] { brood::preloaded<Math>().symbol<int()>("no_such_function"); }).get(),
                       doctest::Contains("no_such_function"), brood::Error);
}

TEST_CASE("SharedLibrary that is missing is a PreloadError") {
  const support::Leftovers audit;
  using Missing = brood::SharedLibrary<"libbrood_is_not_here.so.1">;
  CHECK_THROWS_WITH_AS(brood::Pool<brood::ForkServerPolicy<Missing>>({.workers = 1}),
                       doctest::Contains("libbrood_is_not_here.so.1"), brood::PreloadError);
}
