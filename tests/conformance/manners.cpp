// SPDX-License-Identifier: MIT
// The host is left as it was, and workers start clean.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/rounds.hpp"

namespace {

int add_one(int n) { return n + 1; }
std::set<std::string> descriptors() { return support::own_descriptors(); }

/// Pipes among them, without those of stdin, stdout and stderr.
std::size_t own_pipes(const std::set<std::string>& all) {
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](const std::string& each) {
    return each.find(" pipe:") != std::string::npos && std::stoi(each) > 2;
  }));
}

/// Signal dispositions as a mask, without libc's two own signals.
std::uint64_t mask(const std::string& field) {
  return std::stoull(support::own_status(field), nullptr, 16) & ~(std::uint64_t{3} << 31);
}

constexpr std::uint64_t crash_signals = [] {
  std::uint64_t signals = 0;
  for (const int each : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) signals |= std::uint64_t{1} << (each - 1);
  return signals;
}();

std::set<std::string> environment() {
  std::set<std::string> found;
  for (char** each = ::environ; *each != nullptr; ++each) found.insert(*each);
  return found;
}

/// Restores a disposition when it ends.
class Disposition {
 public:
  Disposition(int signal, void (*handler)(int), int flags = 0) : signal_(signal) {
    struct sigaction wanted {};
    wanted.sa_handler = handler;
    wanted.sa_flags = flags;
    ::sigaction(signal, &wanted, &before_);
  }
  Disposition(const Disposition&) = delete;
  Disposition& operator=(const Disposition&) = delete;
  ~Disposition() { ::sigaction(signal_, &before_, nullptr); }

 private:
  int signal_;
  struct sigaction before_ {};
};

template <class Policy>
void deaths_are_told_apart(brood::Pool<Policy>& pool) {
  for (const int n : support::rounds(10, 1'000)) {
    auto killed = pool.submit([] { return ::raise(SIGKILL); });
    auto left = pool.submit([] { ::_exit(3); });
    const auto killed_outcome = killed.outcome();
    const auto left_outcome = left.outcome();
    REQUIRE_FALSE(killed_outcome);
    REQUIRE_FALSE(left_outcome);
    CHECK(killed_outcome.failure().signal() == SIGKILL);
    CHECK(left_outcome.failure().status().describe() == "exited with code 3");
    CHECK(pool.submit(&add_one, n).get() == n + 1);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("the host has no child but the server", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 3});
  pool.map(&add_one, std::vector<int>(100));
  for (const auto& process : support::all_processes()) {
    if (process.parent == ::getpid()) CHECK(process.pid == pool.stats().server_pid);
  }
  for (const auto& worker : pool.stats().workers) CHECK(support::process_info(worker.pid)->parent == pool.stats().server_pid);
}

TEST_CASE_TEMPLATE("a host that ignores SIGCHLD learns the exact cause of every death", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Disposition ignored(SIGCHLD, SIG_IGN);
  brood::Pool<Policy> pool({.workers = 2});
  deaths_are_told_apart(pool);
}

TEST_CASE_TEMPLATE("a host with SA_NOCLDWAIT learns the exact cause of every death", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Disposition ignored(SIGCHLD, [](int) {}, SA_NOCLDWAIT | SA_RESTART);
  brood::Pool<Policy> pool({.workers = 2});
  deaths_are_told_apart(pool);
}

TEST_CASE_TEMPLATE("a host thread that reaps every child disturbs nothing", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  std::atomic<bool> quit = false;
  std::thread reaper([&] {
    while (!quit) {
      ::waitpid(-1, nullptr, WNOHANG);
      std::this_thread::yield();
    }
  });
  deaths_are_told_apart(pool);
  if constexpr (!brood::CopiesHost<Policy>) {
    const pid_t server = pool.stats().server_pid;
    REQUIRE(server > 0);
    ::kill(server, SIGKILL);
    CHECK(support::eventually([&] { return pool.submit(&add_one, 1).outcome().has_value(); }));
  }
  pool.kill();
  quit = true;
  reaper.join();
}

TEST_CASE_TEMPLATE("the library reaps no child of the host's", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const pid_t own = ::fork();
  if (own == 0) ::_exit(77);
  {
    brood::Pool<Policy> pool({.workers = 2});
    deaths_are_told_apart(pool);
  }
  int status = 0;
  REQUIRE(::waitpid(own, &status, 0) == own);
  CHECK(WEXITSTATUS(status) == 77);
}

TEST_CASE_TEMPLATE("writing to dead workers raises no SIGPIPE in a host with the default disposition", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Disposition standard(SIGPIPE, SIG_DFL);
  brood::Pool<Policy> pool({.workers = 2});
  const std::string large(std::size_t{4} << 20, 'x');
  for (int n = 0; n < 20; ++n) {
    auto first = pool.submit([](const std::string& text) { return text.size(); }, n % 2 == 0 ? large : std::string("small"));
    for (const auto& worker : pool.stats().workers) ::kill(worker.pid, SIGKILL);
    auto second = pool.submit([](const std::string& text) { return text.size(); }, large);
    const auto outcome = first.outcome();
    if (!outcome) CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
    CHECK(second.outcome().has_value() == true);
  }
}

TEST_CASE_TEMPLATE("workers start with clean signals, whatever the host has", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  const Disposition term(SIGTERM, SIG_IGN);
  const Disposition pipe(SIGPIPE, SIG_IGN);
  const Disposition usr(SIGUSR1, [](int) { ::_exit(55); });
  const Disposition realtime(SIGRTMIN + 3, SIG_IGN);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  {
    brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 3});
    for (int n = 0; n < 4; ++n) {  // replaced workers, too
      const auto masks = pool.submit([] { return std::array{mask("SigBlk"), mask("SigIgn"), mask("SigCgt")}; }).get();
      CHECK(masks[0] == 0);
      std::uint64_t of_terminal = 0;  // they are the host's
      for (const int signal : {SIGINT, SIGTSTP, SIGTTIN, SIGTTOU}) of_terminal |= std::uint64_t{1} << (signal - 1);
      CHECK(masks[1] == of_terminal);
      CHECK((masks[2] & ~crash_signals) == 0);  // PoolOptions::backtraces
    }
    auto future = pool.submit([] { return ::raise(SIGUSR1); });
    CHECK(future.outcome().failure().signal() == SIGUSR1);  // the host's handler never runs in a child
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
}

TEST_CASE_TEMPLATE("a worker's stdin is /dev/null", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  CHECK(pool.submit([] { return support::link_target("/proc/self/fd/0"); }).get() == "/dev/null");
  CHECK(pool.submit([] {
              char byte = 0;
              return ::read(STDIN_FILENO, &byte, 1);
            }).get() == 0);
}

TEST_CASE_TEMPLATE("a worker has its own descriptors and no other, whatever the pool's size", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  std::set<std::size_t> sizes;
  for (const unsigned workers : {1U, 2U, 5U, 16U}) {
    CAPTURE(workers);
    const support::Gate gate;
    brood::Pool<Policy> pool({.workers = workers, .tasks_per_worker = 2});
    std::vector<brood::Future<int>> holding;
    for (unsigned n = 0; n + 1 < workers; ++n) holding.push_back(pool.submit(&support::wait_for_gate, gate.path(), 0));
    REQUIRE(support::wait_until_running(pool, workers - 1));
    for (int n = 0; n < 5; ++n) sizes.insert(pool.submit(&descriptors).get().size());
    if constexpr (!brood::CopiesHost<Policy>) {
      const auto found = pool.submit([] { return support::numbers_in("/proc/self/fd"); }).get();
      CHECK(found.size() == 5);
      CHECK(found.contains(0));
      CHECK(found.contains(1));
      CHECK(found.contains(2));
      CHECK(own_pipes(pool.submit(&descriptors).get()) == 2);
    }
    gate.open();
  }
  CHECK(sizes.size() == 1);
}

TEST_CASE("a forked worker has the descriptors that the host had when the pool was made, and its two pipes") {
  const support::Leftovers audit;
  const std::set<std::string> before = descriptors();
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});
  for (int n = 0; n < 5; ++n) {
    std::set<std::string> found = pool.submit(&descriptors).get();
    found.erase("0 /dev/null");
    std::vector<std::string> more;
    std::set_difference(found.begin(), found.end(), before.begin(), before.end(), std::back_inserter(more));
    CHECK(more.size() == 2);
    CHECK(own_pipes({more.begin(), more.end()}) == 2);
    std::set<std::string> less;
    std::set_difference(before.begin(), before.end(), found.begin(), found.end(), std::inserter(less, less.end()));
    CHECK(std::all_of(less.begin(), less.end(), [](const std::string& each) { return each.starts_with("0 "); }));
  }
}

TEST_CASE_TEMPLATE("what the host has open does not reach exec'ed children", Policy, brood::SpawnPolicy, support::ForkServer,
                   support::ForkServerWithPreloads) {
  const support::Leftovers audit;
  const int leaky = ::open("/etc/passwd", O_RDONLY);  // without O_CLOEXEC
  const int high = ::fcntl(leaky, F_DUPFD, 200);
  {
    brood::Pool<Policy> pool({.workers = 2});
    for (const std::string& each : pool.submit(&descriptors).get()) CHECK(each.find("/etc/passwd") == std::string::npos);
    pool.map(&add_one, std::vector<int>(50));
    for (const auto& worker : pool.stats().workers) {
      CHECK(support::numbers_in("/proc/" + std::to_string(worker.pid) + "/fd").size() == 5);
    }
  }
  ::close(leaky);
  ::close(high);
}

TEST_CASE_TEMPLATE("a host without 0, 1 and 2 works", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Shared<std::atomic<int>> good;
  support::run_in_child([&] {
    ::close(0);
    ::close(1);
    ::close(2);
    brood::Pool<Policy> pool({.workers = 2});
    for (int n = 0; n < 50; ++n) {
      *good += pool.submit(
                   [](int k) {
                     std::printf("to nobody %d\n", k);
                     std::fprintf(stderr, "to nobody\n");
                     return k;
                   },
                   n).get() == n;
    }
    for (int fd = 0; fd < 3; ++fd) {  // nothing of the library's has landed there
      struct stat status {};
      if (::fstat(fd, &status) == 0) *good -= 1000;
    }
    return 0;
  });
  CHECK(*good == 50);
}

TEST_CASE_TEMPLATE("tasks see the environment of the host, and nothing of the library's", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  ::setenv("BROOD_TEST_MARK", "here", 1);
  {
    brood::Pool<Policy> pool({.workers = 1});
    CHECK(pool.submit(&environment).get() == environment());
  }
  ::unsetenv("BROOD_TEST_MARK");
}

TEST_CASE_TEMPLATE("workers have the host's folder and umask", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const mode_t before = ::umask(027);
  {
    brood::Pool<Policy> pool({.workers = 1});
    CHECK(pool.submit([] { return std::filesystem::current_path(); }).get() == std::filesystem::current_path());
    CHECK(pool.submit([] { return ::umask(0); }).get() == 027);
  }
  ::umask(before);
}

namespace {

using Pair = std::pair<std::uint64_t, std::uint64_t>;

// a library that seeds itself anew in each child, as those of cryptography do
Pair draw_from_system() {
  std::random_device device;
  const auto number = [&] { return std::uint64_t{device()} << 32 | device(); };
  const std::uint64_t first = number();
  return {first, number()};
}
Pair seed_of_process = draw_from_system();
const bool seeds_anew = ::pthread_atfork(nullptr, nullptr, [] { seed_of_process = draw_from_system(); }) == 0;

/// 128 bits from the system, from that library, and from brood.
std::vector<Pair> draw() {
  const std::uint64_t first = brood::this_worker::random_engine()();
  return {draw_from_system(), seed_of_process, {first, brood::this_worker::random_engine()()}};
}

}  // namespace

TEST_CASE_TEMPLATE("workers draw different random numbers", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  REQUIRE(seeds_anew);
  std::size_t workers = 0;
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 1});
  std::set<Pair> drawn;
  for (const int round : support::rounds(40, 1'000)) {
    CAPTURE(round);
    for (const Pair& each : pool.submit(&draw).get()) drawn.insert(each);
    ++workers;
  }
  CHECK(pool.stats().workers_started >= workers);
  CHECK(drawn.size() == 3 * workers);
}

TEST_CASE_TEMPLATE("a timer that interrupts the host's system calls disturbs nothing", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Disposition interrupting(SIGALRM, [](int) {});  // without SA_RESTART
  const itimerval often{{0, 1000}, {0, 1000}};
  const itimerval never{};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  {
    brood::Pool<Policy> pool({.workers = 2});
    const std::string large(std::size_t{1} << 20, 'x');
    for (int n = 0; n < 30; ++n) {
      CHECK(pool.submit([](const std::string& text) { return text; }, large).get() == large);
    }
    deaths_are_told_apart(pool);
  }
  ::setitimer(ITIMER_REAL, &never, nullptr);
}
