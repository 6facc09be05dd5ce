// SPDX-License-Identifier: MIT
// ForkServerPolicy: what Preloads leave behind, and the after_fork hook.
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace app {

/// Creates a file with some bytes. Open for writing, its offset is behind them.
int written_file(const std::string& path, int flags = O_RDWR) {
  const int fd = ::open(path.c_str(), flags | O_CREAT | O_CLOEXEC, 0600);
  if (::write(fd, "written", 7) != 7) throw std::runtime_error("write");
  return fd;
}

std::string path_of(const char* name) { return "/tmp/brood_leftover_" + std::to_string(::getppid()) + "_" + name; }

// ---- what is left behind, one type for each --------------------------------------------------------------------------

struct OpensFile {
  int fd = written_file(path_of("file"));
};
struct OpensMemory {
  int fd = ::memfd_create("scratch", MFD_CLOEXEC);
};
/// Both ends of a connection over the loopback device.
struct OpensTcp {
  OpensTcp() {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    raw->sa_family = AF_INET;
    listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::listen(listener, 1) != 0 || ::getsockname(listener, raw, &size) != 0 || ::connect(client, raw, size) != 0) {
      throw std::runtime_error("no TCP here");
    }
    accepted = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    ::close(listener);
    fd = client;
  }
  int listener;
  int client;
  int accepted;
  int fd;
};
struct OpensEpoll {
  int fd = ::epoll_create1(EPOLL_CLOEXEC);
};
struct OpensEvent {
  int fd = ::eventfd(0, EFD_CLOEXEC);
};
struct OpensInotify {
  int fd = ::inotify_init1(IN_CLOEXEC);
};
struct OpensTimer {
  int fd = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
};
struct OpensSignals {
  OpensSignals() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGUSR2);
    fd = ::signalfd(-1, &set, SFD_CLOEXEC);
  }
  int fd;
};
struct OpensPipe {
  OpensPipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    fd = ends[1];
  }
  int fd;
};
/// As SQLite does: a lock on a range of bytes. The descriptor alone would be harmless.
struct LocksRecord {
  LocksRecord() {
    ::close(written_file(path_of("record")));
    fd = ::open(path_of("record").c_str(), O_RDONLY | O_CLOEXEC);
    struct flock range {};
    range.l_type = F_RDLCK;
    range.l_whence = SEEK_SET;
    range.l_start = 3;
    range.l_len = 2;
    if (::fcntl(fd, F_SETLK, &range) != 0) throw std::runtime_error("F_SETLK");
  }
  int fd;
};
struct LocksFile {
  LocksFile() {
    ::close(written_file(path_of("flock")));
    fd = ::open(path_of("flock").c_str(), O_RDONLY | O_CLOEXEC);
    if (::flock(fd, LOCK_EX) != 0) throw std::runtime_error("flock");
  }
  int fd;
};

struct SetsAlarm {
  SetsAlarm() { ::alarm(1'000'000); }
};
struct SetsInterval {
  SetsInterval() {
    const itimerval every{{1'000'000, 0}, {1'000'000, 0}};
    ::setitimer(ITIMER_PROF, &every, nullptr);
  }
};
struct CreatesTimer {
  CreatesTimer() {
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR1;
    if (::timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) throw std::runtime_error("timer_create");
  }
  timer_t timer{};
  int value = 4;
};
/// libc serves such a timer by a thread of its own.
struct CreatesThreadTimer {
  CreatesThreadTimer() {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD;
    event.sigev_notify_function = [](sigval) {};
    if (::timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) throw std::runtime_error("timer_create");
  }
  timer_t timer{};
};

struct LeavesThreads {
  LeavesThreads() {
    for (int n = 0; n < 2; ++n) {
      std::thread([] {
        for (;;) ::pause();
      }).detach();
    }
  }
};

/// What may stay: it is the same for all, or nothing at all.
struct IsTidy {
  IsTidy() {
    ::close(written_file(path_of("tidy")));
    fds = {::open(path_of("tidy").c_str(), O_RDONLY), ::open(path_of("tidy").c_str(), O_RDONLY | O_CLOEXEC),
           ::open(path_of("tidy").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC), ::open("/dev/null", O_RDWR | O_CLOEXEC),
           ::open("/dev/urandom", O_RDONLY | O_CLOEXEC), ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
           ::open("/tmp", O_PATH | O_CLOEXEC)};
    const int gone = ::epoll_create1(EPOLL_CLOEXEC);
    ::close(gone);
    timer_t timer{};
    sigevent event{};
    event.sigev_notify = SIGEV_NONE;
    if (::timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) throw std::runtime_error("timer_create");
    ::timer_delete(timer);
    ::alarm(1'000'000);
    ::alarm(0);
  }
  std::vector<int> fds;
};

/// More than a message can hold.
struct OpensMany {
  OpensMany() {
    for (int n = 0; n < 300; ++n) ::eventfd(0, EFD_CLOEXEC);
  }
};

/// A name that would break the lines of the report.
struct OpensOddName {
  int fd = written_file(path_of("odd\nname"));
};

// ---- hooks ----------------------------------------------------------------------------------------------------------

/// Reads records one after the other: with a shared descriptor the workers would get each other's.
struct Records {
  explicit Records(std::string path) : file(std::move(path)), fd(::open(file.c_str(), O_RDWR | O_CLOEXEC)) {
    if (fd < 0) throw std::runtime_error("open");
  }
  void after_fork() {
    ++hooks;
    const int fresh = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    if (fresh < 0) throw std::runtime_error("open");
    ::close(fd);
    fd = fresh;
  }
  std::string next() const {
    std::string record(8, '\0');
    return ::read(fd, record.data(), record.size()) == 8 ? record : "end";
  }
  std::string file;
  int fd;
  int hooks = 0;
};

inline std::vector<std::string> order;  ///< what has run in this worker
template <int N>
struct Ordered {
  void after_fork() const {
    order.push_back("after_fork " + std::to_string(N) + (&brood::preloaded<Ordered>() == this ? " of its own" : " of a stranger"));
  }
};
struct WithoutHook {};

struct HookThrows {
  void after_fork() { throw std::runtime_error("the file has gone"); }
};
struct HookExits {
  void after_fork() { ::_exit(9); }
};
struct HookCrashes {
  void after_fork() { ::raise(SIGSEGV); }
};
struct HookHangs {
  void after_fork() {
    for (;;) ::pause();
  }
};

struct SameDice {
  SameDice() : engine(std::random_device()()) {}
  mutable std::mt19937 engine;
};
struct FreshDice : SameDice {
  void after_fork() { engine.seed(std::random_device()()); }
};

}  // namespace app

namespace {

/// Removes the files that Preloads of this process have created.
struct Files {
  Files() = default;
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;
  ~Files() {
    const std::string prefix = "brood_leftover_" + std::to_string(::getpid()) + "_";
    for (const auto& entry : std::filesystem::directory_iterator("/tmp")) {
      if (entry.path().filename().string().starts_with(prefix)) std::filesystem::remove(entry.path());
    }
  }
};

std::string made_path(const char* name) { return "/tmp/brood_leftover_" + std::to_string(::getpid()) + "_" + name; }

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

template <class Preload>
std::string refusal(brood::ForkServerPolicy<Preload> policy) {
  try {
    const brood::Pool<brood::ForkServerPolicy<Preload>> pool({.workers = 1}, std::move(policy));
  } catch (const brood::PreloadError& error) {
    CHECK(error.preload() == brood::detail::type_name<Preload>());
    return error.what();
  }
  return "(no PreloadError)";
}

bool says(const std::string& text, const std::string& part) {
  CHECK_MESSAGE(text.find(part) != std::string::npos, "expected: " << part << "\n  found: " << text);
  return text.find(part) != std::string::npos;
}

/// Waits until so many workers are in the task behind a gate.
template <class Pool, class F>
auto in_each_worker(Pool& pool, std::size_t workers, F task) {
  const support::Gate gate;
  std::vector<decltype(pool.submit(task, gate.path()))> futures;
  for (std::size_t n = 0; n < workers; ++n) futures.push_back(pool.submit(task, gate.path()));
  CHECK(support::wait_until_running(pool, workers));
  gate.open();
  std::vector<decltype(futures[0].get())> results;
  for (auto& future : futures) results.push_back(future.get());
  return results;
}

}  // namespace

TEST_CASE_TEMPLATE("a descriptor or lock that a Preload leaves is reported, and refused by strict", Preload, app::OpensFile,
                   app::OpensMemory, app::OpensTcp, app::OpensEpoll, app::OpensEvent, app::OpensInotify, app::OpensTimer,
                   app::OpensSignals, app::OpensPipe, app::LocksRecord, app::LocksFile) {
  const support::Leftovers audit;
  const Files files;
  const auto [number, preload] = [] {
    brood::Pool<brood::ForkServerPolicy<Preload>> pool({.workers = 1});
    const int fd = pool.submit([] { return brood::preloaded<Preload>().fd; }).get();
    return std::pair(std::to_string(fd), pool.stats().preloads.at(0));
  }();
  std::string expected;
  std::size_t count = 1;
  if constexpr (std::is_same_v<Preload, app::OpensFile>) {
    expected = "descriptor " + number + ", " + made_path("file") + " opened for writing: workers share its offset";
  } else if constexpr (std::is_same_v<Preload, app::OpensMemory>) {
    expected = "memfd scratch (descriptor " + number + "): workers share its offset and its content";
  } else if constexpr (std::is_same_v<Preload, app::LocksRecord>) {
    expected = "a record lock (fcntl) on " + made_path("record") + ": the server holds it, workers do not";
  } else if constexpr (std::is_same_v<Preload, app::LocksFile>) {
    expected = "a lock (flock) on " + made_path("flock") +
               ": the server and all workers hold it as one, so it keeps none of them out";
  } else {
    if (std::is_same_v<Preload, app::OpensTcp>) expected = "socket";
    if (std::is_same_v<Preload, app::OpensEpoll>) expected = "epoll";
    if (std::is_same_v<Preload, app::OpensEvent>) expected = "eventfd";
    if (std::is_same_v<Preload, app::OpensInotify>) expected = "inotify";
    if (std::is_same_v<Preload, app::OpensTimer>) expected = "timerfd";
    if (std::is_same_v<Preload, app::OpensSignals>) expected = "signalfd";
    if (std::is_same_v<Preload, app::OpensPipe>) expected = "pipe";
    if (std::is_same_v<Preload, app::OpensTcp> || std::is_same_v<Preload, app::OpensPipe>) count = 2;  // each end
    expected += " (descriptor " + number + ")";
  }
  CHECK_MESSAGE(preload.left_behind.size() == count, joined(preload.left_behind));
  CHECK_MESSAGE(std::find(preload.left_behind.begin(), preload.left_behind.end(), expected) != preload.left_behind.end(),
                "expected: " << expected << "\n  found: " << joined(preload.left_behind));

  brood::ForkServerPolicy<Preload> policy;
  policy.strict = true;
  const std::string text = refusal(policy);
  says(text, "the Preload " + std::string(brood::detail::type_name<Preload>()));
  says(text, "it left behind: ");
  says(text, expected.substr(0, expected.find(" (descriptor")));
  says(text, "strict");
  policy.allow_threads = true;  // another matter
  says(refusal(policy), "it left behind: ");
}

TEST_CASE("what several Preloads leave is told for each, and what was there before is not") {
  const support::Leftovers audit;
  const Files files;
  using Policy = brood::ForkServerPolicy<app::OpensEpoll, app::IsTidy, app::LocksRecord, app::OpensEvent>;
  brood::Pool<Policy> pool({.workers = 1});
  const auto preloads = pool.stats().preloads;
  REQUIRE(preloads.size() == 4);
  for (const auto& each : preloads) {
    CHECK(each.built == 1);
    CHECK(each.time.count() > 0);
    CHECK(each.server == pool.stats().server_pid);
  }
  says(joined(preloads[0].left_behind), "epoll");
  CHECK_MESSAGE(preloads[1].left_behind.empty(), joined(preloads[1].left_behind));
  says(joined(preloads[2].left_behind), "a record lock (fcntl)");
  says(joined(preloads[3].left_behind), "eventfd");
  for (const std::size_t at : {0U, 2U, 3U}) CHECK(preloads[at].left_behind.size() == 1);
}

TEST_CASE("strict has nothing against a Preload that keeps only what may be kept") {
  const support::Leftovers audit;
  const Files files;
  brood::ForkServerPolicy<app::IsTidy> policy;
  policy.strict = true;
  brood::Pool<brood::ForkServerPolicy<app::IsTidy>> pool({.workers = 1}, policy);
  CHECK(pool.submit([] { return brood::preloaded<app::IsTidy>().fds.size(); }).get() == 7);
  CHECK(pool.stats().preloads.at(0).left_behind.empty());
}

TEST_CASE("a report that is too long says how much is missing") {
  const support::Leftovers audit;
  const brood::Pool<brood::ForkServerPolicy<app::OpensMany>> pool({.workers = 1});
  const auto left = pool.stats().preloads.at(0).left_behind;
  REQUIRE(left.size() > 10);
  for (std::size_t at = 0; at + 1 < left.size(); ++at) CHECK(left[at].starts_with("eventfd (descriptor "));
  CHECK(left.back() == "and " + std::to_string(300 - (left.size() - 1)) + " more");
  brood::ForkServerPolicy<app::OpensMany> policy;
  policy.strict = true;
  const std::string text = refusal(policy);
  says(text, " more. ForkServerPolicy's strict refuses that. Close them in the constructor, and open them again in after_fork");
}

TEST_CASE("a file name with a line break stays in its line") {
  const support::Leftovers audit;
  const Files files;
  const brood::Pool<brood::ForkServerPolicy<app::OpensOddName>> pool({.workers = 1});
  const auto left = pool.stats().preloads.at(0).left_behind;
  REQUIRE(left.size() == 1);
  says(left[0], made_path("odd?name"));
}

TEST_CASE_TEMPLATE("a timer that a Preload leaves is a PreloadError, or reported under allow_threads", Preload, app::SetsAlarm,
                   app::SetsInterval, app::CreatesTimer, app::CreatesThreadTimer) {
  const support::Leftovers audit;
  std::vector<std::string> expected;
  if (std::is_same_v<Preload, app::SetsAlarm>) expected = {"a timer (alarm, or setitimer with ITIMER_REAL)"};
  if (std::is_same_v<Preload, app::SetsInterval>) expected = {"a timer (setitimer with ITIMER_PROF)"};
  if (std::is_same_v<Preload, app::CreatesTimer>) expected = {"a timer (timer_create, number 0)"};
  if (std::is_same_v<Preload, app::CreatesThreadTimer>) expected = {"1 thread", "a timer (timer_create, number 0)"};
  brood::ForkServerPolicy<Preload> policy;
  const std::string text = refusal(policy);
  says(text, "the Preload " + std::string(brood::detail::type_name<Preload>()));
  for (const std::string& each : expected) says(text, each);
  says(text, "allow_threads");

  policy.allow_threads = true;
  policy.strict = true;  // of what allow_threads allows it says nothing
  brood::Pool<brood::ForkServerPolicy<Preload>> pool({.workers = 1}, policy);
  CHECK(pool.stats().preloads.at(0).left_behind == expected);
  const auto in_worker = pool.submit([] {
                               std::vector<std::string> texts;
                               for (const auto& each : brood::detail::held_timers()) texts.push_back(each.text);
                               return texts;
                             })
                             .get();
  CHECK_MESSAGE(in_worker.empty(), joined(in_worker));  // that is the hazard
}

TEST_CASE("allow_threads: threads are reported for the Preload that left them") {
  const support::Leftovers audit;
  using Policy = brood::ForkServerPolicy<app::WithoutHook, app::LeavesThreads, app::Ordered<1>>;
  Policy policy;
  policy.allow_threads = true;
  const brood::Pool<Policy> pool({.workers = 1}, policy);
  const auto preloads = pool.stats().preloads;
  CHECK(preloads.at(0).left_behind.empty());
  CHECK(preloads.at(1).left_behind == std::vector<std::string>{"2 threads"});
  CHECK(preloads.at(2).left_behind.empty());
}

TEST_CASE("after_fork opens a file again: 8 workers read the right records at once") {
  const support::Leftovers audit;
  const Files files;
  constexpr int records = 200;
  {
    std::ofstream out(made_path("records"));
    for (int n = 0; n < records; ++n) out << "record" << n % 10 << '\n';
  }
  using Policy = brood::ForkServerPolicy<app::Records>;
  brood::Pool<Policy> pool({.workers = 8}, {brood::preload_args<app::Records>(made_path("records"))});
  CHECK(pool.stats().preloads.at(0).left_behind.size() == 1);
  const auto all = in_each_worker(pool, 8, [](const std::string& gate) {
    support::wait_for_gate(gate, 0);
    const auto& source = brood::preloaded<app::Records>();
    std::vector<std::string> seen;
    for (std::string each = source.next(); each != "end"; each = source.next()) seen.push_back(each);
    return std::tuple(::getpid(), source.hooks, seen);
  });
  std::set<pid_t> pids;
  for (const auto& [pid, hooks, seen] : all) {
    pids.insert(pid);
    CHECK(hooks == 1);
    REQUIRE(seen.size() == records);
    for (int n = 0; n < records; ++n) {
      if (seen[static_cast<std::size_t>(n)] != "record" + std::to_string(n % 10) + "\n") FAIL_CHECK("record " << n);
    }
  }
  CHECK(pids.size() == 8);
}

TEST_CASE("after_fork runs once in each worker, in the order of the Preloads, before on_worker_start") {
  const support::Leftovers audit;
  using Policy = brood::ForkServerPolicy<app::Ordered<1>, app::WithoutHook, app::Ordered<2>>;
  brood::Pool<Policy> pool(
      {.workers = 2, .tasks_per_worker = 2, .on_worker_start = [] { app::order.push_back("on_worker_start"); }});
  const std::vector<std::string> expected{"after_fork 1 of its own", "after_fork 2 of its own", "on_worker_start"};
  for (int n = 0; n < 10; ++n) CHECK(pool.submit([] { return app::order; }).get() == expected);
  CHECK(app::order.empty());
}

TEST_CASE_TEMPLATE("after_fork is not called where the Preload is built in the worker itself", Policy, brood::SpawnPolicy,
                   brood::ForkPolicy) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto seen = pool.submit([] {
                          brood::preloaded<app::Ordered<1>>();
                          brood::preloaded<app::HookThrows>();
                          return app::order;
                        })
                        .get();
  CHECK(seen.empty());
}

TEST_CASE_TEMPLATE("an after_fork that fails is a LaunchError that names it", Bad, app::HookThrows, app::HookExits,
                   app::HookCrashes, app::HookHangs) {
  const support::Leftovers audit;
  std::string cause = "start_timeout";
  if (std::is_same_v<Bad, app::HookThrows>) cause = "threw std::runtime_error: the file has gone";
  if (std::is_same_v<Bad, app::HookExits>) cause = "exited with code 9";
  if (std::is_same_v<Bad, app::HookCrashes>) cause = "SIGSEGV";
  const auto limit = std::is_same_v<Bad, app::HookHangs> ? support::short_start_timeout : std::chrono::milliseconds(20'000);
  brood::Pool<brood::ForkServerPolicy<app::Ordered<1>, Bad>> pool(
      {.workers = 1, .start_timeout = limit, .on_worker_start = [] { throw std::runtime_error("not reached"); }});
  auto future = pool.submit([] { return 1; });
  const auto& outcome = future.outcome();
  CHECK(outcome.failure().kind() == brood::FailureKind::launch);
  const std::string text = outcome.failure().message();
  says(text, "after_fork of the Preload " + std::string(brood::detail::type_name<Bad>()));
  says(text, cause);
  CHECK_MESSAGE(text.find("on_worker_start") == std::string::npos, text);
  CHECK_THROWS_AS(static_cast<void>(future.get()), brood::LaunchError);
}

TEST_CASE("an on_worker_start that fails is told from an after_fork that does") {
  const support::Leftovers audit;
  const std::vector<std::pair<void (*)(), std::string>> hooks{
      {[] { throw std::runtime_error("no licence"); }, "PoolOptions::on_worker_start threw std::runtime_error: no licence"},
      {[] { ::_exit(8); }, "exited with code 8 before it was up, in PoolOptions::on_worker_start"}};
  for (const auto& [hook, expected] : hooks) {
    brood::Pool<brood::ForkServerPolicy<app::Ordered<1>>> pool({.workers = 1, .on_worker_start = hook});
    const std::string text = pool.submit([] { return 1; }).outcome().failure().message();
    says(text, expected);
    CHECK_MESSAGE(text.find("after_fork") == std::string::npos, text);
  }
}

TEST_CASE("a random engine made in a Preload is the same in all workers, unless after_fork seeds it") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkServerPolicy<app::SameDice, app::FreshDice>> pool({.workers = 8});
  const auto drawn = in_each_worker(pool, 8, [](const std::string& gate) {
    support::wait_for_gate(gate, 0);
    const auto draw = [](std::mt19937& engine) { return std::uint64_t{engine()} << 32 | engine(); };
    return std::pair(draw(brood::preloaded<app::SameDice>().engine), draw(brood::preloaded<app::FreshDice>().engine));
  });
  std::set<std::uint64_t> same;
  std::set<std::uint64_t> fresh;
  for (const auto& [each, own] : drawn) {
    same.insert(each);
    fresh.insert(own);
  }
  CHECK(same.size() == 1);
  CHECK(fresh.size() == 8);
}
