// SPDX-License-Identifier: MIT
// Programs that a task starts: they get nothing of the library's, and nobody waits for them.
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/eventually.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

namespace {

int add_one(int n) { return n + 1; }

/// What a program prints that a shell runs.
std::string printed_by(const std::string& command) {
  std::string text;
  FILE* const pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return "popen failed";
  char piece[512];
  while (const std::size_t size = std::fread(piece, 1, sizeof piece, pipe)) text.append(piece, size);
  ::pclose(pipe);
  return text;
}

/// The names of the variables, without those that a shell sets for itself.
std::set<std::string> variables(const std::string& text) {
  std::set<std::string> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::string name = line.substr(0, line.find('='));
    if (name != "_" && name != "PWD" && name != "OLDPWD" && name != "SHLVL") found.insert(name);
  }
  return found;
}

/// Starts a program that runs for long and holds the worker's stdout and stderr; writes its number to the file.
void start_sleeper(const std::string& path) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sleep", "sleep", "1000", nullptr);
    ::_exit(127);
  }
  std::ofstream(path) << child << '\n';
}

class SleeperFile {
 public:
  SleeperFile() : path_("/tmp/brood_sleeper_" + std::to_string(::getpid())) { ::unlink(path_.c_str()); }
  SleeperFile(const SleeperFile&) = delete;
  SleeperFile& operator=(const SleeperFile&) = delete;
  ~SleeperFile() {
    if (const pid_t sleeper = pid(); sleeper > 0) ::kill(sleeper, SIGKILL);
    ::unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }
  pid_t pid() const {
    pid_t found = 0;
    std::istringstream(support::read_text(path_)) >> found;
    return found;
  }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE_TEMPLATE("a program that a task starts has the host's variables and none of the library's", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const std::string seen = pool.submit(&printed_by, "env").get();
  CHECK(variables(seen) == variables(printed_by("env")));
  for (const std::string& each : variables(seen)) CHECK_MESSAGE(each.find("BROOD_TEST") == each.find("BROOD"), each);
}

TEST_CASE_TEMPLATE("a program that a task starts has no descriptor of the library's", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const std::string seen = pool.submit(&printed_by, "ls -l /proc/self/fd").get();
  CHECK_MESSAGE(seen.find("brood") == std::string::npos, seen);  // status pages, sealed memory
  CHECK_MESSAGE(seen.find("socket:") == std::string::npos, seen);
  // stdin, stdout and stderr, and the folder that ls reads: an exec'ed child of the host's has no more
  std::size_t count = 0;
  std::istringstream lines(seen);
  for (std::string line; std::getline(lines, line);) count += line.find("->") != std::string::npos;
  const std::size_t expected = [&] {
    std::size_t of_host = 0;
    std::istringstream own(printed_by("ls -l /proc/self/fd"));
    for (std::string line; std::getline(own, line);) of_host += line.find("->") != std::string::npos;
    return of_host;
  }();
  CHECK_MESSAGE(count <= expected, seen);
}

TEST_CASE_TEMPLATE("a program that holds a worker's stdout delays neither its timeout, nor the next task, nor the end", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  const SleeperFile file;
  {
    brood::Pool<Policy> pool({.workers = 1});
    auto late = pool.submit({.timeout = std::chrono::milliseconds(300)}, [](const std::string& path) {
      start_sleeper(path);
      for (;;) ::pause();
    }, file.path());
    const auto outcome = late.outcome();
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::timeout);
    CHECK(pool.submit(&add_one, 1).get() == 2);
  }
  REQUIRE(file.pid() > 0);
  CHECK(support::runs(file.pid()));  // without PoolOptions::kill_tree it is not the library's to kill
}
