// SPDX-License-Identifier: MIT
// Code in a shared library that the tests open at run time. It has its own copy of the library's variables.
#include <cstdint>
#include <stdexcept>
#include <string>

#include <brood/policy/fork.hpp>
#include <brood/policy/fork_server.hpp>
#include <brood/policy/spawn.hpp>
#include <brood/pool/pool.hpp>
#include <brood/worker/context.hpp>

namespace {

int times_three(int n) { return 3 * n; }

struct Offset {
  int by = 0;
  int operator()(int n) const { return n + by; }
};

/// Everything that a library may do with a pool that its host has made. 0: as it should be.
template <class Policy>
int use(brood::Pool<Policy>& pool) {
  if (pool.submit([](int n) { return times_three(n); }, 14).get() != 42) return 1;
  if (pool.submit(&times_three, 14).get() != 42) return 2;
  if (pool.submit(Offset{2}, 40).get() != 42) return 3;
  if (pool.map(&times_three, std::vector{1, 2, 3}) != std::vector{3, 6, 9}) return 4;
  auto numbered = pool.submit([] { return brood::this_task::id(); });
  if (numbered.get() != numbered.id()) return 5;
  const std::uint64_t number = pool.submit([] { return brood::this_worker::random_engine()(); }).get();  // the sixth call
  if (number != brood::RandomEngine(pool.stats().seed, 5)()) return 7;
  try {
    pool.submit([] { throw std::out_of_range("from the opened library"); }).get();
    return 6;
  } catch (const std::out_of_range&) {
  }
  return 0;
}

/// A pool that the library makes. "": as it should be.
template <class Policy>
std::string make_and_use() {
  try {
    brood::Pool<Policy> pool({.workers = 2});
    return use(pool) == 0 ? "" : "wrong result";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

extern "C" {

int opened_state = 0;

int opened_twice(int n) { return 2 * n; }
int opened_counts() { return ++opened_state; }
std::uint64_t opened_task_id() { return brood::this_task::id(); }

int opened_uses_spawn(brood::Pool<brood::SpawnPolicy>& pool) { return use(pool); }
int opened_uses_fork_server(brood::Pool<brood::ForkServerPolicy<>>& pool) { return use(pool); }
int opened_uses_fork(brood::Pool<brood::ForkPolicy>& pool) { return use(pool); }

/// Makes pools of its own. The texts of what they threw.
void opened_makes_pools(std::string& spawn, std::string& server) {
  spawn = make_and_use<brood::SpawnPolicy>();
  server = make_and_use<brood::ForkServerPolicy<>>();
}
}
