// SPDX-License-Identifier: MIT
// Many workers, and many calls that wait.
#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/sanitizer.hpp"

namespace {

/// Holds any number of tasks without a look from them: a FIFO that none can open before somebody writes.
class Barrier {
 public:
  Barrier() : path_("/tmp/brood_barrier_" + std::to_string(::getpid())) {
    ::unlink(path_.c_str());
    if (::mkfifo(path_.c_str(), 0600) != 0) throw std::runtime_error("mkfifo");
  }
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;
  ~Barrier() {
    if (writer_ >= 0) ::close(writer_);
    ::unlink(path_.c_str());
  }

  const std::string& path() const { return path_; }
  void open() { writer_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK); }

 private:
  std::string path_;
  int writer_ = -1;
};

int wait_behind(const std::string& path, int n) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ::close(fd);
  return n;
}
pid_t own_pid() { return ::getpid(); }
int same(int n) { return n; }

/// For a child process: as many descriptors as it may have.
rlim_t raise_open_files() {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  return files.rlim_cur;
}

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

}  // namespace

TEST_CASE("a pool of 1,000 workers: all of them run at the same time, and leave") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    const std::size_t descriptors = raise_open_files();
    // four descriptors for each, and a sanitizer's shadow memory makes forks slow
    const auto workers = static_cast<unsigned>(std::min<std::size_t>(support::has_sanitizer ? 100 : 1000, (descriptors - 100) / 4));
    support::Leftovers audit_of_child;
    {
      Barrier barrier;
      brood::Pool<brood::ForkServerPolicy<>> pool({.workers = workers});
      std::vector<brood::Future<int>> futures;
      for (unsigned n = 0; n < workers + 50; ++n) {
        futures.push_back(pool.submit(&wait_behind, barrier.path(), static_cast<int>(n)));
      }
      require(support::wait_until_running(pool, workers), "not all of them run");
      const auto stats = pool.stats();
      require(stats.workers.size() == workers, "another number of workers");
      require(stats.queued == 50, "another number of calls that wait");
      for (unsigned n = 0; n < workers; ++n) require(stats.workers[n].index == n, "not sorted by index");
      barrier.open();
      for (unsigned n = 0; n < workers + 50; ++n) require(futures[n].get() == static_cast<int>(n), "another result");
      require(pool.stats().workers_started == workers, "workers were started that nobody needs");
      // whoever was last is first: the others' memory stays cold
      std::set<pid_t> used;
      for (int n = 0; n < 50; ++n) used.insert(pool.submit(&own_pid).get());
      require(used.size() == 1, "one call after the other in several workers");
    }
    const std::string left = audit_of_child.judge();
    std::printf("%s", left.c_str());
    return left.empty() ? 0 : 1;
  }, 120'000);
  CHECK_MESSAGE(ran.status == brood::ExitStatus::from_wait(0), ran.status.describe() << ": " << ran.output);
}

TEST_CASE_TEMPLATE("more workers than there may be open files: those that came up do all the work", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, 64);
    ::setrlimit(RLIMIT_NOFILE, &files);
    brood::Pool<Policy> pool({.workers = 100, .spares = 3});
    require(pool.submit(&same, 0).get() == 0, "another result");  // one is up, whatever becomes of the others
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 300; ++n) futures.push_back(pool.submit(&same, n));
    for (int n = 0; n < 300; ++n) require(futures[static_cast<std::size_t>(n)].get() == n, "another result");
    require(pool.stats().workers.size() < 30, "more workers than there are descriptors for");
    return 0;
  });
  CHECK_MESSAGE(ran.status == brood::ExitStatus::from_wait(0), ran.status.describe() << ": " << ran.output);
}

TEST_CASE("no open files left for a single worker: LaunchError says which limit it is") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1000});
    const int next = ::dup(0);
    ::close(next);
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = static_cast<rlim_t>(next) + 2;
    ::setrlimit(RLIMIT_NOFILE, &files);
    try {
      pool.submit(&same, 1).get();
    } catch (const brood::LaunchError& error) {
      std::printf("%s\n", error.what());
      return 7;
    }
    return 0;
  });
  CHECK(ran.status.code() == 7);
  CHECK_MESSAGE(ran.output.find("the limit of open files may be reached (ulimit -n)") != std::string::npos, ran.output);
}

TEST_CASE("calls that wait take a bounded amount of memory each") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  auto first = pool.submit(&support::wait_for_gate, gate.path(), 1);
  CHECK(support::wait_until_running(pool, 1));
  constexpr std::size_t calls = 100'000;
  std::vector<brood::Future<int>> futures;
  futures.reserve(calls);
  const auto before = ::mallinfo2();
  for (std::size_t n = 0; n < calls; ++n) futures.push_back(pool.submit(&same, static_cast<int>(n)));
  const auto after = ::mallinfo2();
  const std::size_t each = (after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) / calls;
  CAPTURE(each);
  if (!support::has_sanitizer) CHECK(each > 0);  // a sanitizer has an allocator of its own
  CHECK(each <= 1024);
  CHECK(pool.stats().queued == calls);
  pool.cancel_pending();
  gate.open();
  CHECK(first.get() == 1);
  for (auto& future : futures) CHECK_THROWS_AS(future.get(), brood::TaskCancelled);
}
