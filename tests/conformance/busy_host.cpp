// SPDX-License-Identifier: MIT
// Hosts whose threads are in the middle of things when children start: a copied lock that nobody opens would hang them.
#include <dlfcn.h>


#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <locale>
#include <map>
#include <numeric>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/rounds.hpp"
#include "support/sanitizer.hpp"

namespace {

void allocates(unsigned seed) {
  std::map<unsigned, std::string> held;
  for (unsigned n = 0; n < 50; ++n) held[seed * 7919 + n] = std::string((seed + n * 37) % 5000, 'x');
}
void prints() {
  std::fprintf(stderr, "%s", "");
  std::clog << "";
  std::ostringstream text;
  text << 1.5 << ' ' << 42;
  if (text.str() != "1.5 42") std::abort();
}
void opens() {
  if (void* const library = ::dlopen("libm.so.6", RTLD_NOW)) ::dlclose(library);
}
void localizes() {
  const std::locale classic("C");
  std::ostringstream text;
  text.imbue(classic);
  text << 1'000'000;
}

enum class Locks : bool { of_libc, of_everything };

/// Eight threads that take and give back locks all the time, for as long as this lives.
class Busy {
 public:
  explicit Busy(Locks locks) {
    for (unsigned n = 0; n < 8; ++n) {
      threads_.emplace_back([this, n, locks] {
        while (!quit_) {
          allocates(n);
          if (n % 2 == 0) prints();
          if (locks == Locks::of_everything && n % 4 == 1) opens();
          if (locks == Locks::of_everything && n % 4 == 3) localizes();
          turns_[n].fetch_add(1);
        }
      });
    }
    for (const auto& each : turns_) {
      while (each == 0) std::this_thread::yield();
    }
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  ~Busy() {
    quit_ = true;
    for (std::thread& each : threads_) each.join();
  }

 private:
  std::atomic<bool> quit_ = false;
  std::array<std::atomic<unsigned>, 8> turns_{};
  std::vector<std::thread> threads_;
};

/// A task that needs everything.
int uses_all(int n) {
  allocates(static_cast<unsigned>(n));
  prints();
  opens();
  localizes();
  return n;
}
/// One that needs what libc makes safe across a fork.
int uses_libc(int n) {
  allocates(static_cast<unsigned>(n));
  std::fprintf(stderr, "%s", "");
  return n;
}

}  // namespace

TEST_CASE_TEMPLATE("workers of an exec'ed server start and work, whatever the host's threads are in the middle of", Policy,
                   brood::SpawnPolicy, support::ForkServer, support::ForkServerWithPreloads) {
  const support::Leftovers audit;
  const Busy busy(Locks::of_everything);
  for (const int round : support::rounds(support::has_sanitizer ? 1 : 2, 167)) {  // of 60 workers
    CAPTURE(round);
    brood::Pool<Policy> pool({.workers = 4, .tasks_per_worker = 1});
    std::vector<int> inputs(support::has_sanitizer ? 12 : 60);
    std::iota(inputs.begin(), inputs.end(), 0);
    CHECK(pool.map(&uses_all, inputs, {.chunk_size = 1}) == inputs);
    CHECK(pool.stats().workers_died == 0);
  }
}

#if !BROOD_TEST_HAS_THREAD_SANITIZER
TEST_CASE("a ForkPolicy pool refuses a host with threads; told to go on, its workers can allocate and print") {
  const support::Leftovers audit;
  const Busy busy(Locks::of_libc);
  CHECK_THROWS_AS(brood::Pool<brood::ForkPolicy>({.workers = 1}), brood::HostIsThreaded);
  for (const int round : support::rounds(support::has_sanitizer ? 4 : 20, 2'500)) {  // of at least four workers
    CAPTURE(round);
    brood::Pool<brood::ForkPolicy> pool({.workers = 2, .tasks_per_worker = 2}, brood::ForkPolicy{.allow_threads = true});
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 8; ++n) futures.push_back(pool.submit(&uses_libc, n));
    for (int n = 0; n < 8; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == n);
  }
}
#endif
