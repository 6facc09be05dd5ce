// SPDX-License-Identifier: MIT
// A shared library that is replaced, or removed, on disk while the host has it open: workers run the code that the host meant, or
// none.
#include <dlfcn.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

struct Builds {
  const char* first;
  const char* second;
};
/// With a build id, and without.
const std::vector<Builds> kinds{{BROOD_TEST_SWAPPED_FIRST_PATH, BROOD_TEST_SWAPPED_SECOND_PATH},
                                {BROOD_TEST_UNNAMED_FIRST_PATH, BROOD_TEST_UNNAMED_SECOND_PATH}};

/// A library at a path of its own, which is the first build and can become the other.
class Library {
 public:
  explicit Library(const Builds& builds) : builds_(builds), folder_("/tmp/brood_replaced_" + std::to_string(::getpid())) {
    std::filesystem::create_directory(folder_);
    put(builds.first);
    open();
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() {
    if (handle_ != nullptr) ::dlclose(handle_);
    std::filesystem::remove_all(folder_);
  }

  std::string path() const { return folder_ + "/library.so"; }
  void put_first() const { put(builds_.first); }
  void put_second() const { put(builds_.second); }
  void remove() const { std::filesystem::remove(path()); }
  void reopen() {
    ::dlclose(handle_);
    open();
  }

  using Function = int(int);
  Function* plus_one() const { return function("swapped_plus_one"); }
  Function* plus_two() const { return function("swapped_plus_two"); }
  Function* function(const char* name) const {
    void* const found = ::dlsym(handle_, name);
    REQUIRE(found != nullptr);
    return reinterpret_cast<Function*>(found);
  }

 private:
  void put(const char* build) const {
    std::filesystem::copy_file(build, folder_ + "/new");
    std::filesystem::rename(folder_ + "/new", path());
  }
  void open() {
    handle_ = ::dlopen(path().c_str(), RTLD_NOW | RTLD_LOCAL);
    REQUIRE_MESSAGE(handle_ != nullptr, ::dlerror());
  }

  Builds builds_;
  std::string folder_;
  void* handle_ = nullptr;
};

/// A Preload that opens a library in the server.
struct Opens {
  explicit Opens(const std::string& path) : handle(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {}
  void* handle;
};
using OpeningServer = brood::ForkServerPolicy<Opens>;

template <class Policy>
void refuses(brood::Pool<Policy>& pool, const Library& library, const std::string& why) {
  for (const std::string name : {"swapped_plus_one", "swapped_plus_two"}) {
    auto* const function = library.function(name.c_str());
    const auto outcome = pool.submit(function, 7).outcome();
    if (outcome) FAIL_CHECK("it ran, and returned " << *outcome);
    if (outcome) continue;
    CHECK(outcome.failure().kind() == brood::FailureKind::image_mismatch);
    const std::string text = outcome.failure().message();
    CHECK_MESSAGE(text.find(library.path()) != std::string::npos, text);
    CHECK_MESSAGE(text.find("(" + name + ", submitted at ") != std::string::npos, text);
    CHECK_MESSAGE(text.find(why) != std::string::npos, text);
  }
}
template <class Policy>
void works(brood::Pool<Policy>& pool, const Library& library) {
  for (int n = 0; n < 3; ++n) {
    CHECK(pool.submit(library.plus_one(), n).get() == n + 1);
    CHECK(pool.submit(library.plus_two(), n).get() == n + 2);
  }
}

constexpr const char* other = "is another one on disk now; restart the host after an upgrade";
constexpr const char* gone = "a worker can't open the library that holds the task's code";

}  // namespace

#if BROOD_TEST_HAS_THREAD_SANITIZER
#define OPENING_POLICIES brood::SpawnPolicy
#else
#define OPENING_POLICIES brood::SpawnPolicy, support::ForkServer
#endif

TEST_CASE_TEMPLATE("a library is replaced, then removed: workers that have it go on, later ones refuse", Policy, OPENING_POLICIES) {
  for (const Builds& builds : kinds) {
    CAPTURE(builds.first);
    const support::Leftovers audit;
    const Library library(builds);
    brood::Pool<Policy> old({.workers = 1});
    brood::Pool<Policy> fresh({.workers = 1, .tasks_per_worker = 1});
    works(old, library);
    works(fresh, library);
    library.put_second();
    works(old, library);
    refuses(fresh, library, other);
    library.remove();
    works(old, library);
    refuses(fresh, library, gone);
    CHECK(fresh.submit([](int n) { return n; }, 1).get() == 1);
    CHECK(fresh.stats().state == brood::PoolState::running);
  }
}

TEST_CASE_TEMPLATE("a library is replaced before the pool, or its first task: refused", Policy, OPENING_POLICIES) {
  for (const Builds& builds : kinds) {
    CAPTURE(builds.first);
    const support::Leftovers audit;
    {
      const Library library(builds);
      library.put_second();
      brood::Pool<Policy> pool({.workers = 1});
      refuses(pool, library, other);
    }
    {
      brood::Pool<Policy> pool({.workers = 1});
      CHECK(pool.submit([](int n) { return n; }, 1).get() == 1);
      const Library library(builds);
      library.remove();
      refuses(pool, library, gone);
    }
  }
}

TEST_CASE_TEMPLATE("a library comes back, and what the host has opened anew is what workers open", Policy, OPENING_POLICIES) {
  for (const Builds& builds : kinds) {
    CAPTURE(builds.first);
    const support::Leftovers audit;
    Library library(builds);
    brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 1});
    works(pool, library);
    library.put_second();
    refuses(pool, library, other);
    library.reopen();
    works(pool, library);
    library.put_first();
    refuses(pool, library, other);
    library.put_second();
    if (builds.first == kinds[0].first) works(pool, library);  // the same build id
    else refuses(pool, library, other);
  }
}

#if !BROOD_TEST_HAS_THREAD_SANITIZER
TEST_CASE("a library is replaced that the server has opened: workers have that of the server") {
  for (const Builds& builds : kinds) {
    CAPTURE(builds.first);
    const support::Leftovers audit;
    const Library library(builds);
    brood::Pool<OpeningServer> pool({.workers = 1, .tasks_per_worker = 1}, {brood::preload_args<Opens>(library.path())});
    works(pool, library);
    library.put_second();
    works(pool, library);
    {
      const Library another(kinds[0]);  // what is known of the first is not looked up anew
      works(pool, library);
    }
    CHECK(pool.stats().workers_started > 10);
  }
}

TEST_CASE("a library is replaced that the host had opened: its copies have it") {
  for (const Builds& builds : kinds) {
    CAPTURE(builds.first);
    const support::Leftovers audit;
    const Library library(builds);
    brood::Pool<brood::ForkPolicy> pool({.workers = 1, .tasks_per_worker = 1});
    library.put_second();
    works(pool, library);
    library.remove();
    works(pool, library);
  }
}
#endif
