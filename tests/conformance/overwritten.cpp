// SPDX-License-Identifier: MIT
// Tasks that write over their worker's status page, and events of a worker that has been given up. Each task runs once and
// resolves, whatever the page says then.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/gate.hpp"
#include "support/hooked_policy.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

using namespace std::chrono_literals;

namespace {

using brood::FailureKind;
using brood::detail::FrameHeader;
using brood::detail::FrameType;
using brood::detail::StatusPage;

int add_one(int n) { return n + 1; }
int sleeps() {
  for (;;) ::pause();
}

/// A file to which each run of a task adds a byte.
class Runs {
 public:
  Runs() : path_("/tmp/brood_runs_" + std::to_string(::getpid())) { ::unlink(path_.c_str()); }
  Runs(const Runs&) = delete;
  Runs& operator=(const Runs&) = delete;
  ~Runs() { ::unlink(path_.c_str()); }

  const std::string& path() const { return path_; }
  std::size_t count() const { return support::read_text(path_).size(); }

  static void count_one(const std::string& path) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (::write(fd, "x", 1) != 1) ::_exit(45);
    ::close(fd);
  }

 private:
  std::string path_;
};

StatusPage& status_page() {
  std::istringstream maps(support::read_text("/proc/self/maps"));
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:brood-status") == std::string::npos) continue;
    return *reinterpret_cast<StatusPage*>(std::stoull(line.substr(0, line.find('-')), nullptr, 16));
  }
  std::abort();
}

enum class After : int { returns, aborts, exits };

int end(After after) {
  if (after == After::aborts) std::abort();
  if (after == After::exits) ::_exit(0);
  return 7;
}

/// A task that fills its page with a byte.
int overwrite(const std::string& runs, int byte, After after) {
  Runs::count_one(runs);
  std::memset(static_cast<void*>(&status_page()), byte, StatusPage::crash_offset);
  return end(after);
}

/// Puts another word in the place of the claims of tasks that have started.
void forge_claims(StatusPage::Claim claim) {
  for (auto& each : status_page().claims) {
    const std::uint64_t word = each.load();
    if (word != StatusPage::claim_word(word >> 2, StatusPage::Claim::claimed)) continue;
    each.store(StatusPage::claim_word(word >> 2, claim));
  }
}

/// A task that says that the host has taken it back.
int say_taken_back(const std::string& runs, After after) {
  Runs::count_one(runs);
  forge_claims(StatusPage::Claim::revoked);
  return end(after);
}

/// A task that says that it has not been started, and dies.
int deny_and_die(const std::string& runs) {
  Runs::count_one(runs);
  forge_claims(StatusPage::Claim::offered);
  ::raise(SIGKILL);
  return 0;
}

/// A task that has a descriptor, for which it has asked the host by now, and then says that it has not been started.
int ask_deny_and_die(const std::string& runs, brood::Fd) { return deny_and_die(runs); }

/// An item whose result is sent at once, for it is larger than the log; and one behind it that says that its chunk has not been
/// started.
std::string send_or_deny(const std::string& runs, int item) {
  if (item == 1) deny_and_die(runs);
  return std::string(StatusPage::log_capacity + 1, static_cast<char>('a' + item));
}

/// A task that sends many frames of no type as soon as the gate is open.
int flood(const std::string& gate) {
  support::wait_for_gate(gate, 0);
  FrameHeader header;
  header.type = static_cast<FrameType>(99);
  header.task = brood::this_task::id();
  const std::vector<FrameHeader> many(100, header);
  for (const int fd : support::numbers_in("/proc/self/fd")) {
    struct stat status {};
    if (fd <= 2 || ::fstat(fd, &status) != 0 || !S_ISFIFO(status.st_mode)) continue;
    if ((::fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY) continue;
    while (::write(fd, many.data(), many.size() * sizeof(FrameHeader)) > 0) {
    }
  }
  return 0;
}

/// Submits the task, with the path of its Runs as its first argument.
template <class Policy, class Task, class... Args>
void runs_once(After after, Task task, Args... args) {
  const Runs runs;
  brood::Pool<Policy> pool({.workers = 1});
  CHECK(pool.submit(&add_one, 1).get() == 2);
  auto future = pool.submit(task, runs.path(), args...);
  auto behind = pool.submit(&add_one, 2);
  const bool resolved = future.wait_for(20s);
  CHECK(resolved);
  if (!resolved) return pool.kill();
  const auto outcome = future.outcome();
  if (outcome) {
    CHECK(*outcome == 7);
    CHECK(after == After::returns);
  } else {
    const FailureKind kind = outcome.failure().kind();
    CHECK_MESSAGE((kind == FailureKind::worker_died || (after == After::returns && kind == FailureKind::protocol)),
                  outcome.failure().message());
  }
  CHECK(behind.get() == 3);
  CHECK(runs.count() == 1);
}

/// Whether a thread of this process waits for events.
bool somebody_polls() {
  for (const int thread : support::numbers_in("/proc/self/task")) {
    std::istringstream text(support::read_text("/proc/self/task/" + std::to_string(thread) + "/syscall"));
    long number = -1;
    if (!(text >> number)) continue;  // it runs
#ifdef SYS_epoll_wait
    if (number == SYS_epoll_wait) return true;
#endif
    if (number == SYS_epoll_pwait) return true;
  }
  return false;
}

}  // namespace

TEST_CASE_TEMPLATE("a task that has written over its status page has run once, and resolves", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const After after : {After::returns, After::aborts, After::exits}) {
    CAPTURE(static_cast<int>(after));
    for (const int byte : {0x00, 0x01, 0xff, 0xa5}) {
      CAPTURE(byte);
      runs_once<Policy>(after, &overwrite, byte, after);
    }
    runs_once<Policy>(after, &say_taken_back, after);
  }
}

TEST_CASE("a task that denies that it has started, whenever it dies, is given up after a while") {
  const support::Leftovers audit;
  const Runs runs;
  const support::Gate gate;
  brood::Pool<support::ForkServer> pool({.workers = 2});
  auto beside = pool.submit(&support::wait_for_gate, gate.path(), 5);  // with a worker up, starts that fail don't break the pool
  REQUIRE(support::wait_until_running(pool, 1));
  auto denying = pool.submit(&deny_and_die, runs.path());
  const bool resolved = denying.wait_for(60s);
  CHECK(resolved);
  if (!resolved) CHECK(denying.cancel());
  const auto outcome = denying.outcome();
  REQUIRE_FALSE(outcome);
  CHECK_MESSAGE(outcome.failure().kind() == FailureKind::worker_died, outcome.failure().message());
  CHECK(outcome.failure().signal() == SIGKILL);
  CHECK(runs.count() > 1);
  CHECK(runs.count() < 30);
  CHECK(pool.submit(&add_one, 1).get() == 2);
  gate.open();
  CHECK(beside.get() == 5);
}

// The driver has been told that a worker has sent something, and waits for the mutex; whoever holds it finds first that the
// worker broke the protocol.
TEST_CASE_TEMPLATE("a task of which the host has heard has started, whatever its page says then", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const Runs runs;
  brood::Pool<Policy> pool({.workers = 1});
  SUBCASE("it has asked for its descriptors") {
    auto denying = pool.submit(&ask_deny_and_die, runs.path(), brood::Fd::duplicate(STDERR_FILENO));
    const bool resolved = denying.wait_for(60s);
    REQUIRE(resolved);
    const auto outcome = denying.outcome();
    REQUIRE_FALSE(outcome);
    CHECK_MESSAGE(outcome.failure().kind() == FailureKind::worker_died, outcome.failure().message());
  }
  SUBCASE("it has sent results of its first items") {
    const std::string path = runs.path();
    const std::vector<std::pair<std::string, int>> items{{path, 0}, {path, 1}, {path, 2}, {path, 3}};
    const auto outcomes = pool.try_map(&send_or_deny, items, {.chunk_size = 4});
    for (const std::size_t item : {0U, 2U, 3U}) {
      CAPTURE(item);
      REQUIRE(outcomes[item]);
      CHECK(outcomes[item].value()[0] == static_cast<char>('a' + item));
    }
    REQUIRE_FALSE(outcomes[1]);
    CHECK_MESSAGE(outcomes[1].failure().kind() == FailureKind::worker_died, outcomes[1].failure().message());
  }
  CHECK(runs.count() == 1);
}

TEST_CASE("nothing more is taken from a worker that broke the protocol, although it was announced before") {
  const support::Leftovers audit;
  if (support::read_text("/proc/self/syscall").empty()) {
    MESSAGE("skipped: the kernel does not tell what a thread waits for");
    return;
  }
  const auto ran = support::run_in_child([] {
    const support::Gate gate;
    const auto hooks = std::make_shared<support::Hooks>();
    // Killing a worker without pidfd takes its source. That of the first one lets the second flood its pipe; kill() comes to
    // the second one after that, reads what it has sent, and kills it, which waits until there is more.
    std::atomic<int> known{0};  // workers that the server has told of: before that, none is killed
    hooks->heard = [&](brood::SourceEvent& event) {
      event.pidfd.reset();
      if (event.kind == brood::SourceEvent::Kind::started) ++known;
    };
    int kills = 0;
    bool announced = false;
    bool sent_more = false;
    pid_t flooder = 0;
    hooks->killing = [&](brood::detail::Ticket) {
      ++kills;
      const auto blocked = [&] {
        const auto info = support::process_info(flooder);
        return info && info->state == 'S';
      };
      if (kills == 1) {
        gate.open();
        announced = support::eventually([] { return !somebody_polls(); });
      } else if (kills == 2) {
        sent_more = support::eventually(blocked);
      }
    };
    brood::Pool<support::HookedPolicy> pool({.workers = 2}, support::HookedPolicy{hooks});
    auto sleeping = pool.submit(&sleeps);
    if (!support::wait_until_running(pool, 1)) return 3;
    auto flooding = pool.submit(&flood, gate.path());
    if (!support::wait_until_running(pool, 2)) return 4;
    if (!support::eventually([&] { return known == 2; })) return 8;
    for (const auto& worker : pool.stats().workers) {
      if (worker.task == flooding.id()) flooder = worker.pid;
    }
    if (!support::eventually([] { return somebody_polls(); })) return 5;  // the pool's helper
    pool.kill();
    const auto outcome = flooding.outcome();
    if (!announced || !sent_more || outcome || sleeping.outcome()) return 6;
    std::printf("%s", outcome.failure().message().c_str());
    return outcome.failure().kind() == FailureKind::protocol ? 0 : 7;
  });
  CHECK_MESSAGE((ran.status.exited() && ran.status.code() == 0), ran.status.describe() << " " << ran.output);
}
