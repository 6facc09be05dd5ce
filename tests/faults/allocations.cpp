// SPDX-License-Identifier: MIT
// Calls of a pool where memory runs out in the middle: one that throws has left nothing behind.
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <optional>
#include <vector>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

/// How many times this thread gets memory before it once gets none; negative: always.
thread_local int allocations_left = -1;

void* allocate(std::size_t size) {
  if (allocations_left >= 0 && allocations_left-- == 0) throw std::bad_alloc();
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

int add_one(int n) { return n + 1; }
void sleep_on() { ::sleep(3'600); }

constexpr double untouched = -7;
std::vector<double> ones(std::size_t count) { return std::vector<double>(count, 1.0); }

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

TEST_CASE("submit_into: a call that throws for want of memory writes nowhere, and the pool goes on") {
  const support::Leftovers audit;
  const auto ran = support::run_in_child([] {
    std::setvbuf(stdout, nullptr, _IONBF, 0);  // what is said is there also when this is killed
    brood::Pool<support::ForkServer> pool({.workers = 1});
    CHECK(pool.submit(&ones, std::size_t{1}).get().size() == 1);
    int thrown = 0;
    int bad = 0;
    for (int nth = 0; nth < 40; ++nth) {
      for (int round = 0; round < 16; ++round) {  // containers of the pool grow in some calls only
        std::vector<double> room(1'000, untouched);
        std::optional<brood::Future<std::size_t>> future;
        const auto before = pool.stats();
        allocations_left = nth;
        try {
          future.emplace(pool.submit_into(room, &ones, room.size()));
        } catch (const std::bad_alloc&) {
        }
        allocations_left = -1;
        if (future) {
          if (!future->wait_for(std::chrono::seconds(10))) {
            std::printf("allocation %d, round %d: never ran\n", nth, round);
            return 3;
          }
          if (future->get() != room.size()) ++bad;
          continue;
        }
        ++thrown;
        const auto over = [&] {
          const auto now = pool.stats();
          return now.queued + now.running == 0;
        };
        if (!support::eventually(over, std::chrono::seconds(10))) {
          std::printf("allocation %d, round %d: accepted, and lost\n", nth, round);
          return 2;
        }
        if (pool.stats().done != before.done || std::count(room.begin(), room.end(), untouched) != 1'000) {
          std::printf("allocation %d, round %d: ran without a future\n", nth, round);
          ++bad;
        }
      }
    }
    std::printf("%d calls threw\n", thrown);
    return bad == 0 && thrown > 16 ? 0 : 1;
  });
  CHECK_MESSAGE((ran.status.exited() && ran.status.code() == 0), ran.output);
}

TEST_CASE_TEMPLATE("a pool whose constructor gets no memory leaves no process and no descriptor behind", Policy, brood::ForkPolicy,
                   brood::SpawnPolicy, support::ForkServer) {
  const support::Leftovers audit;
  const auto ran = support::run_in_child([] {
    std::setvbuf(stdout, nullptr, _IONBF, 0);
    { brood::Pool<Policy> warm({.workers = 1}); }
    int thrown = 0;
    for (int nth = 0; nth < 400; ++nth) {
      const auto before = support::own_descriptors();
      std::optional<brood::Pool<Policy>> pool;
      allocations_left = nth;
      try {
        pool.emplace(brood::PoolOptions{.workers = 1});
      } catch (const std::exception&) {  // std::bad_alloc, or what a launch makes of it
      }
      const bool ran_out = allocations_left < 0;
      allocations_left = -1;
      if (pool && pool->submit(&add_one, 1).get() != 2) return 2;
      if (!pool) ++thrown;
      pool.reset();
      if (::waitpid(-1, nullptr, WNOHANG) != -1 || errno != ECHILD) {
        std::printf("allocation %d: a child is left\n", nth);
        return 3;
      }
      if (support::own_descriptors() != before) {
        std::printf("allocation %d: descriptors are left\n", nth);
        return 4;
      }
      if (!ran_out) {
        std::printf("%d constructors threw\n", thrown);
        return thrown > 20 ? 0 : 5;
      }
    }
    return 6;
  });
  CHECK_MESSAGE((ran.status.exited() && ran.status.code() == 0), ran.output);
}

TEST_CASE("a deadline is kept though memory runs out just when it is looked at") {
  const support::Leftovers audit;
  const auto ran = support::run_in_child([] {
    std::setvbuf(stdout, nullptr, _IONBF, 0);
    brood::Pool<support::ForkServer> pool({.workers = 1, .helper_thread = false});
    int thrown = 0;
    for (int nth = 0; nth < 60; ++nth) {
      if (pool.submit(&add_one, 1).get() != 2) return 2;
      auto future = pool.submit({.timeout = std::chrono::milliseconds(20)}, &sleep_on);
      if (!support::wait_until_running(pool, 1)) return 3;
      ::usleep(21'000);
      allocations_left = nth;
      try {
        future.wait_for(std::chrono::milliseconds(20));
      } catch (const std::bad_alloc&) {
        ++thrown;
      }
      allocations_left = -1;
      if (!future.wait_for(std::chrono::seconds(20))) {
        std::printf("allocation %d: the deadline was lost\n", nth);
        return 4;
      }
      const auto outcome = future.outcome();
      const bool no_memory = !outcome && outcome.failure().message().find("no memory") != std::string::npos;
      if (outcome || (outcome.failure().kind() != brood::FailureKind::timeout && !no_memory)) {
        std::printf("allocation %d: %s\n", nth, outcome ? "a value" : outcome.failure().message().c_str());
        return 5;
      }
    }
    std::printf("%d waits threw\n", thrown);
    return thrown > 0 ? 0 : 6;
  });
  CHECK_MESSAGE((ran.status.exited() && ran.status.code() == 0), ran.output);
}
