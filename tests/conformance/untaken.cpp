// SPDX-License-Identifier: MIT
// Workers that are up, have nothing to do, and yet do not take the task that they are given. It runs elsewhere, and such a
// worker is replaced.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <string>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

using namespace std::chrono_literals;

namespace {

using brood::detail::FrameHeader;
using brood::detail::FrameType;

constexpr auto watchdog = 60s;

pid_t own_pid() { return ::getpid(); }

/// A task that sends its own result, and goes on for ever.
pid_t answer_and_stay() {
  FrameHeader header;
  header.type = FrameType::result;
  header.task = brood::this_task::id();
  header.size = sizeof(pid_t);
  const pid_t pid = ::getpid();
  std::array<char, sizeof header + sizeof pid> frame{};
  std::memcpy(frame.data(), &header, sizeof header);
  std::memcpy(frame.data() + sizeof header, &pid, sizeof pid);
  for (const int fd : support::numbers_in("/proc/self/fd")) {
    struct stat status {};
    if (fd <= 2 || ::fstat(fd, &status) != 0 || !S_ISFIFO(status.st_mode)) continue;
    if ((::fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY) continue;
    if (::write(fd, frame.data(), frame.size()) != static_cast<ssize_t>(frame.size())) ::_exit(44);
  }
  for (;;) ::pause();
}

/// `untaking` is a worker that takes no task; another one of the pool's two is busy all the while.
template <class Policy>
void runs_elsewhere(brood::Pool<Policy>& pool, pid_t untaking) {
  auto next = pool.submit(&own_pid);
  const bool resolved = next.wait_for(watchdog);
  CHECK(resolved);
  if (!resolved) return pool.kill();
  const pid_t other = next.get();
  CHECK(other != untaking);
  CHECK(support::eventually([&] { return !support::runs(untaking); }));
  CHECK(support::eventually([&] { return pool.stats().workers_died == 1; }));
  CHECK(pool.stats().failed == 0);
  for (const auto& worker : pool.stats().workers) CHECK(worker.pid != untaking);
  CHECK(pool.submit(&own_pid).get() == other);
}

}  // namespace

TEST_CASE("a task for an idle worker that is stopped runs in another one, and the stopped one is replaced") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<support::ForkServer> pool({.workers = 2});
  auto beside = pool.submit(&support::wait_for_gate, gate.path(), 5);
  REQUIRE(support::wait_until_running(pool, 1));
  const pid_t stopped = pool.submit(&own_pid).get();
  REQUIRE(::kill(stopped, SIGSTOP) == 0);
  REQUIRE(support::eventually([&] {
    const auto info = support::process_info(stopped);
    return info && info->state == 'T';
  }));
  runs_elsewhere(pool, stopped);
  CHECK_FALSE(beside.ready());  // a task that runs is not hurried
  gate.open();
  CHECK(beside.get() == 5);
}

TEST_CASE("a task behind one that has sent its own result and goes on runs in another worker") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<support::ForkServer> pool({.workers = 2});
  auto beside = pool.submit(&support::wait_for_gate, gate.path(), 5);
  REQUIRE(support::wait_until_running(pool, 1));
  const pid_t staying = pool.submit(&answer_and_stay).get();
  runs_elsewhere(pool, staying);
  CHECK_FALSE(beside.ready());
  gate.open();
  CHECK(beside.get() == 5);
}
