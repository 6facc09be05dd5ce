// SPDX-License-Identifier: MIT
// PoolOptions::working_directory and PoolOptions::environment; and that a server which is started again has what the first had.
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

/// A directory, and one in it, for as long as a test needs them.
class Directory {
 public:
  Directory() : path_("/tmp/brood_surroundings_" + std::to_string(::getpid())) {
    std::filesystem::create_directories(path_ + "/in");
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() {
    ::chmod(path_.c_str(), 0700);
    std::filesystem::remove_all(path_);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string folder() { return std::filesystem::current_path().string(); }
std::string variable(const std::string& name) {
  const char* const value = ::getenv(name.c_str());
  return value != nullptr ? value : "(none)";
}

/// Kills the pool's server and waits for the next one.
template <class Pool>
bool next_server(Pool& pool) {
  const pid_t server = pool.stats().server_pid;
  ::kill(server, SIGKILL);
  return support::eventually([&] {
    return pool.submit([] { return 1; }).outcome().has_value() && pool.stats().server_pid != server;
  });
}

int expect(const std::string& what, const std::string& found, const std::string& expected) {
  if (found == expected) return 0;
  std::printf("%s: %s instead of %s\n", what.c_str(), found.c_str(), expected.c_str());
  return 1;
}

}  // namespace

TEST_CASE_TEMPLATE("working_directory and environment: server and workers have them, the host does not", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Directory directory;
  const support::Ran ran = support::run_in_child([&] {
    ::setenv("BROOD_TEST_KEPT", "kept", 1);
    ::setenv("BROOD_TEST_CHANGED", "by the host", 1);
    ::setenv("BROOD_TEST_GONE", "by the host", 1);
    std::filesystem::current_path(directory.path());
    brood::Pool<Policy> pool({.workers = 1,
                              .tasks_per_worker = 1,
                              .working_directory = "in",
                              .environment = {"BROOD_TEST_CHANGED=a=b", "BROOD_TEST_NEW=", "BROOD_TEST_GONE",
                                              "BROOD_TEST_NOT_THERE", "BROOD_TEST_TWICE=1", "BROOD_TEST_TWICE=2"}});
    std::filesystem::current_path("/");
    ::setenv("BROOD_TEST_KEPT", "later", 1);
    int wrong = 0;
    const auto look = [&](const std::string& who) {
      wrong += expect(who, pool.submit(&folder).get(), directory.path() + "/in");
      for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"BROOD_TEST_KEPT", "kept"},
                                                                                         {"BROOD_TEST_CHANGED", "a=b"},
                                                                                         {"BROOD_TEST_NEW", ""},
                                                                                         {"BROOD_TEST_GONE", "(none)"},
                                                                                         {"BROOD_TEST_TWICE", "2"}}) {
        wrong += expect(who + ", " + name, pool.submit(&variable, name).get(), value);
      }
      const int started = pool.submit([] {
        return std::system("test \"$BROOD_TEST_CHANGED\" = a=b && test -z \"$BROOD_TEST_GONE\"");
      }).get();
      wrong += expect(who + ", what it starts", std::to_string(started), "0");
    };
    look("a worker");
    std::filesystem::rename(directory.path() + "/in", directory.path() + "/renamed");
    std::filesystem::create_directories(directory.path() + "/in");
    wrong += expect("in a directory with another name", pool.submit(&folder).get(), directory.path() + "/renamed");
    if constexpr (!brood::CopiesHost<Policy>) {
      wrong += expect("the next server", next_server(pool) ? "came" : "did not come", "came");
      wrong += expect("a worker of the next server", pool.submit(&folder).get(), directory.path() + "/renamed");
      std::filesystem::remove_all(directory.path() + "/in");
      std::filesystem::rename(directory.path() + "/renamed", directory.path() + "/in");
      look("a worker of the next server");
    } else {
      std::filesystem::remove_all(directory.path() + "/in");
      std::filesystem::rename(directory.path() + "/renamed", directory.path() + "/in");
      const int captured = 1;
      const std::string in = pool.submit([&] { return folder() + std::to_string(captured); }).get();
      wrong += expect("a closure", in, directory.path() + "/in1");
      wrong += expect("a closure's variable", pool.submit([&] {
                        return variable("BROOD_TEST_CHANGED") + std::to_string(captured);
                      }).get(), "a=b1");
    }
    wrong += expect("the host", folder(), "/");
    wrong += expect("the host's variable", variable("BROOD_TEST_CHANGED"), "by the host");
    wrong += expect("the host's other variable", variable("BROOD_TEST_GONE"), "by the host");
    wrong += expect("the host's new variable", variable("BROOD_TEST_NEW"), "(none)");
    return wrong;
  });
  CHECK_MESSAGE(ran.status.describe() == "exited with code 0", ran.output);
}

TEST_CASE_TEMPLATE("working_directory and environment: as of construction, also for a server that is started later", Policy,
                   support::ForkServer, brood::SpawnPolicy) {
  const support::Leftovers audit;
  const Directory directory;
  const support::Ran ran = support::run_in_child([&] {
    int wrong = 0;
    std::filesystem::current_path(directory.path() + "/in");
    ::setenv("BROOD_TEST_STALE", "early", 1);
    brood::Pool<Policy> pool({.workers = 1});
    std::filesystem::current_path("/tmp");
    ::setenv("BROOD_TEST_STALE", "late", 1);
    for (int round = 0; round < 2; ++round) {
      wrong += expect("a worker", pool.submit(&folder).get(), directory.path() + "/in");
      wrong += expect("its variable", pool.submit(&variable, "BROOD_TEST_STALE").get(), "early");
      if (round == 0) wrong += expect("the next server", next_server(pool) ? "came" : "did not come", "came");
    }
    std::filesystem::remove_all(directory.path() + "/in");  // the pool has it nevertheless
    wrong += expect("a third server", next_server(pool) ? "came" : "did not come", "came");
    wrong += expect("a worker where the directory is gone", pool.submit(&variable, "BROOD_TEST_STALE").get(), "early");
    return wrong;
  });
  CHECK_MESSAGE(ran.status.describe() == "exited with code 0", ran.output);
}

TEST_CASE_TEMPLATE("working_directory: one that is not there, or is none, is a LaunchError with its path", Policy,
                   brood::ForkPolicy, brood::SpawnPolicy, support::ForkServer) {
  const support::Leftovers audit;
  for (const auto& [path, why] : std::vector<std::pair<std::string, std::string>>{
           {"/tmp/brood/is/not/there", "No such file or directory"}, {"/proc/self/cmdline", "Not a directory"}}) {
    try {
      brood::Pool<Policy> pool({.workers = 1, .working_directory = path});
      FAIL("it was made");
    } catch (const brood::LaunchError& error) {
      const std::string said = error.what();
      CHECK_MESSAGE(said.find(path + " as their directory (PoolOptions::working_directory): " + why) != std::string::npos, said);
      CHECK(error.error() == (why == "Not a directory" ? ENOTDIR : ENOENT));
    }
  }
  brood::Pool<brood::InlinePolicy> caller({.working_directory = "/tmp/brood/is/not/there"});  // starts nothing
  CHECK(caller.submit(&folder).get() == folder());
}

TEST_CASE("environment: what is no variable is refused") {
  const support::Leftovers audit;
  for (const std::string& each : {std::string(), std::string("=x"), std::string("A=b\0c", 5)}) {
    CHECK_THROWS_WITH_AS(brood::Pool<support::ForkServer>({.environment = {each}}),
                         doctest::Contains("PoolOptions::environment is \""), std::invalid_argument);
  }
}
