// SPDX-License-Identifier: MIT
// What a compiler that measures coverage has counted is written before a worker or a server ends. This program plays such a
// compiler's run-time library.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <sstream>
#include <string>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

namespace {

constexpr const char* log_variable = "BROOD_TEST_COVERAGE";

/// One line for each process that has written its counters: which library, and the pid.
void note(const char* library) {
  const char* const path = std::getenv(log_variable);
  if (path == nullptr) return;
  const int fd = ::open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
  const std::string line = library + (" " + std::to_string(::getpid()) + "\n");
  if (fd < 0 || ::write(fd, line.data(), line.size()) < 0) std::abort();
  ::close(fd);
}

int own_pid() { return ::getpid(); }
int ends_by(int how) {
  if (how == 0) std::exit(3);
  if (how == 1) std::quick_exit(5);
  return 0;
}

}  // namespace

extern "C" {
void __gcov_exit() { note("gcov"); }
int __llvm_profile_write_file() {
  note("llvm");
  return 0;
}
}

TEST_CASE_TEMPLATE("coverage is written at the end of workers and of their server", Policy, WORKER_POLICIES) {
  std::string path = "/tmp/brood_coverage_XXXXXX";
  ::close(::mkostemp(path.data(), O_CLOEXEC));
  REQUIRE(::setenv(log_variable, path.c_str(), 1) == 0);
  std::set<std::string> wanted;
  const auto is_wanted = [&](pid_t pid) {
    wanted.insert("gcov " + std::to_string(pid));
    wanted.insert("llvm " + std::to_string(pid));
  };
  {
    const support::Leftovers audit;
    brood::Pool<Policy> pool({.workers = 1});
    for (int how = 0; how < 2; ++how) {
      const auto outcome = pool.submit(&ends_by, how).outcome();
      REQUIRE_FALSE(outcome.has_value());
      is_wanted(outcome.failure().pid());
    }
    is_wanted(pool.submit(&own_pid).get());  // this one is told to leave
    is_wanted(pool.stats().server_pid);
  }
  ::unsetenv(log_variable);
  std::multiset<std::string> found;
  std::istringstream log(support::read_text(path));
  for (std::string line; std::getline(log, line);) found.insert(line);
  ::unlink(path.c_str());
  for (const std::string& each : wanted) CHECK_MESSAGE(found.count(each) == 1, each);
  CHECK(found.size() == wanted.size());
}
