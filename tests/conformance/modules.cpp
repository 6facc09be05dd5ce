// SPDX-License-Identifier: MIT
// Callables that live in shared libraries: linked, and opened at run time, also when the worker has not opened them.
#include <dlfcn.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "modules/linked/linked.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

/// The library, for as long as a test needs it.
class Opened {
 public:
  explicit Opened(const char* path = BROOD_TEST_OPENED_PATH, int flags = 0)
      : handle_(::dlopen(path, RTLD_NOW | RTLD_LOCAL | flags)) {
    REQUIRE_MESSAGE(handle_ != nullptr, ::dlerror());
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() { ::dlclose(handle_); }

  template <class T>
  T* symbol(const char* name) const {
    void* const found = ::dlsym(handle_, name);
    REQUIRE(found != nullptr);
    return reinterpret_cast<T*>(found);
  }

 private:
  void* handle_;
};

}  // namespace

TEST_CASE_TEMPLATE("callables of a linked library", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  CHECK(pool.submit(&linked::twice, 21).get() == 42);
  CHECK(pool.submit(linked::Plus{40}, 2).get() == 42);
  CHECK(pool.submit([](int n) { return linked::twice(n); }, 4).get() == 8);
  CHECK(pool.map(&linked::twice, std::vector{1, 2, 3}) == std::vector{2, 4, 6});
  CHECK(pool.submit(&linked::library_of, 0).get().find("linked") != std::string::npos);
}

TEST_CASE("a linked library submits lambdas of its own") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> spawn({.workers = 1});
  CHECK(linked::submits(spawn, 4) == 9);
  brood::Pool<brood::ForkServerPolicy<>> server({.workers = 1});
  CHECK(linked::submits(server, 5) == 11);
}

TEST_CASE_TEMPLATE("callables of a library that the worker has not opened", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  // once opened it stays in this process, for its unique symbols; a copied host is the one case that must come first
  if (brood::CopiesHost<Policy>) REQUIRE(::dlopen(BROOD_TEST_OPENED_PATH, RTLD_NOW | RTLD_NOLOAD) == nullptr);
  brood::Pool<Policy> pool({.workers = 1});
  CHECK(pool.submit([] { return 1; }).get() == 1);  // the worker is up already
  const Opened library;
  auto* const twice = library.symbol<int(int)>("opened_twice");
  CHECK(pool.submit(twice, 21).get() == 42);
  CHECK(pool.map(twice, std::vector{1, 2, 3}) == std::vector{2, 4, 6});
  auto future = pool.submit(library.symbol<std::uint64_t()>("opened_task_id"));
  CHECK(future.get() == future.id());
}

TEST_CASE_TEMPLATE("a library stays open in its worker", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const Opened library;
  auto* const counts = library.symbol<int()>("opened_counts");
  for (int n = 1; n < 4; ++n) CHECK(pool.submit(counts).get() == n);
}

TEST_CASE("an opened library submits callables of its own") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> spawn({.workers = 1});
  brood::Pool<brood::ForkServerPolicy<>> server({.workers = 1});
  brood::Pool<brood::ForkPolicy> fork({.workers = 1});
  const Opened library;
  CHECK(library.symbol<int(brood::Pool<brood::SpawnPolicy>&)>("opened_uses_spawn")(spawn) == 0);
  CHECK(library.symbol<int(brood::Pool<brood::ForkServerPolicy<>>&)>("opened_uses_fork_server")(server) == 0);
  CHECK(library.symbol<int(brood::Pool<brood::ForkPolicy>&)>("opened_uses_fork")(fork) == 0);
}

TEST_CASE("an opened library makes pools of its own") {
  const support::Leftovers audit;
  for (const char* const path : {BROOD_TEST_OPENED_PATH, BROOD_TEST_ISOLATED_PATH}) {
    const Opened library(path, RTLD_NODELETE);  // as the linker does it where symbols are unique: code of pools stays
    std::string spawn = "?";
    std::string server = "?";
    library.symbol<void(std::string&, std::string&)>("opened_makes_pools")(spawn, server);
    CHECK(spawn == "");
    CHECK(server == "");
  }
}

TEST_CASE("a library that is opened before the pool") {
  const support::Leftovers audit;
  const Opened library;
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  CHECK(pool.submit(library.symbol<int(int)>("opened_twice"), 1).get() == 2);
}
