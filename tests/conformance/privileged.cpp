// SPDX-License-Identifier: MIT
// What only root can arrange: namespaces, and workers or hosts that are nobody. Each case says when it can't.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/rounds.hpp"
#include "support/sanitizer.hpp"

namespace {

constexpr int not_permitted = 77;

int add_one(int n) { return n + 1; }

int never_ends(int) {
  for (;;) ::pause();
}

/// Runs `host` as process 1 of a process namespace with a /proc of its own.
support::Ran as_process_one(int (*host)()) {
  return support::run_in_child([host] {
    if (::unshare(CLONE_NEWNS | CLONE_NEWPID) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return not_permitted;
    }
    const pid_t one = ::fork();
    if (one == 0) {
      if (::mount("proc", "/proc", "proc", 0, nullptr) != 0) ::_exit(not_permitted);
      const int code = host();
      std::fflush(nullptr);
      ::_exit(code);
    }
    int status = 0;
    ::waitpid(one, &status, 0);
    if (WIFSIGNALED(status)) std::printf("process 1 was killed by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
  });
}

/// Whether the case could be played. Checks that it went well.
void check(const support::Ran& ran) {
  if (ran.status.exited() && ran.status.code() == not_permitted) {
    MESSAGE("skipped: it needs rights that this process has not (root, and namespaces)");
    return;
  }
  CHECK_MESSAGE(ran.status.describe() == "exited with code 0", ran.output);
}

int zombies() {
  int count = 0;
  for (const auto& each : support::all_processes()) count += each.state == 'Z';
  return count;
}

bool become_nobody() { return ::setgid(65534) == 0 && ::setuid(65534) == 0; }

// ---- a number that was given to another process -----------------------------------------------------------------

/// Starts a process with this number, which has to be free. 0 when that can't be had.
pid_t bystander_numbered(pid_t wanted) {
  const int last = ::open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
  if (last < 0) return 0;
  const std::string text = std::to_string(wanted - 1);
  const bool told = ::write(last, text.data(), text.size()) > 0;
  ::close(last);
  if (!told) return 0;
  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) ::pause();
  }
  if (child == wanted) return child;
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return 0;
}

enum class Blow { cancel, kill_pool, timeout, destroy };

template <class Policy>
int strikes_no_stranger() {
  for (const Blow blow : {Blow::cancel, Blow::kill_pool, Blow::timeout, Blow::destroy}) {
    for (const int round : support::rounds(3, 200)) {
      std::printf("round %d of blow %d\n", round, static_cast<int>(blow));
      std::fflush(stdout);  // whoever waits for this process sees that it goes on
      pid_t bystander = 0;
      {
        brood::Pool<Policy> pool({.workers = 1, .stop_grace = std::chrono::milliseconds(100)});
        const pid_t worker = pool.submit([] { return ::getpid(); }).get();
        auto future = pool.submit({.timeout = std::chrono::milliseconds(blow == Blow::timeout ? 200 : 0)}, &never_ends, 0);
        if (!support::eventually([&] { return pool.stats().running == 1; })) return 1;
        // from here on nobody drives the pool but its helper thread, which may or may not know
        ::kill(worker, SIGKILL);
        if (!support::eventually([&] { return ::kill(worker, 0) != 0 && errno == ESRCH; })) {
          std::printf("the dead worker was not reaped\n");
          return 2;
        }
        bystander = bystander_numbered(worker);
        if (bystander == 0) return not_permitted;
        switch (blow) {
          case Blow::cancel: future.cancel(); break;
          case Blow::kill_pool: pool.kill(); break;
          case Blow::timeout: future.wait(); break;
          case Blow::destroy: break;
        }
        if (future.outcome().has_value()) return 3;
      }
      const bool lives = ::waitpid(bystander, nullptr, WNOHANG) == 0;
      ::kill(bystander, SIGKILL);
      ::waitpid(bystander, nullptr, 0);
      if (!lives) {
        std::printf("a stranger was killed\n");
        return 4;
      }
    }
  }
  return 0;
}

// ---- a host that is process 1 --------------------------------------------------------------------------------------

template <class Policy>
int leaves_no_zombie() {
  brood::Pool<Policy> pool({.workers = 3, .tasks_per_worker = 5});
  for (int round = 0; round < 20; ++round) {
    if (pool.map(&add_one, std::vector<int>(30), {.chunk_size = 1}) != std::vector<int>(30, 1)) return 1;
    static_cast<void>(pool.submit([] { return ::raise(SIGKILL); }).outcome());
    static_cast<void>(pool.submit([] {  // a grandchild that is left behind
                            if (::fork() == 0) {
                              ::usleep(1000);
                              ::_exit(0);
                            }
                            ::_exit(3);
                          }).outcome());
  }
  pool.wait();
  // a grandchild's adoption is the affair of process 1, not of the library
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  if (!support::eventually([&] {
        while (::waitpid(-1, nullptr, WNOHANG) > 0) {
        }
        return zombies() == 0;
      })) {
    std::printf("%d zombies\n", zombies());
    return 2;
  }
  return 0;
}

template <class Policy>
int leaves_no_zombie_of_its_own() {
  {
    brood::Pool<Policy> pool({.workers = 3, .tasks_per_worker = 5});
    for (int round = 0; round < 20; ++round) {
      if (pool.map(&add_one, std::vector<int>(30), {.chunk_size = 1}) != std::vector<int>(30, 1)) return 1;
      static_cast<void>(pool.submit([] { return ::raise(SIGKILL); }).outcome());
    }
    if (!support::eventually([&] { return zombies() == 0; })) {  // nobody but the library reaps
      std::printf("%d zombies while the pool lives\n", zombies());
      return 2;
    }
  }
  if (zombies() != 0 || support::all_processes().size() != 1) {
    std::printf("%d zombies, %zu processes after the pool\n", zombies(), support::all_processes().size());
    return 3;
  }
  return 0;
}

// ---- workers that are nobody ---------------------------------------------------------------------------------------

struct Notes {
  std::array<std::atomic<pid_t>, 4> processes{};
  std::atomic<bool> complete{false};
};

void drop_rights() {
  if (!become_nobody()) ::_exit(not_permitted);
}

}  // namespace

TEST_CASE_TEMPLATE("a number that was given to another process: neither cancel, kill, a deadline nor the end hits it", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  check(as_process_one(&strikes_no_stranger<Policy>));
}

TEST_CASE_TEMPLATE("a host that is process 1 has no zombie of the library's", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  check(as_process_one(&leaves_no_zombie_of_its_own<Policy>));
  check(as_process_one(&leaves_no_zombie<Policy>));
}

TEST_CASE_TEMPLATE("neither /proc nor /dev/shm is needed", Policy, brood::SpawnPolicy, support::ForkServer,
                   support::ForkServerWithPreloads) {
  const support::Leftovers audit;
  check(support::run_in_child([] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return not_permitted;
    ::umount2("/dev/shm", MNT_DETACH);  // what is below is a folder that nobody writes to
    if (::access("/dev/shm", F_OK) == 0 && ::mount("tmpfs", "/dev/shm", "tmpfs", MS_RDONLY, nullptr) != 0) return not_permitted;
    if (::umount2("/proc", MNT_DETACH) != 0) return not_permitted;
    brood::Pool<Policy> pool({.workers = 2});
    if (pool.map(&add_one, std::vector<int>(100)) != std::vector<int>(100, 1)) return 1;
    const auto died = pool.submit([] { return ::raise(SIGKILL); }).outcome();
    if (died || died.failure().signal() != SIGKILL) return 2;
    return pool.submit(&add_one, 1).get() == 2 ? 0 : 3;
  }));
}

TEST_CASE_TEMPLATE("workers that have become nobody end with their host", Policy, WORKER_POLICIES) {
  if (::geteuid() != 0) {
    MESSAGE("skipped: only root can become nobody");
    return;
  }
  const support::Leftovers audit;
  for (const bool busy : {false, true}) {
    const support::Shared<Notes> notes;
    std::fflush(nullptr);
    const pid_t host = ::fork();
    if (host == 0) {
      brood::Pool<Policy> pool({.workers = 1, .on_worker_start = &drop_rights});
      if (pool.submit([] { return ::getuid(); }).get() != 65534) ::_exit(1);
      auto future = pool.submit(&never_ends, 0);
      if (!busy) future.cancel();
      if (!busy) pool.submit(&add_one, 1).wait();
      support::eventually([&] { return pool.stats().running == (busy ? 1U : 0U); });
      notes->processes[0] = pool.stats().server_pid;
      for (const auto& worker : pool.stats().workers) notes->processes[1] = worker.pid;
      notes->complete = true;
      for (;;) ::pause();
    }
    REQUIRE(support::eventually([&] { return notes->complete.load(); }));
    CHECK(notes->processes[1] > 0);
    ::kill(host, SIGKILL);
    ::waitpid(host, nullptr, 0);
    for (std::size_t n = 0; n < 2; ++n) {
      const pid_t pid = notes->processes[n];
      CHECK_MESSAGE(support::eventually([&] { return !support::runs(pid); }), (n == 0 ? "the server" : "a worker") << " lives on");
    }
  }
}

TEST_CASE_TEMPLATE("workers that have become nobody end with their server", Policy, brood::SpawnPolicy, support::ForkServer,
                   support::ForkServerWithPreloads) {
  if (::geteuid() != 0) {
    MESSAGE("skipped: only root can become nobody");
    return;
  }
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .on_worker_start = &drop_rights});
  CHECK(pool.submit([] {
              int signal = 0;
              ::prctl(PR_GET_PDEATHSIG, &signal);
              return signal;
            }).get() == SIGKILL);
  auto future = pool.submit(&never_ends, 0);
  REQUIRE(support::eventually([&] { return pool.stats().running == 1; }));
  const pid_t worker = pool.stats().workers.front().pid;
  ::kill(pool.stats().server_pid, SIGKILL);
  const auto outcome = future.outcome();
  REQUIRE_FALSE(outcome);
  CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
  CHECK(support::eventually([&] { return !support::runs(worker); }));
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("a host that is nobody, with so many pipes that new ones are small", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  check(support::run_in_child([] {
    rlimit files{4096, 4096};
    if (::geteuid() != 0 || ::setrlimit(RLIMIT_NOFILE, &files) != 0 || !become_nobody()) return not_permitted;
    ::prctl(PR_SET_DUMPABLE, 1);  // as it is for a program that nobody has started
    int last = -1;
    for (int n = 0; n < 1100; ++n) {
      std::array<int, 2> ends{};
      if (::pipe2(ends.data(), O_CLOEXEC) != 0) return 10;
      last = ends[0];
    }
    const int capacity = ::fcntl(last, F_GETPIPE_SZ);
    std::printf("a pipe holds %d bytes\n", capacity);
    if (capacity > 8192) return not_permitted;  // this system has no such limit
    brood::Pool<Policy> pool({.workers = 2});
    const std::string large(std::size_t{1} << 20, 'p');  // 128 times what a pipe holds
    const auto echo = [](std::string text) { return text; };
    for (int n = 0; n < 3; ++n) {
      if (pool.submit(echo, large).get() != large) return 1;
    }
    if (pool.map(&add_one, std::vector<int>(3000)) != std::vector<int>(3000, 1)) return 2;
    for (const auto& each : pool.map(echo, std::vector<std::string>(4, large))) {
      if (each != large) return 3;
    }
    return 0;
  }));
}
