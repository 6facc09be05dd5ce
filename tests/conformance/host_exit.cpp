// SPDX-License-Identifier: MIT
// A program that ends, in any way, with a pool of static duration whose workers are busy, ends; and leaves nobody.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/program.hpp"
#include "support/rounds.hpp"
#include "support/sanitizer.hpp"

namespace {

int add_one(int n) { return n + 1; }

int sleeps_deaf(int n) {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  for (;;) ::usleep(1'000'000 + static_cast<useconds_t>(n));
}

/// One that holds everything of the host's, and lives on until its parent has ended.
void leave_bystander() {
  const pid_t host = ::getpid();
  if (::fork() != 0) return;
  support::eventually([&] { return ::getppid() != host; }, std::chrono::seconds(30));
  ::_exit(0);
}

/// The pool lives until the statics are destroyed. `busy`: its workers never come to an end by themselves, so it is killed
/// first, by a static that is destroyed before it.
template <class Policy>
struct StaticPool {
  brood::Pool<Policy> pool{{.workers = 2, .stop_grace = std::chrono::milliseconds(100)}};
};
template <class Policy>
struct Killer {
  StaticPool<Policy>& owner;
  ~Killer() { owner.pool.kill(); }
};

/// The host: prints its processes, then ends in the way that it was asked for.
template <class Policy>
int end_as(std::string_view way) {
  static StaticPool<Policy> owner;
  static const Killer<Policy> killer{owner};
  auto& pool = owner.pool;
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 4; ++n) futures.push_back(pool.submit(&sleeps_deaf, n));
  support::eventually([&] { return pool.stats().running == 2; });
  leave_bystander();
  std::printf("up\n");
  std::fflush(stdout);
  if (way == "return") return 3;
  if (way == "exit") std::exit(3);
  if (way == "exit in a thread") std::thread([] { std::exit(3); }).join();
  if (way == "quick_exit") std::quick_exit(3);
  if (way == "_Exit") std::_Exit(3);
  if (way == "abort") std::abort();
  if (way == "throw") throw std::runtime_error("not to be caught");
  if (way == "SIGTERM") ::raise(SIGTERM);
  return 99;
}

template <class Policy>
int host(int argc, char** argv) {
  brood::init(argc, argv);
  return end_as<Policy>(argv[2]);
}

const support::Program fork_host("exits-ForkPolicy", &host<brood::ForkPolicy>);
const support::Program spawn_host("exits-SpawnPolicy", &host<brood::SpawnPolicy>);
const support::Program server_host("exits-ForkServer", &host<support::ForkServer>);

/// A pool that is made as one at namespace scope is: before main, and so before init. In an exec'ed copy of the program,
/// too.
template <class Policy>
int early(int argc, char** argv) {
  static brood::Pool<Policy> pool({.workers = 1});
  brood::init(argc, argv);
  std::printf("%d\n", pool.submit(&add_one, 1).get());
  return 0;
}
const support::Program early_fork("early-ForkPolicy", &early<brood::ForkPolicy>);
const support::Program early_spawn("early-SpawnPolicy", &early<brood::SpawnPolicy>);
const support::Program early_server("early-ForkServer", &early<support::ForkServer>);

}  // namespace

TEST_CASE("a program with a static pool and busy workers ends in every way, and leaves nobody") {
  for (const int round : support::rounds(1, 500)) {
    CAPTURE(round);
    for (const std::string policy : {"ForkPolicy", "SpawnPolicy", "ForkServer"}) {
      for (const std::string way :
           {"return", "exit", "exit in a thread", "quick_exit", "_Exit", "abort", "throw", "SIGTERM"}) {
        CAPTURE(policy);
        CAPTURE(way);
        const support::Leftovers audit;
        const support::Ran ran =
            support::run_program({support::own_path(), "--program=exits-" + policy, way},
                                 support::has_sanitizer ? 60'000 : 20'000);
        CHECK_MESSAGE(ran.output.find("up\n") == 0, ran.output);
        CHECK_MESSAGE(ran.output.find("killed: it took too long") == std::string::npos, ran.output);
        if (way == "abort" || way == "throw") {
          CHECK_MESSAGE(ran.status.signal() == SIGABRT, ran.status.describe());
        } else if (way == "SIGTERM") {
          CHECK_MESSAGE(ran.status.signal() == SIGTERM, ran.status.describe());
        } else {
          CHECK_MESSAGE(ran.status.describe() == "exited with code 3", ran.output);
        }
      }
    }
  }
}

TEST_CASE("a pool that is made before brood::init says what is missing, and does no harm") {
  for (const std::string policy : {"ForkPolicy", "SpawnPolicy", "ForkServer"}) {
    CAPTURE(policy);
    const support::Leftovers audit;
    const support::Ran ran = support::run_program({support::own_path(), "--program=early-" + policy}, 60'000);
    if (policy == "ForkPolicy") {
      CHECK_MESSAGE(ran.status.describe() == "exited with code 0", ran.output);
      CHECK(ran.output == "2\n");
    } else {
      CHECK_MESSAGE(ran.status.signal() == SIGABRT, ran.output);
      CHECK_MESSAGE(ran.output.find("brood::init(argc, argv);") != std::string::npos, ran.output);
      CHECK_MESSAGE(ran.output.find("InitMissing") == ran.output.rfind("InitMissing"), ran.output);  // once: nothing multiplied
    }
  }
}
