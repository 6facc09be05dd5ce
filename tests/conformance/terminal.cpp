// SPDX-License-Identifier: MIT
// Ctrl-C at a terminal reaches the whole foreground group: it is the host's affair alone.
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

int add_one(int n) { return n + 1; }

struct Notes {
  std::atomic<bool> ready{false};
  std::atomic<int> interrupts{0};
  std::atomic<int> good{0};
  std::atomic<pid_t> server{0};
  std::atomic<pid_t> workers[2]{};
};

support::Shared<Notes>* notes = nullptr;

struct TerminalRan {
  brood::ExitStatus status;
  std::string output;
};

/// Runs a host in the foreground of a terminal of its own, and types each time that it says that it is ready.
template <class Host>
TerminalRan at_terminal(Host host, int interrupts) {
  std::fflush(nullptr);
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(host());
  for (int n = 0; n < interrupts; ++n) {
    CHECK(support::eventually([&] { return (*notes)->ready.load(); }));
    (*notes)->ready = false;
    CHECK(::write(terminal, "\x03", 1) == 1);
  }
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

template <class Policy>
void note(brood::Pool<Policy>& pool) {
  const auto stats = pool.stats();
  (*notes)->server = stats.server_pid;
  for (std::size_t n = 0; n < stats.workers.size() && n < 2; ++n) (*notes)->workers[n] = stats.workers[n].pid;
}

}  // namespace

TEST_CASE_TEMPLATE("Ctrl-C goes to the host: its handler runs once, and workers go on", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Shared<Notes> shared;
  notes = const_cast<support::Shared<Notes>*>(&shared);
  constexpr int rounds = 5;
  const TerminalRan ran = at_terminal(
      [] {
        struct sigaction counting {};
        counting.sa_handler = [](int) { ++(*notes)->interrupts; };
        ::sigaction(SIGINT, &counting, nullptr);
        brood::Pool<Policy> pool({.workers = 2});
        for (int round = 1; round <= rounds; ++round) {
          const support::Gate gate;
          std::vector<brood::Future<int>> futures;
          for (int n = 0; n < 2; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), n));
          support::wait_until_running(pool, 2);
          if (round == 1) note(pool);
          (*notes)->ready = true;
          support::eventually([&] { return (*notes)->interrupts == round; });
          gate.open();
          for (int n = 0; n < 2; ++n) (*notes)->good += futures[static_cast<std::size_t>(n)].get() == n;
          (*notes)->good += pool.submit(&add_one, 1).get() == 2;
        }
        return pool.stats().workers_died == 0 ? 7 : 8;
      },
      rounds);
  CHECK_MESSAGE(ran.status.describe() == "exited with code 7", ran.output);
  CHECK(shared->interrupts == rounds);
  CHECK(shared->good == 3 * rounds);
  std::string text = ran.output;
  for (auto echo = text.find("^C"); echo != std::string::npos; echo = text.find("^C")) text.erase(echo, 2);
  CHECK_MESSAGE(text.empty(), ran.output);  // the library prints nothing
  notes = nullptr;
}

TEST_CASE_TEMPLATE("Ctrl-C ends a host that has no handler, and everything with it", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (int round = 0; round < 3; ++round) {
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
