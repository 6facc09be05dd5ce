// SPDX-License-Identifier: MIT
// Ctrl-C and Ctrl-Z at a terminal reach the whole foreground group: they are the host's affair alone.
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/rounds.hpp"

namespace {

int add_one(int n) { return n + 1; }

struct Notes {
  std::atomic<bool> ready{false};
  std::atomic<int> interrupts{0};
  std::atomic<int> good{0};
  std::atomic<int> stops{0};
  std::atomic<bool> continued{false};
  std::atomic<pid_t> server{0};
  std::atomic<pid_t> workers[2]{};
};

support::Shared<Notes>* notes = nullptr;

struct TerminalRan {
  brood::ExitStatus status;
  std::string output;
};

/// Types at the terminal as soon as the host says that it is ready.
void type_when_ready(int terminal, const std::string& keys) {
  CHECK(support::eventually([&] { return (*notes)->ready.load(); }));
  (*notes)->ready = false;
  CHECK(::write(terminal, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
}

/// Runs a host in the foreground of a terminal of its own; `user` sits at the other end.
template <class Host>
TerminalRan at_terminal(Host host, const std::function<void(int terminal)>& user) {
  std::fflush(nullptr);
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(host());
  user(terminal);
  TerminalRan ran;
  int status = 0;
  const bool ended = support::eventually([&] { return ::waitpid(child, &status, WNOHANG) == child; });
  CHECK_MESSAGE(ended, "the host at the terminal does not come to its end");
  if (!ended) {
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
  }
  ran.status = brood::ExitStatus::from_wait(status);
  char piece[512];
  for (ssize_t size = 0; (size = ::read(terminal, piece, sizeof piece)) > 0;) {
    ran.output.append(piece, static_cast<std::size_t>(size));
  }
  ::close(terminal);
  for (const pid_t pid : {(*notes)->server.load(), (*notes)->workers[0].load(), (*notes)->workers[1].load()}) {
    CHECK(pid > 0);
    CHECK_MESSAGE(support::eventually([&] { return !support::runs(pid); }), "process " << pid << " outlives its host");
  }
  return ran;
}

/// The same; types Ctrl-C so many times.
template <class Host>
TerminalRan at_terminal(Host host, int interrupts) {
  return at_terminal(host, [&](int terminal) {
    for (int n = 0; n < interrupts; ++n) type_when_ready(terminal, "\x03");
  });
}

/// What a shell does for a job: gives it the terminal, hears of its stops, continues it (`fg`) when the user says so, and
/// returns how it ended. Without a shell above it a process group can't be stopped by the terminal.
template <class Host>
int as_job(Host host, bool in_foreground = true) {
  for (const int signal : {SIGTTOU, SIGTTIN, SIGTSTP, SIGINT}) ::signal(signal, SIG_IGN);
  const pid_t job = ::fork();
  if (job == 0) {
    ::setpgid(0, 0);
    if (in_foreground) ::tcsetpgrp(STDIN_FILENO, ::getpid());
    for (const int signal : {SIGTTOU, SIGTTIN, SIGTSTP, SIGINT}) ::signal(signal, SIG_DFL);
    ::_exit(host());
  }
  ::setpgid(job, job);
  if (in_foreground) ::tcsetpgrp(STDIN_FILENO, job);
  for (;;) {
    int status = 0;
    if (::waitpid(job, &status, WUNTRACED) != job) return 90;
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    if (!WIFSTOPPED(status)) return 100 + WTERMSIG(status);
    ++(*notes)->stops;
    support::eventually([] { return (*notes)->continued.load(); });
    ::kill(-job, SIGCONT);
  }
}

/// A task that shows when it has gone on: waits for a gate, and opens another.
int pass_gates(const std::string& first, const std::string& second, int n) {
  support::wait_for_gate(first, n);
  ::close(::open(second.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  return n;
}

/// What a task has of the terminal when its job is in the background: whether it may write, and why it may not read.
std::pair<bool, int> use_terminal() {
  const int terminal = ::open("/dev/tty", O_RDWR | O_CLOEXEC);
  if (terminal < 0) return {false, errno};
  char key = 0;
  const bool wrote = ::write(terminal, "w", 1) == 1;
  const int error = ::read(terminal, &key, 1) < 0 ? errno : 0;
  ::close(terminal);
  return {wrote, error};
}

template <class Policy>
void note(brood::Pool<Policy>& pool) {
  const auto stats = pool.stats();
  (*notes)->server = stats.server_pid;
  for (std::size_t n = 0; n < stats.workers.size() && n < 2; ++n) (*notes)->workers[n] = stats.workers[n].pid;
}

/// But for what the terminal shows of Ctrl-C.
bool prints_nothing(const TerminalRan& ran) {
  std::string text = ran.output;
  for (auto echo = text.find("^C"); echo != std::string::npos; echo = text.find("^C")) text.erase(echo, 2);
  return text.empty();
}

}  // namespace

TEST_CASE_TEMPLATE("Ctrl-C goes to the host: its handler runs once, and workers go on", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Shared<Notes> shared;
  notes = const_cast<support::Shared<Notes>*>(&shared);
  const support::Rounds rounds = support::rounds(5, 200);
  const TerminalRan ran = at_terminal(
      [&] {
        struct sigaction counting {};
        counting.sa_handler = [](int) { ++(*notes)->interrupts; };
        ::sigaction(SIGINT, &counting, nullptr);
        brood::Pool<Policy> pool({.workers = 2});
        for (const int round : rounds) {
          const support::Gate gate;
          std::vector<brood::Future<int>> futures;
          for (int n = 0; n < 2; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), n));
          support::wait_until_running(pool, 2);
          if (round == 0) note(pool);
          (*notes)->ready = true;
          support::eventually([&] { return (*notes)->interrupts == round + 1; });
          gate.open();
          for (int n = 0; n < 2; ++n) (*notes)->good += futures[static_cast<std::size_t>(n)].get() == n;
          (*notes)->good += pool.submit(&add_one, 1).get() == 2;
        }
        return pool.stats().workers_died == 0 ? 7 : 8;
      },
      rounds.count());
  CHECK_MESSAGE(ran.status.describe() == "exited with code 7", ran.output);
  CHECK(shared->interrupts == rounds.count());
  CHECK(shared->good == 3 * rounds.count());
  CHECK_MESSAGE(prints_nothing(ran), ran.output);
  notes = nullptr;
}

TEST_CASE_TEMPLATE("Ctrl-C at any moment of a pool's life goes to the host alone", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const int round : support::rounds(3, 200)) {
    CAPTURE(round);
    const support::Shared<Notes> shared;
    notes = const_cast<support::Shared<Notes>*>(&shared);
    const auto host = [] {
      struct sigaction counting {};
      counting.sa_handler = [](int) { ++(*notes)->interrupts; };  // without SA_RESTART
      ::sigaction(SIGINT, &counting, nullptr);
      (*notes)->ready = true;
      {
        brood::Pool<Policy> pool({.workers = 2});
        if (pool.map(&add_one, std::vector<int>(20), {.chunk_size = 1}) != std::vector<int>(20, 1)) return 8;
        if (!support::eventually([&] { return pool.stats().workers.size() == 2; })) return 9;
        note(pool);
        if (pool.submit(&add_one, 1).get() != 2 || pool.stats().workers_died != 0) return 10;
      }
      return support::eventually([] { return (*notes)->interrupts == 1; }) ? 7 : 11;
    };
    const TerminalRan ran = at_terminal(host, [&](int terminal) {
      const timespec moment{0, round * 11 % 40 * 1'000'000};
      if (support::eventually([] { return (*notes)->ready.load(); })) ::nanosleep(&moment, nullptr);
      type_when_ready(terminal, "\x03");
    });
    CHECK_MESSAGE(ran.status.describe() == "exited with code 7", ran.output);
    CHECK_MESSAGE(prints_nothing(ran), ran.output);
    notes = nullptr;
  }
}

TEST_CASE_TEMPLATE("Ctrl-C ends a host that has no handler, and everything with it", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const int round : support::rounds(3, 200)) {
    CAPTURE(round);
    const support::Shared<Notes> shared;
    notes = const_cast<support::Shared<Notes>*>(&shared);
    const TerminalRan ran = at_terminal(
        [] {
          ::signal(SIGINT, SIG_DFL);
          brood::Pool<Policy> pool({.workers = 2});
          std::vector<brood::Future<int>> futures;
          for (int n = 0; n < 2; ++n) {
            futures.push_back(pool.submit([](int) -> int {
              for (;;) ::pause();
            }, n));
          }
          support::wait_until_running(pool, 2);
          note(pool);
          (*notes)->ready = true;
          pool.wait();
          return 9;
        },
        1);
    CHECK_MESSAGE(ran.status.signal() == SIGINT, ran.status.describe());
    notes = nullptr;
  }
}

TEST_CASE_TEMPLATE("Ctrl-Z stops nobody when the host ignores it", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Shared<Notes> shared;
  notes = const_cast<support::Shared<Notes>*>(&shared);
  const support::Gate gate;
  const auto host = [&] {
    ::signal(SIGTSTP, SIG_IGN);
    struct sigaction counting {};
    counting.sa_handler = [](int) { ++(*notes)->interrupts; };
    ::sigaction(SIGINT, &counting, nullptr);
    brood::Pool<Policy> pool({.workers = 2});
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 2; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), n));
    support::wait_until_running(pool, 2);
    note(pool);
    (*notes)->ready = true;
    support::eventually([] { return (*notes)->interrupts == 1; });  // typed behind it
    gate.open();
    for (int n = 0; n < 2; ++n) {
      auto& future = futures[static_cast<std::size_t>(n)];
      if (!future.wait_for(std::chrono::seconds(15))) return 8;
      (*notes)->good += future.get() == n;
    }
    return pool.submit(&add_one, 1).get() == 2 && pool.stats().workers_died == 0 ? 7 : 9;
  };
  const TerminalRan ran = at_terminal([&] { return as_job(host); }, [](int terminal) { type_when_ready(terminal, "\x1a\x03"); });
  CHECK_MESSAGE(ran.status.describe() == "exited with code 7", ran.output);
  CHECK(shared->stops.load() == 0);
  CHECK(shared->good.load() == 2);
  notes = nullptr;
}

TEST_CASE_TEMPLATE("Ctrl-Z stops a host that leaves it at that, the work goes on, and so does the host with fg", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Shared<Notes> shared;
  notes = const_cast<support::Shared<Notes>*>(&shared);
  const support::Gate gate;
  const support::Gate passed[2];
  const auto host = [&] {
    brood::Pool<Policy> pool({.workers = 2});
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 2; ++n) futures.push_back(pool.submit(&pass_gates, gate.path(), passed[n].path(), n));
    support::wait_until_running(pool, 2);
    note(pool);
    (*notes)->ready = true;
    for (int n = 0; n < 2; ++n) (*notes)->good += futures[static_cast<std::size_t>(n)].get() == n;
    return pool.submit(&add_one, 1).get() == 2 && pool.stats().workers_died == 0 ? 7 : 9;
  };
  const TerminalRan ran = at_terminal([&] { return as_job(host); }, [&](int terminal) {
    type_when_ready(terminal, "\x1a");
    CHECK(support::eventually([] { return (*notes)->stops == 1; }));
    gate.open();
    for (const support::Gate& each : passed) {
      CHECK(support::eventually([&] { return ::access(each.path().c_str(), F_OK) == 0; }, std::chrono::seconds(10)));
    }
    CHECK((*notes)->good.load() == 0);  // the host is stopped
    (*notes)->continued = true;
  });
  CHECK_MESSAGE(ran.status.describe() == "exited with code 7", ran.output);
  CHECK(shared->stops.load() == 1);
  CHECK(shared->good.load() == 2);
  notes = nullptr;
}

TEST_CASE_TEMPLATE("a terminal whose foreground is another's stops no worker", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Shared<Notes> shared;
  notes = const_cast<support::Shared<Notes>*>(&shared);
  const auto host = [] {
    ::signal(SIGTTOU, SIG_IGN);
    ::signal(SIGTTIN, SIG_IGN);
    struct termios mode {};
    ::tcgetattr(STDIN_FILENO, &mode);
    mode.c_lflag |= TOSTOP;
    if (::tcsetattr(STDIN_FILENO, TCSANOW, &mode) != 0) return 10;
    brood::Pool<Policy> pool({.workers = 2});
    pool.map(&add_one, std::vector{1, 2}, {.chunk_size = 1});
    auto future = pool.submit(&use_terminal);
    if (!future.wait_for(std::chrono::seconds(15))) {
      note(pool);
      return 8;
    }
    static_cast<void>(support::eventually([&] { return pool.stats().workers.size() == 2; }));
    note(pool);
    const auto [wrote, error] = future.get();
    return wrote && error == EIO ? 7 : 9;
  };
  const TerminalRan ran = at_terminal([&] { return as_job(host, false); }, [](int) {});
  CHECK_MESSAGE(ran.status.describe() == "exited with code 7", ran.output);
  CHECK(shared->stops.load() == 0);
  notes = nullptr;
}
