// SPDX-License-Identifier: MIT
// Tasks that leave the worker loop in ways of their own, and pools inside of tasks.
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csetjmp>
#include <cstdlib>
#include <stdexcept>
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

int add_one(int n) { return n + 1; }

std::jmp_buf gone;  ///< into a frame that has returned

void exits_on_return() {
  if (setjmp(gone) != 0) ::_exit(33);
}
void goes_on_on_return() { static_cast<void>(!setjmp(gone)); }
int jumps() { std::longjmp(gone, 1); }

/// A pool in a task of a pool in a task ...; returns how deep it is.
template <class Policy>
int nested(int levels) {
  if (levels == 0) return 0;
  brood::Pool<Policy> pool({.workers = 1});
  return 1 + pool.submit(&nested<Policy>, levels - 1).get();
}

}  // namespace

TEST_CASE_TEMPLATE("a task that forks and returns in both has one result", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const int n : support::rounds(20, 200)) {
    auto future = pool.submit([](int k) { return ::fork() < 0 ? -1 : k; }, n);
    CHECK(future.get() == n);
    CHECK(pool.submit(&add_one, n).get() == n + 1);
  }
  const auto results = pool.map(
      [](int k) {
        if (k % 10 == 0 && ::fork() < 0) return -1;
        return k;
      },
      std::vector{0, 1, 2, 10, 11, 20});
  CHECK(results == std::vector{0, 1, 2, 10, 11, 20});
  auto throwing = pool.submit([] {
    if (::fork() < 0) return;
    throw std::runtime_error("in both");
  });
  CHECK_THROWS_WITH_AS(throwing.get(), "in both", std::runtime_error);
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE_TEMPLATE("a task that becomes another program is WorkerDied, and that program is killed", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const int round : support::rounds(1, 200)) {
    auto future = pool.submit([] {
      ::execl("/bin/sleep", "sleep", "1000", nullptr);
      return 0;
    });
    auto behind = pool.submit(&add_one, round);
    const auto outcome = future.outcome();
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
    const std::string text = outcome.failure().message();
    CHECK_MESSAGE(text.find("became another program") != std::string::npos, text);
    CHECK(support::eventually([&] { return !support::runs(outcome.failure().pid()); }));
    CHECK(behind.get() == round + 1);
  }
}

TEST_CASE_TEMPLATE("a task that execs a program that ends is WorkerDied with its code", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const int round : support::rounds(1, 200)) {
    CAPTURE(round);
    const auto outcome = pool.submit([] {
                               ::execl("/bin/sh", "sh", "-c", "exit 21", nullptr);
                               return 0;
                             }).outcome();
    REQUIRE_FALSE(outcome);
    const brood::Failure& failure = outcome.failure();
    if (failure.signal() == SIGKILL) {  // on a busy machine it may not end in the time that is left to it
      const std::string text = failure.message();
      CHECK_MESSAGE(text.find("became another program, and was killed") != std::string::npos, text);
    } else {
      CHECK(failure.status().describe() == "exited with code 21");
    }
  }
}

TEST_CASE_TEMPLATE("a task that closes every descriptor fails alone", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const int round : support::rounds(1, 200)) {
    auto future = pool.submit([] {
      for (int fd = 3; fd < 100; ++fd) ::close(fd);
      return 1;
    });
    CHECK(future.outcome().failure().kind() == brood::FailureKind::worker_died);
    CHECK(pool.submit(&add_one, round).get() == round + 1);
  }
}

TEST_CASE_TEMPLATE("a task that closes every descriptor and opens a file gets no bytes of ours in it", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::string path = "/tmp/brood_frames_" + std::to_string(::getpid());
  {
    brood::Pool<Policy> pool({.workers = 1});
    for (const int round : support::rounds(1, 200)) {
      auto future = pool.submit(
          [](const std::string& name) {
            for (int fd = 3; fd < 100; ++fd) ::close(fd);
            for (int n = 0; n < 20; ++n) static_cast<void>(::open(name.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600));
            return std::string(100, 'f');
          },
          path);
      future.wait();
      CHECK_FALSE(future.outcome().has_value());
      CHECK(pool.submit(&add_one, round).get() == round + 1);
    }
  }
  CHECK(support::read_text(path).empty());
  ::unlink(path.c_str());
}

TEST_CASE_TEMPLATE("a task that writes to every descriptor fails alone", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const int round : support::rounds(1, 200)) {
    auto future = pool.submit([] {
      const std::string nonsense(200, '\xee');
      for (int fd = 3; fd < 20; ++fd) static_cast<void>(!::write(fd, nonsense.data(), nonsense.size()));
      return 1;
    });
    auto other = pool.submit(&add_one, round);
    const auto outcome = future.outcome();
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::protocol);
    CHECK_THROWS_WITH_AS(outcome.value(),
                         doctest::Contains("its worker sent bytes that are no frame; has the task written to descriptors "
                                           "that are not its own? (the worker was killed)"),
                         brood::ProtocolError);
    CHECK(other.get() == round + 1);
    CHECK(pool.submit(&add_one, round).get() == round + 1);
  }
}

TEST_CASE_TEMPLATE("a task that becomes a daemon is WorkerDied: its worker has exited", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const int n : support::rounds(5, 200)) {
    auto future = pool.submit([] { return ::daemon(1, 1); });
    auto behind = pool.submit(&add_one, n);
    const auto outcome = future.outcome();
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
    CHECK(outcome.failure().status().describe() == "exited with code 0");
    CHECK(behind.get() == n + 1);
  }
}  // the audit finds daemons that are left

TEST_CASE_TEMPLATE("a task that jumps into a frame that has returned fails alone, whatever its worker does there", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::PoolOptions options;
  options.workers = 1;
  for (const bool exits : {true, false}) {
    CAPTURE(exits);
    options.on_worker_start = exits ? &exits_on_return : &goes_on_on_return;
    brood::Pool<Policy> pool(options);
    for (const int n : support::rounds(3, 200)) {
      auto future = pool.submit({.timeout = std::chrono::seconds(2)}, &jumps);
      auto behind = pool.submit(&add_one, n);
      const auto outcome = future.outcome();
      if (exits && !support::has_sanitizer) {
        REQUIRE_FALSE(outcome);
        CHECK(outcome.failure().status().describe() == "exited with code 33");
      }
      CHECK(behind.get() == n + 1);
    }
    CHECK(pool.stats().state == brood::PoolState::running);
  }
}

TEST_CASE_TEMPLATE("a task may leave its session and have children of its own", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const int code = pool.submit([] {
                         ::setsid();
                         const pid_t child = ::fork();
                         if (child == 0) ::_exit(5);
                         int status = 0;
                         ::waitpid(child, &status, 0);
                         return WEXITSTATUS(status);
                       }).get();
  CHECK(code == 5);
  CHECK(pool.submit([] { return std::system("exit 3"); }).get() == 3 << 8);
}

TEST_CASE_TEMPLATE("a task may start threads, and leave them", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  CHECK(pool.submit([] {
              int result = 0;
              std::thread([&] { result = static_cast<int>(brood::this_task::id() != 0); }).join();
              return result;
            }).get() == 1);
  pool.submit([] {
        std::thread([] {
          for (;;) ::pause();
        }).detach();
      }).get();
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("a task may make a pool of its own", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  CHECK(nested<Policy>(2) == 2);
  brood::Pool<Policy> pool({.workers = 1});
  CHECK(pool.submit([] {
              brood::Pool<brood::SpawnPolicy> inner({.workers = 1});
              return inner.submit(&add_one, 1).get();
            }).get() == 2);
  CHECK(pool.submit([] {
              brood::Pool<brood::ForkServerPolicy<>> inner({.workers = 2});
              return inner.map(&add_one, std::vector{1, 2, 3});
            }).get() == std::vector{2, 3, 4});
  CHECK(pool.submit([] {
              brood::Pool<brood::ForkPolicy> inner({.workers = 1});
              return inner.submit(&add_one, 1).get();
            }).get() == 2);
}

TEST_CASE_TEMPLATE("pools that are nested too deeply are refused", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  try {
    static_cast<void>(nested<Policy>(20));
    FAIL("no exception");
  } catch (const brood::Error& error) {
    CHECK_MESSAGE(std::string(error.what()).find("nested") != std::string::npos, error.what());
  }
}

TEST_CASE_TEMPLATE("a worker that dies with a pool of its own takes that pool along", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto outcome = pool.submit([] {
                             brood::Pool<brood::ForkServerPolicy<>> inner({.workers = 2});
                             auto busy = inner.submit([] {
                               for (;;) ::pause();
                             });
                             support::eventually([&] { return inner.stats().running == 1; });
                             ::raise(SIGKILL);
                           }).outcome();
  CHECK(outcome.failure().signal() == SIGKILL);
}  // the audit finds inner processes that are left

TEST_CASE_TEMPLATE("a stopped and continued worker is no crash", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const pid_t worker = pool.submit([] { return ::getpid(); }).get();
  REQUIRE(::kill(worker, SIGSTOP) == 0);
  auto future = pool.submit(&add_one, 1);
  CHECK(support::eventually([&] { return support::process_info(worker)->state == 'T'; }));
  CHECK_FALSE(future.wait_for(std::chrono::milliseconds(20)));
  REQUIRE(::kill(worker, SIGCONT) == 0);
  CHECK(future.get() == 2);
  CHECK(pool.submit([] { return ::getpid(); }).get() == worker);
}
