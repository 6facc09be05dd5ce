// SPDX-License-Identifier: MIT
// Nothing that a pool makes has a name by which a stranger could reach it; its processes have names for ps.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/program.hpp"

namespace {

/// What the descriptors of a process stand for.
std::set<std::string> open_files(pid_t pid) {
  std::set<std::string> found;
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
  for (const int fd : support::numbers_in(folder)) {
    const std::string target = support::link_target(folder + "/" + std::to_string(fd));
    if (!target.empty()) found.insert(target);
  }
  return found;
}

/// The names of local sockets by their inode, in the network that this process sees; empty for those without one.
std::map<std::string, std::string> local_sockets() {
  std::map<std::string, std::string> found;
  std::istringstream table(support::read_text("/proc/self/net/unix"));
  std::string line;
  std::getline(table, line);  // the heading
  while (std::getline(table, line)) {
    std::istringstream words(line);
    std::string skipped, inode, name;
    for (int column = 0; column < 6; ++column) words >> skipped;
    words >> inode >> name;
    found[inode] = name;
  }
  return found;
}

/// A file of the program itself is none that a pool has made.
bool is_nameless(const std::string& target) {
  constexpr std::array kinds{"pipe:[", "socket:[", "anon_inode:", "pidfd:[", "/memfd:", "/dev/null"};
  return target == support::own_path() ||
         std::any_of(kinds.begin(), kinds.end(), [&](const char* kind) { return target.starts_with(kind); });
}

}  // namespace

TEST_CASE_TEMPLATE("pipes, sockets and memory of a pool have no name anywhere", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const std::set<std::string> before = open_files(::getpid());
  brood::Pool<Policy> pool({.workers = 2, .output = brood::Output::capture});
  const support::Gate gate;
  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 2; ++n) futures.push_back(pool.submit(&support::wait_for_gate, gate.path(), n));
  REQUIRE(support::wait_until_running(pool, 2));
  const brood::PoolStats stats = pool.stats();
  std::vector<pid_t> pids{::getpid(), stats.server_pid};
  for (const auto& worker : stats.workers) pids.push_back(worker.pid);
  REQUIRE(pids.size() == 4);

  std::size_t sockets = 0;
  const auto names = local_sockets();
  for (const pid_t pid : pids) {
    for (const std::string& target : open_files(pid)) {
      if (before.contains(target) || target == gate.path()) continue;
      if (target == std::filesystem::current_path()) continue;  // where servers are started
      CAPTURE(pid);
      CAPTURE(target);
      CHECK(is_nameless(target));
      if (!target.starts_with("socket:[")) continue;
      ++sockets;
      // every other family (tcp, udp, netlink, ...) has a table of its own, and none of these is in it
      const auto found = names.find(target.substr(8, target.size() - 9));
      REQUIRE(found != names.end());
      CHECK(found->second.empty());
    }
  }
  CHECK(sockets >= 2);  // the ends of the server's control socket
  gate.open();
  for (auto& each : futures) each.wait();
}

TEST_CASE_TEMPLATE("ps shows the pool's name with the worker's index, and its server", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const auto names = [](const std::string& pool, unsigned workers) {
    const support::Gate gate;
    brood::Pool<Policy> made({.workers = workers, .name = pool});
    std::vector<brood::Future<int>> futures;
    for (unsigned n = 0; n < workers; ++n) futures.push_back(made.submit(&support::wait_for_gate, gate.path(), 1));
    REQUIRE(support::wait_until_running(made, workers));
    const brood::PoolStats stats = made.stats();
    std::vector<std::string> found{support::process_info(stats.server_pid)->name};
    for (const auto& worker : stats.workers) found.push_back(support::process_info(worker.pid)->name);
    gate.open();
    made.wait();
    return found;
  };
  CHECK(names("resize", 2) == std::vector<std::string>{"resize-srv", "resize-0", "resize-1"});
  // the kernel keeps 15 bytes, and no half of a character is left
  CHECK(names("thumbnails of all", 1) == std::vector<std::string>{"thumbnails -srv", "thumbnails of-0"});
  CHECK(names("0123456789\xc3\xa4", 1) == std::vector<std::string>{"0123456789-srv", "0123456789\xc3\xa4-0"});
}

TEST_CASE_TEMPLATE("a spare worker that takes a place takes its name", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .spares = 1, .name = "p"});
  CHECK(support::eventually([&] { return pool.stats().spares == 1; }));
  const auto name_of_mine = [] {
    std::string name = support::read_text("/proc/self/comm");
    name.pop_back();
    return name;
  };
  CHECK(support::process_info(pool.stats().workers.at(0).pid)->name == "p-1");
  CHECK(pool.submit(name_of_mine).get() == "p-0");
}
