// SPDX-License-Identifier: MIT
// No descriptors, no processes: constructors and starts are whole or leave nothing, and pools recover.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "faults/suite.hpp"
#include "support/gate.hpp"
#include "support/policies.hpp"
#include "support/rounds.hpp"

namespace {

using support::FaultAction;
using support::ProcessRole;

/// This process may open so many descriptors more.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t more) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const int next = ::dup(0);
    ::close(next);
    const rlimit low{static_cast<rlim_t>(next) + more, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &low);
  }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

/// Also where no more may be opened: to count them takes one.
std::size_t count_descriptors() {
  rlimit now{};
  ::getrlimit(RLIMIT_NOFILE, &now);
  const rlimit more{std::min(now.rlim_cur + 10, now.rlim_max), now.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &more);
  const std::size_t count = support::own_descriptors().size();
  ::setrlimit(RLIMIT_NOFILE, &now);
  return count;
}

/// The pool is as fit as one that was just made: it brings up all of its workers.
template <class Policy>
void brings_up_all(brood::Pool<Policy>& pool, std::size_t workers) {
  const support::Gate gate;
  std::vector<brood::Future<int>> futures;
  for (std::size_t n = 0; n < workers; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), 1));
  CHECK(support::wait_until_running(pool, workers));
  gate.open();
  for (auto& future : futures) CHECK(future.get() == 1);
}

}  // namespace

#define EXHAUSTED_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithPreloads
#define RELAUNCHED_POLICIES brood::SpawnPolicy, support::ForkServerWithPreloads

TEST_CASE_TEMPLATE("RLIMIT_NOFILE of what is open and 0 to 40 more: a whole life, or LaunchError and nothing left", Policy,
                   EXHAUSTED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  board.plan({});
  int whole = 0;
  int refused = 0;
  for (rlim_t more = 0; more <= 40; ++more) {
    const auto verdict = support::run_scenario(board, [&] {
      const auto before = support::own_descriptors();
      try {
        const DescriptorLimit limit(more);
        return support::Suite<Policy>(support::Demand::typed_errors, support::AfterFault::may_stay).run();
      } catch (const brood::LaunchError&) {
        if (support::own_descriptors() != before) throw support::Broken("the constructor failed and left descriptors open");
        throw;
      }
    });
    CHECK_MESSAGE(verdict.kind != support::Verdict::Kind::broken, more << " more: " << verdict.text);
    ++(verdict.kind == support::Verdict::Kind::survived ? whole : refused);
  }
  CHECK(whole > 0);
  CHECK(refused > 0);
}

TEST_CASE_TEMPLATE("0 to 300 free descriptors: constructor and later workers are whole, or LaunchError with EMFILE and nothing left",
                   Policy, EXHAUSTED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  board.plan({});
  const auto verdict = support::run_scenario(board, [] {
    rlim_t most_refused = 0;
    rlim_t least_whole = 301;
    const int step = support::rounds(10, 1).count();
    for (rlim_t more = 0; more <= 300; more += more < 50 ? 1 : static_cast<rlim_t>(step)) {
      const auto before = support::own_descriptors();
      const std::string at = std::to_string(more) + " free: ";
      try {
        const DescriptorLimit limit(more);
        brood::Pool<Policy> pool({.workers = 1});
        pid_t last = pool.submit(&::getpid).get();
        const auto open = count_descriptors() + 3;  // not all of the first one's may have come yet
        for (int round = more <= 40 ? 0 : 4; round < 5; ++round) {  // so that one descriptor each would be too many
          if (::kill(last, SIGKILL) != 0) throw support::Broken(at + "the worker is gone");
          const pid_t next = pool.submit(&::getpid).get();
          if (std::exchange(last, next) == next) throw support::Broken(at + "it is the same worker");
        }
        const auto none_left = [&] {  // of those that have ended: seen when somebody waits
          pool.submit(&::getpid).get();
          return count_descriptors() <= open;
        };
        if (!support::eventually(none_left, std::chrono::seconds(20))) {
          std::string all;
          for (const std::string& each : support::own_descriptors()) all += " " + each;
          throw support::Broken(at + "new workers cost descriptors: more than " + std::to_string(open) + ":" + all);
        }
        least_whole = std::min(least_whole, more);
      } catch (const brood::LaunchError& error) {
        if (error.error() != EMFILE) throw support::Broken(at + "no EMFILE, but: " + error.what());
        most_refused = more;
      }
      if (support::own_descriptors() != before) throw support::Broken(at + "descriptors are left");
    }
    if (most_refused == 0) throw support::Broken("nothing was refused");
    if (most_refused > 100 || least_whole > 100) throw support::Broken("a pool with one worker is refused 100 descriptors");
    return true;
  }, std::chrono::seconds(600));
  CHECK_MESSAGE(verdict.kind == support::Verdict::Kind::survived, verdict.text);
}

TEST_CASE_TEMPLATE("descriptors beyond 1024 are as good as others", Policy, EXHAUSTED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  board.plan({});
  const auto verdict = support::run_scenario(board, [] {
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    const rlimit limit{std::min<rlim_t>(before.rlim_max, 2'000), before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &limit);
    std::vector<int> taken;
    while (taken.empty() || taken.back() < 1'100) {
      const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
      if (fd < 0) throw support::Broken("1100 descriptors are too many for this machine");
      taken.push_back(fd);
    }
    const bool right = support::Suite<Policy>(support::Demand::everything).run();
    for (const int fd : taken) ::close(fd);
    ::setrlimit(RLIMIT_NOFILE, &before);
    return right;
  });
  CHECK_MESSAGE(verdict.kind == support::Verdict::Kind::survived, verdict.text);
}

TEST_CASE_TEMPLATE("forks that fail for a while: typed errors, the same server, then all workers", Policy, EXHAUSTED_POLICIES) {
  for (const int error : {EAGAIN, ENOMEM, EMFILE, ENFILE}) {
    CAPTURE(error);
    support::Board board;
    const support::Leftovers audit;
    brood::Pool<Policy> pool({.workers = 4});
    const pid_t server = pool.stats().server_pid;
    board.plan({{.action = FaultAction::fail, .value = error, .role = ProcessRole::server, .name = "fork"}});
    const auto outcome = pool.submit(&support::add_one, 1).outcome();
    REQUIRE_FALSE(outcome);
    try {
      std::rethrow_exception(outcome.exception());
    } catch (const brood::LaunchError& failure) {
      CHECK(failure.error() == error);
      CHECK(failure.stage() == "fork");
    }
    CHECK(board.hits() >= 2);  // it was tried again
    board.lift();
    brings_up_all(pool, 4);
    CHECK(pool.stats().server_pid == server);
  }
}

TEST_CASE_TEMPLATE("one fork in two fails: no task notices", Policy, EXHAUSTED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 1});
  board.plan({});
  for (std::uint64_t k = 1; k <= 9; k += 2) {
    board.add({.action = FaultAction::fail, .value = EAGAIN, .role = ProcessRole::server, .name = "fork", .first = k, .last = k});
  }
  for (int n = 0; n < 10; ++n) CHECK(pool.submit(&support::add_one, n).get() == n + 1);
  CHECK(board.hits(4) == 1);
}

TEST_CASE_TEMPLATE("a server that can't be started is LaunchError with its errno; the next pool is whole", Policy,
                   EXHAUSTED_POLICIES) {
  const char* const call = std::is_same_v<Policy, brood::ForkPolicy> ? "fork" : "posix_spawn";
  for (const int error : {EAGAIN, ENOMEM, EMFILE}) {
    support::Board board;
    const support::Leftovers audit;
    board.plan({{.action = FaultAction::fail, .value = error, .role = ProcessRole::host, .name = call}});
    try {
      const brood::Pool<Policy> pool({.workers = 1});
      FAIL_CHECK("no exception");
    } catch (const brood::LaunchError& failure) {
      CHECK(failure.error() == error);
      CHECK(failure.stage() == call);
    }
    board.lift();
    brood::Pool<Policy> pool({.workers = 1});
    CHECK(pool.submit(&support::add_one, 1).get() == 2);
  }
}

TEST_CASE_TEMPLATE("a new server that can't be started for a while: the pool recovers", Policy, RELAUNCHED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 3});
  CHECK(pool.submit(&support::add_one, 1).get() == 2);
  board.plan({{.action = FaultAction::fail, .value = EAGAIN, .role = ProcessRole::host, .name = "posix_spawn"}});
  const pid_t server = pool.stats().server_pid;
  REQUIRE(::kill(server, SIGKILL) == 0);
  REQUIRE(support::eventually([&] { return pool.stats().server_pid != server; }));
  auto future = pool.submit(&support::add_one, 1);
  const auto outcome = future.outcome();
  REQUIRE_FALSE(outcome);
  CHECK_MESSAGE(outcome.failure().kind() == brood::FailureKind::launch, outcome.failure().message());
  CHECK(board.hits() >= 2);
  board.lift();
  brings_up_all(pool, 3);
}

TEST_CASE_TEMPLATE("no helper thread is to be had: whoever waits drives", Policy, EXHAUSTED_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  board.plan({{.action = FaultAction::fail, .value = EAGAIN, .role = ProcessRole::host, .name = "pthread_create"}});
  brood::Pool<Policy> pool({.workers = 2});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 20; ++n) futures.push_back(pool.submit(&support::add_one, n));
  for (int n = 0; n < 20; ++n) CHECK(futures[static_cast<std::size_t>(n)].get() == n + 1);
  CHECK(board.hits() > 0);
}
