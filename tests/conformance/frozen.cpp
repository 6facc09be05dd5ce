// SPDX-License-Identifier: MIT
// A worker that the kernel can't end just now: in a frozen control group even SIGKILL waits. Its task is resolved all the
// same, and its place is another's. Needs the freezer of control groups, version 1, and the right to use it.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

using namespace std::chrono_literals;

namespace {

bool write_text(const std::string& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(fd);
  return written;
}

/// A control group that can be frozen.
class Freezer {
 public:
  Freezer() : path_("/sys/fs/cgroup/freezer/brood_" + std::to_string(::getpid())) {
    works_ = ::mkdir(path_.c_str(), 0755) == 0 && ::access((path_ + "/freezer.state").c_str(), W_OK) == 0;
  }
  Freezer(const Freezer&) = delete;
  Freezer& operator=(const Freezer&) = delete;
  ~Freezer() {
    thaw();
    support::eventually([&] { return ::rmdir(path_.c_str()) == 0 || ::access(path_.c_str(), F_OK) != 0; });
  }

  bool works() const { return works_; }
  const std::string& path() const { return path_; }
  bool freeze() const {
    return write_text(path_ + "/freezer.state", "FROZEN") &&
           support::eventually([&] { return support::read_text(path_ + "/freezer.state") == "FROZEN\n"; });
  }
  void thaw() const { write_text(path_ + "/freezer.state", "THAWED"); }

 private:
  std::string path_;
  bool works_ = false;
};

int add_one(int n) { return n + 1; }

/// A task that goes into the group, and stays.
int enter(const std::string& group) {
  if (!write_text(group + "/cgroup.procs", std::to_string(::getpid()))) return -1;
  for (;;) ::pause();
}

bool has_entered(const std::string& group) { return !support::read_text(group + "/cgroup.procs").empty(); }

}  // namespace

TEST_CASE_TEMPLATE("a worker that can't be ended costs its task and its place nothing", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Freezer freezer;
  if (!freezer.works()) {
    MESSAGE("skipped: no freezer control group can be made here");
    return;
  }
  brood::PoolOptions options;
  options.workers = 1;
  options.stop_grace = 100ms;
  brood::Pool<Policy> pool(options);

  SUBCASE("at its deadline") {
    auto frozen = pool.submit({.timeout = 1s}, &enter, freezer.path());
    auto behind = pool.submit(&add_one, 1);
    REQUIRE(support::eventually([&] { return has_entered(freezer.path()); }));
    REQUIRE(freezer.freeze());
    REQUIRE(frozen.wait_for(20s));
    CHECK_THROWS_AS(static_cast<void>(frozen.get()), brood::TaskTimeout);
    REQUIRE(behind.wait_for(20s));
    CHECK(behind.get() == 2);
  }
  SUBCASE("when it is cancelled") {
    auto frozen = pool.submit(&enter, freezer.path());
    auto behind = pool.submit(&add_one, 1);
    REQUIRE(support::eventually([&] { return has_entered(freezer.path()); }));
    REQUIRE(freezer.freeze());
    CHECK(frozen.cancel());
    REQUIRE(frozen.wait_for(20s));
    CHECK_THROWS_AS(static_cast<void>(frozen.get()), brood::TaskCancelled);
    REQUIRE(behind.wait_for(20s));
    CHECK(behind.get() == 2);
  }
  SUBCASE("when the pool is killed") {
    auto frozen = pool.submit(&enter, freezer.path());
    REQUIRE(support::eventually([&] { return has_entered(freezer.path()); }));
    REQUIRE(freezer.freeze());
    pool.kill();
    REQUIRE(frozen.wait_for(20s));
    CHECK_THROWS_AS(static_cast<void>(frozen.get()), brood::TaskCancelled);
  }
  freezer.thaw();
  pool.wait();
}

TEST_CASE_TEMPLATE("a pool ends although a worker can't be ended", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Freezer freezer;
  if (!freezer.works()) {
    MESSAGE("skipped: no freezer control group can be made here");
    return;
  }
  const auto began = std::chrono::steady_clock::now();
  {
    brood::PoolOptions options;
    options.workers = 1;
    options.stop_grace = 100ms;
    brood::Pool<Policy> pool(options);
    auto frozen = pool.submit(&enter, freezer.path());
    REQUIRE(support::eventually([&] { return has_entered(freezer.path()); }));
    REQUIRE(freezer.freeze());
    pool.kill();
  }
  CHECK(std::chrono::steady_clock::now() - began < 15s);
  freezer.thaw();  // now it dies of the SIGKILL that it has been sent
}
