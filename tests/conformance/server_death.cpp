// SPDX-License-Identifier: MIT
// The server's end, a server that hangs, and starts that fail.
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

int add_one(int n) { return n + 1; }
int sleeps() {
  for (;;) ::pause();
}

/// Kills the pool's server, if there is one just now (kill(0) would be our own process group). Returns its pid, or 0.
template <class Policy>
pid_t kill_server(brood::Pool<Policy>& pool) {
  const pid_t server = pool.stats().server_pid;
  if (server > 0) ::kill(server, SIGKILL);
  return server;
}

/// Lets every fork of the server fail with EAGAIN; threads may still be made.
struct NoForks {
  NoForks() {
    std::vector<sock_filter> filter{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
#ifdef SYS_fork
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fork, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_vfork, 5, 0),
#else
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ~0U, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ~0U, 5, 0),
#endif
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS)};
    sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
      throw std::runtime_error("no seccomp");
    }
  }
};

/// A policy whose server can't start workers while a file is there.
struct MoodyPolicy {
  static constexpr std::string_view name = "MoodyPolicy";
  std::string mood = "/nowhere/mood";
  int error = EAGAIN;

  std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions& options) const {
    brood::Writer sent;
    sent.value(mood);
    sent.value(error);
    return brood::launch_by_exec<MoodyPolicy>(options, sent);
  }
  static void prepare(brood::Server&, brood::Reader& sent) {
    current().mood = sent.value<std::string>();
    current().error = sent.value<int>();
  }
  static pid_t start_worker(brood::Server& server, brood::WorkerChannel& channel) {
    if (::access(current().mood.c_str(), F_OK) == 0) {
      errno = current().error;
      return -1;
    }
    return brood::start_by_fork(server, channel);
  }

 private:
  static MoodyPolicy& current() {
    static auto* const policy = new MoodyPolicy;
    return *policy;
  }
};

/// Leaves this process so many free descriptors, for as long as it lives.
class FewDescriptors {
 public:
  explicit FewDescriptors(std::size_t left) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit low{128, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &low);
    for (int fd = 0; fd >= 0;) {
      fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
      if (fd >= 0) taken_.push_back(fd);
    }
    for (; left > 0 && !taken_.empty(); --left) {
      ::close(taken_.back());
      taken_.pop_back();
    }
  }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;
  ~FewDescriptors() {
    for (const int fd : taken_) ::close(fd);
    ::setrlimit(RLIMIT_NOFILE, &before_);
  }

 private:
  rlimit before_{};
  std::vector<int> taken_;
};

/// A Preload whose constructor fails while a file is there.
struct MoodyPreload {
  explicit MoodyPreload(const std::string& mood) {
    if (::access(mood.c_str(), F_OK) == 0) throw std::runtime_error("in a bad mood");
  }
};

}  // namespace

#define RELAUNCHED_POLICIES brood::SpawnPolicy, support::ForkServer, support::ForkServerWithPreloads, support::OwnPolicy

TEST_CASE_TEMPLATE("a server that is killed is started again for the next task", Policy, RELAUNCHED_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (int round = 0; round < 5; ++round) {
    auto one = pool.submit(&sleeps);
    auto two = pool.submit(&sleeps);
    auto queued = pool.submit(&add_one, 1);
    REQUIRE(support::wait_until_running(pool, 2));
    const pid_t server = kill_server(pool);
    REQUIRE(server > 0);
    for (auto* const future : {&one, &two}) {
      const auto outcome = future->outcome();
      REQUIRE_FALSE(outcome);
      CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
      // nobody made up an exit code: killed, or not known
      CHECK_FALSE(outcome.failure().status().exited());
    }
    CHECK(queued.get() == 2);
    const auto stats = pool.stats();
    CHECK(stats.server_pid != server);
    CHECK(stats.server_pid != 0);
    for (const auto& preload : stats.preloads) CHECK(preload.built == static_cast<std::uint64_t>(round) + 2);
    if constexpr (std::is_same_v<Policy, support::ForkServerWithPreloads>) {
      CHECK(pool.submit([] { return brood::preloaded<support::Numbers>().built_in; }).get() == stats.server_pid);
    }
  }
}

TEST_CASE_TEMPLATE("a server that is killed while nothing runs costs no task", Policy, RELAUNCHED_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (int round = 0; round < 5; ++round) {
    CHECK(pool.submit(&add_one, 1).get() == 2);
    kill_server(pool);  // none when the last one's end has just been heard
  }
  CHECK(support::eventually([&] { return pool.stats().server_pid == 0 || support::runs(pool.stats().server_pid); }));
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("a server that is killed again and again: every task resolves", Policy, RELAUNCHED_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 400; ++n) futures.push_back(pool.submit(&add_one, n));
  for (std::size_t n = 0; n < 400; n += 50) {
    futures[n].wait();
    kill_server(pool);
  }
  int failed = 0;
  for (std::size_t n = 0; n < 400; ++n) {
    const auto outcome = futures[n].outcome();
    if (outcome) {
      CHECK(*outcome == static_cast<int>(n) + 1);
    } else {
      ++failed;
      CHECK_MESSAGE(outcome.failure().kind() == brood::FailureKind::worker_died, outcome.failure().message());
    }
  }
  CHECK(failed <= 16);  // two workers, eight kills
}

TEST_CASE_TEMPLATE("a server that hangs ends neither submit nor the destructor", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .start_timeout = support::short_start_timeout});
  const pid_t server = pool.stats().server_pid;
  REQUIRE(server > 0);
  REQUIRE(::kill(server, SIGSTOP) == 0);
  auto future = pool.submit(&add_one, 1);
  const auto outcome = future.outcome();  // from a new server, or a LaunchError
  if (!outcome) CHECK_MESSAGE(outcome.failure().kind() == brood::FailureKind::launch, outcome.failure().message());
}

TEST_CASE("forks that fail are LaunchError with stage and errno, and the server lives on") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkServerPolicy<NoForks>> pool({.workers = 2});
  const pid_t server = pool.stats().server_pid;
  for (int n = 0; n < 2; ++n) {
    auto future = pool.submit(&add_one, n);
    try {
      static_cast<void>(future.get());
      FAIL("no exception");
    } catch (const brood::LaunchError& error) {
      CHECK(error.stage() == "fork");
      CHECK(error.error() == EAGAIN);
      CHECK_MESSAGE(std::string(error.what()).find("Resource temporarily unavailable") != std::string::npos, error.what());
    }
    CHECK(future.outcome().failure().kind() == brood::FailureKind::launch);
  }
  CHECK_THROWS_AS(pool.map(&add_one, std::vector{1, 2, 3}), brood::LaunchError);
  CHECK(pool.stats().server_pid == server);
  CHECK(pool.stats().workers_started == 0);
}

TEST_CASE("the pool recovers when forks succeed again") {
  const support::Leftovers audit;
  for (const int error : {EAGAIN, ENOMEM, EMFILE}) {
    const support::Gate mood;
    brood::Pool<MoodyPolicy> pool({.workers = 3}, {.mood = mood.path(), .error = error});
    mood.open();  // forks fail
    const pid_t server = pool.stats().server_pid;
    try {
      static_cast<void>(pool.submit(&add_one, 1).get());
      FAIL("no exception");
    } catch (const brood::LaunchError& failure) {
      CHECK(failure.error() == error);
    }
    REQUIRE(::unlink(mood.path().c_str()) == 0);
    CHECK(pool.submit(&add_one, 1).get() == 2);
    CHECK(pool.map(&add_one, std::vector{1, 2, 3}) == std::vector{2, 3, 4});
    CHECK(pool.stats().server_pid == server);
    // forks fail again, but a worker is up: nothing fails
    mood.open();
    for (int n = 0; n < 20; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);
  }
}

TEST_CASE("a Preload that can't be built again fails tasks with PreloadError, until it can") {
  const support::Leftovers audit;
  const support::Gate mood;
  using Policy = brood::ForkServerPolicy<MoodyPreload>;
  brood::Pool<Policy> pool({.workers = 1}, {brood::preload_args<MoodyPreload>(mood.path())});
  CHECK(pool.submit(&add_one, 1).get() == 2);
  mood.open();
  REQUIRE(kill_server(pool) > 0);
  REQUIRE(support::eventually([&] { return pool.stats().server_pid == 0; }));
  auto future = pool.submit(&add_one, 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(future.get()), doctest::Contains("in a bad mood"), brood::PreloadError);
  CHECK(future.outcome().failure().kind() == brood::FailureKind::preload);
  REQUIRE(::unlink(mood.path().c_str()) == 0);
  CHECK(pool.submit(&add_one, 1).get() == 2);
  CHECK(pool.stats().preloads.at(0).built == 2);  // once by each of two servers
}

TEST_CASE_TEMPLATE("a host that is out of descriptors gets LaunchError, and the pool recovers", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 1});
  CHECK(pool.submit(&add_one, 1).get() == 2);
  for (std::size_t left = 0; left < 12; ++left) {
    CAPTURE(left);
    std::optional<FewDescriptors> few(left);
    auto future = pool.submit(&add_one, 1);
    future.wait();
    few.reset();
    const auto outcome = future.outcome();
    if (!outcome) CHECK_MESSAGE(outcome.failure().kind() == brood::FailureKind::launch, outcome.failure().message());
    CHECK(pool.submit(&add_one, 1).get() == 2);
  }
}

TEST_CASE_TEMPLATE("a constructor that is out of descriptors throws LaunchError and leaves nothing", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  int made = 0;
  for (std::size_t left = 0; left < 30; ++left) {
    CAPTURE(left);
    const FewDescriptors few(left);
    try {
      const brood::Pool<Policy> pool({.workers = 1});
      ++made;
    } catch (const brood::LaunchError& error) {
      CHECK_MESSAGE(error.error() == EMFILE, error.what());
    } catch (const std::exception& error) {
      FAIL_CHECK("another exception: " << std::string(error.what()));
    }
  }
  CHECK(made > 0);
}
