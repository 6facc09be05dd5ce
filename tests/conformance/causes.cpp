// SPDX-License-Identifier: MIT
// What a failure tells about its cause: signal or exit code, the place of a crash, memory, the callable.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/program.hpp"
#include "support/rounds.hpp"
#include "support/sanitizer.hpp"

namespace causes {

// No sanitizer may look at the accesses, and no caller may become a jump: the frames are what is tested.
[[gnu::noinline]] int crash_here(volatile int* nowhere) {
  asm volatile("movl $1, (%0)" : : "r"(nowhere) : "memory");
  return 1;
}
[[gnu::noinline]] int calls_crash(int n) {
  const int result = crash_here(reinterpret_cast<volatile int*>(std::uintptr_t{0x1230}));
  asm volatile("" : : : "memory");
  return result + n;
}

[[gnu::noinline]] int recurse(int n) {
  volatile char room[1024];
  room[0] = static_cast<char>(n);
  const int below = n < 0 ? 0 : recurse(n + 1 - (n >> 30));
  asm volatile("" : : "r"(room) : "memory");
  return below + room[0];
}

[[gnu::noinline]] int abort_here(int n) {
  if (n >= 0) std::abort();
  asm volatile("" : : : "memory");
  return n;
}

[[gnu::noinline]] int call_nowhere(int n) {
  int (*volatile nowhere)() = nullptr;
  const int result = nowhere();
  asm volatile("" : : : "memory");
  return result + n;
}

[[gnu::noinline]] int raise_one(int signal) {
  const int result = ::raise(signal);
  asm volatile("" : : : "memory");
  return result;
}
int leave_with(int code) { ::_exit(code); }

}  // namespace causes

namespace {

using support::Leftovers;

int add_one(int n) { return n + 1; }

template <class R>
brood::Failure failure_of(brood::Future<R> future) {
  const auto outcome = future.outcome();
  REQUIRE_FALSE(outcome.has_value());
  return outcome.failure();
}

std::string line_of(const std::string& text, std::size_t number) {
  std::size_t at = 0;
  for (; number != 0 && at != std::string::npos; --number) at = text.find('\n', at) + 1;
  return text.substr(at, text.find('\n', at) - at);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::uint64_t caught_signals() {
  return std::stoull(support::own_status("SigCgt"), nullptr, 16) & ~(std::uint64_t{3} << 31);
}

}  // namespace

TEST_CASE_TEMPLATE("every signal that ends a process is told exactly, with and without a handler", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  for (const bool backtraces : {true, false}) {
    CAPTURE(backtraces);
    brood::PoolOptions options;
    options.workers = 2;
    options.backtraces = backtraces;
    brood::Pool<Policy> pool(options);
    for (const int round : support::rounds(1, 1'000)) {
      std::vector<std::pair<int, brood::Future<int>>> sent;
      for (int signal = 1; signal <= SIGRTMAX; ++signal) {
        if (signal == 32 || signal == 33 || signal == SIGINT || signal == SIGCHLD || signal == SIGURG ||
            signal == SIGWINCH || signal == SIGCONT || signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN ||
            signal == SIGTTOU || (signal > SIGSYS && signal < SIGRTMAX)) {
          continue;  // they do not end it, or are libc's, or one as good as another
        }
        sent.emplace_back(signal, pool.submit(&causes::raise_one, signal));
      }
      for (auto& [signal, future] : sent) {
        CAPTURE(signal);
        const brood::Failure failure = failure_of(std::move(future));
        CHECK(failure.kind() == brood::FailureKind::worker_died);
        CHECK(failure.status().wait_word() % 128 == signal);
        CHECK(failure.signal() == signal);
        CHECK(contains(failure.callable(), "causes::raise_one"));
        bool crash = false;
        for (const int each : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) {
          crash = crash || each == signal;
        }
        CHECK_MESSAGE(contains(failure.backtrace(), "causes::raise_one") == (crash && backtraces), failure.backtrace());
        if (!crash || !backtraces) CHECK(failure.backtrace().empty());
        CHECK_FALSE(failure.out_of_memory());
      }
      CHECK(pool.submit(&add_one, round).get() == round + 1);
    }
  }
}

TEST_CASE_TEMPLATE("every kind of exit code is told exactly", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const int round : support::rounds(1, 1'000)) {
    for (const int code : {0, 1, 2, 64, 70, 71, 74, 126, 127, 128, 255}) {
      CAPTURE(round);
      CAPTURE(code);
      const brood::Failure failure = failure_of(pool.submit(&causes::leave_with, code));
      CHECK(failure.kind() == brood::FailureKind::worker_died);
      REQUIRE(failure.status().exited());
      CHECK(failure.status().code() == code);
      CHECK(failure.signal() == 0);
      CHECK(failure.backtrace().empty());
      CHECK(failure.peak_rss_kib() > 0);
    }
  }
}

TEST_CASE_TEMPLATE("a crash names the function and its caller", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit(&causes::calls_crash, 1);
  const brood::Failure failure = failure_of(std::move(future));
  const std::string& frames = failure.backtrace();
  CHECK_MESSAGE(line_of(frames, 0).starts_with("#0 causes::crash_here(int volatile*)+0x"), frames);
  CHECK_MESSAGE(line_of(frames, 1).starts_with("#1 causes::calls_crash(int)+0x"), frames);
  CHECK_MESSAGE(contains(failure.message(), "(SIGSEGV, Segmentation fault) at address 0x1230 in causes::crash_here("),
                failure.message());
  CHECK(contains(failure.callable(), "causes::calls_crash(int)"));
  CHECK(failure.message().find('\n') == std::string::npos);
  try {
    failure.raise();
  } catch (const brood::WorkerDied& died) {
    CHECK(died.backtrace() == failure.backtrace());
    CHECK(died.callable() == failure.callable());
    CHECK(died.peak_rss_kib() == failure.peak_rss_kib());
    CHECK(died.peak_rss_kib() > 0);
    CHECK(died.signal() == SIGSEGV);
    CHECK_FALSE(died.out_of_memory());
    CHECK(died.captured_output().empty());
    const brood::WorkerDied copy = died;  // the facts travel with it
    CHECK(copy.backtrace() == frames);
  }
}

TEST_CASE_TEMPLATE("an item of a map that crashes says where", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const auto outcomes = pool.try_map([](int n) { return n == 7 ? causes::calls_crash(n) : n; },
                                     std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  for (std::size_t at = 0; at < outcomes.size(); ++at) {
    REQUIRE(outcomes[at].has_value() == (at != 6));
    if (at == 6) CHECK(contains(outcomes[at].failure().backtrace(), "causes::calls_crash(int)"));
  }
}

TEST_CASE_TEMPLATE("a stack overflow is told as such, its recursion in short", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const brood::Failure failure = failure_of(pool.submit(&causes::recurse, 1));
  CHECK(failure.signal() == SIGSEGV);
  CHECK_MESSAGE(contains(failure.message(), "the stack overflowed"), failure.message());
  CHECK_MESSAGE(line_of(failure.backtrace(), 0).starts_with("#0 causes::recurse(int)"), failure.backtrace());
  CHECK_MESSAGE(contains(failure.backtrace(), "more of the same"), failure.backtrace());
  CHECK(failure.backtrace().size() < 2000);
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("a crash inside a library names the function that called it", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const brood::Failure failure = failure_of(pool.submit(&causes::abort_here, 1));
  CHECK(failure.signal() == SIGABRT);
  CHECK_MESSAGE(contains(failure.backtrace(), "causes::abort_here(int)"), failure.backtrace());
  CHECK_MESSAGE(contains(failure.message(), "in causes::abort_here(int)"), failure.message());
}

TEST_CASE_TEMPLATE("a call to nowhere names its caller", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const brood::Failure failure = failure_of(pool.submit(&causes::call_nowhere, 1));
  CHECK(failure.signal() == SIGSEGV);
  CHECK_MESSAGE(contains(failure.backtrace(), "causes::call_nowhere(int)"), failure.backtrace());
}

TEST_CASE_TEMPLATE("a crash in a thread of the task is told", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const brood::Failure failure = failure_of(pool.submit([] {
    std::thread([] { causes::calls_crash(1); }).join();
    return 1;
  }));
  CHECK(failure.signal() == SIGSEGV);
  CHECK_MESSAGE(contains(failure.backtrace(), "causes::calls_crash(int)"), failure.backtrace());
}

TEST_CASE_TEMPLATE("a signal from outside names its sender", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit([] {
    for (;;) ::pause();
    return 0;
  });
  REQUIRE(support::wait_until_running(pool, 1));
  REQUIRE(::kill(pool.stats().workers.at(0).pid, SIGSEGV) == 0);
  const brood::Failure failure = failure_of(std::move(future));
  CHECK(failure.signal() == SIGSEGV);
  CHECK_MESSAGE(contains(failure.message(), "sent by process " + std::to_string(::getpid())), failure.message());
}

TEST_CASE_TEMPLATE("a handler that the task installs wins", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const brood::Failure failure = failure_of(pool.submit([] {
    ::signal(SIGSEGV, [](int) { ::_exit(57); });
    return causes::calls_crash(1);
  }));
  REQUIRE(failure.status().exited());
  CHECK(failure.status().code() == 57);
  CHECK(failure.backtrace().empty());
}

TEST_CASE_TEMPLATE("a handler of the task that hands on to the one before it gets the same end", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const brood::Failure failure = failure_of(pool.submit([] {
    static struct sigaction before {};
    struct sigaction own {};
    own.sa_sigaction = [](int signal, siginfo_t* info, void* context) { before.sa_sigaction(signal, info, context); };
    own.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &own, &before);
    return causes::calls_crash(1);
  }));
  CHECK(failure.signal() == SIGSEGV);
  CHECK_MESSAGE(contains(failure.backtrace(), "causes::calls_crash(int)"), failure.backtrace());
}

TEST_CASE_TEMPLATE("backtraces = false leaves every disposition alone", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::PoolOptions options;
  options.workers = 1;
  brood::Pool<Policy> with(options);
  options.backtraces = false;
  brood::Pool<Policy> without(options);
  std::uint64_t crashes = 0;
  for (const int each : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) {
    crashes |= std::uint64_t{1} << (each - 1);
  }
  CHECK(with.submit(&caught_signals).get() == crashes);
  CHECK(without.submit(&caught_signals).get() == 0);
  const brood::Failure failure = failure_of(without.submit(&causes::calls_crash, 1));
  CHECK(failure.signal() == SIGSEGV);
  CHECK(failure.backtrace().empty());
}

TEST_CASE_TEMPLATE("a child that the task forks crashes for itself", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const int status = pool.submit([] {
                           const pid_t child = ::fork();
                           if (child == 0) causes::calls_crash(1);
                           int word = 0;
                           ::waitpid(child, &word, 0);
                           return word;
                         }).get();
  CHECK((status & 0x7f) == SIGSEGV);
  // the note is still free for the worker itself
  const brood::Failure failure = failure_of(pool.submit(&causes::abort_here, 1));
  CHECK_MESSAGE(contains(failure.backtrace(), "causes::abort_here(int)"), failure.backtrace());
}

TEST_CASE_TEMPLATE("a crash note that a task has scribbled over does no harm", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (unsigned seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    const brood::Failure failure = failure_of(pool.submit(
        [](unsigned number) {
          brood::detail::CrashRecord& record = brood::detail::require_context("test").page->crash();
          std::mt19937 random(number);
          auto* const bytes = reinterpret_cast<unsigned char*>(&record);
          for (std::size_t at = 0; at < sizeof record; ++at) bytes[at] = static_cast<unsigned char>(random());
          record.stage = 2;
          record.signal = number % 2 == 0 ? SIGKILL : SIGSEGV;
          if (number % 4 >= 2) {  // counts that could be true, with paths of every kind
            record.frames = static_cast<std::uint32_t>(random() % 65);
            record.modules = static_cast<std::uint32_t>(random() % 17);
            for (auto& each : record.module_of) each = static_cast<std::uint8_t>(random() % 17);
            const char* const paths = "/dev/tty/etc/passwd/proc/self/mem/dev/zero";
            std::strcpy(record.paths.data(), paths);
            for (auto& each : record.module) {
              each.path = static_cast<std::uint32_t>(random() % 20);
              each.path_size = static_cast<std::uint32_t>(random() % 25);
              if (number % 8 >= 4) each.identity = {};
            }
          }
          ::signal(SIGSEGV, SIG_DFL);
          ::raise(number % 2 == 0 ? SIGKILL : SIGSEGV);
          return 0;
        },
        seed));
    CHECK(failure.signal() == (seed % 2 == 0 ? SIGKILL : SIGSEGV));
    CHECK(failure.backtrace().size() < 64 * 1024);
    CHECK(failure.message().size() < 4096);
  }
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("a broken stack changes nothing about the signal", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
#if defined(__x86_64__)
  const brood::Failure failure = failure_of(pool.submit([] {
    asm volatile("xor %%ebp, %%ebp; mov $64, %%rsp; movl $1, (%%rbp)" : : : "memory");
    return 0;
  }));
  CHECK(failure.signal() == SIGSEGV);
#endif
  const brood::Failure second = failure_of(pool.submit([](int signal) {
    alignas(64) static char fake[4096];
    std::memset(fake, 0x5a, sizeof fake);
    auto* const frame = static_cast<char*>(__builtin_frame_address(0));
    std::memset(frame, 0x5a, 64);  // saved registers, return addresses
    return ::raise(signal);
  }, SIGABRT));
  CHECK(second.signal() == SIGABRT);
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("an end that nobody saw is told as unknown", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  if constexpr (!brood::CopiesHost<Policy>) {
    brood::Pool<Policy> pool({.workers = 1});
    auto future = pool.submit([] {
      for (;;) ::pause();
      return 0;
    });
    REQUIRE(support::wait_until_running(pool, 1));
    REQUIRE(::kill(pool.stats().server_pid, SIGKILL) == 0);  // who reports the worker's end now?
    const brood::Failure failure = failure_of(std::move(future));
    CHECK(failure.kind() == brood::FailureKind::worker_died);
    // where the kernel can tell (Linux 6.15) it is the signal, else nothing is made up
    if (failure.status().known()) {
      CHECK(failure.signal() == SIGKILL);
    } else {
      CHECK_FALSE(failure.status().exited());
      CHECK(failure.signal() == 0);
    }
    CHECK_MESSAGE(contains(failure.message(), "ended with its server"), failure.message());
    CHECK(failure.backtrace().empty());
  }
}

TEST_CASE_TEMPLATE("failures of other kinds name the callable too", Policy, ALL_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const brood::Failure failure = failure_of(pool.submit(+[](int n) -> int { throw std::runtime_error(std::to_string(n)); }, 1));
  CHECK(failure.kind() == brood::FailureKind::exception);
  CHECK_FALSE(failure.callable().empty());
  CHECK(failure.backtrace().empty());
  CHECK(failure.captured_output().empty());
}

TEST_CASE("a sanitizer that insists on its handler keeps it") {
  const Leftovers audit;
  if (!support::has_sanitizer) return;  // there is nobody to insist
  const auto ran = support::run_in_child([]() -> int {
    ::setenv("ASAN_OPTIONS", "handle_segv=2", 1);
    support::exec({support::own_path(), "--test-case=a crash names the function and its caller*SpawnPolicy*"});
  });
  CHECK_MESSAGE(contains(ran.output, "ERROR: AddressSanitizer: SEGV on unknown address 0x000000001230"), ran.output);
  CHECK_MESSAGE(contains(ran.output, "exited with code"), ran.output);  // which that test did not expect
}

namespace {

/// A memory cgroup (version 1 or 2) of 64 MiB below this process' own; empty when there can be none here.
class MemoryGroup {
 public:
  MemoryGroup() {
    for (const bool unified : {false, true}) {
      const std::string own = brood::detail::memory_cgroup_folder(support::read_text("/proc/self/cgroup"), unified);
      if (own.empty()) continue;
      const std::string folder = own + "/brood_test_" + std::to_string(::getpid());
      if (::mkdir(folder.c_str(), 0755) != 0) continue;
      if (put(folder + (unified ? "/memory.max" : "/memory.limit_in_bytes"), "67108864") &&
          ::access((folder + "/cgroup.procs").c_str(), W_OK) == 0) {
        put(folder + (unified ? "/memory.swap.max" : "/memory.swappiness"), "0");
        folder_ = folder;
        return;
      }
      ::rmdir(folder.c_str());
    }
  }
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;
  ~MemoryGroup() {
    if (!folder_.empty()) CHECK(support::eventually([&] { return ::rmdir(folder_.c_str()) == 0; }));
  }

  explicit operator bool() const { return !folder_.empty(); }
  std::string processes() const { return folder_ + "/cgroup.procs"; }

  static bool put(const std::string& file, const std::string& text) {
    const int fd = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool done = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(fd);
    return done;
  }

 private:
  std::string folder_;
};

}  // namespace

TEST_CASE_TEMPLATE("a worker that the kernel killed for its memory is told as such", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  const MemoryGroup group;
  if (!group) {
    MESSAGE("SKIPPED: no memory cgroup can be made here (needs root and a writable /sys/fs/cgroup)");
    return;
  }
  if (support::has_sanitizer) {
    MESSAGE("SKIPPED: AddressSanitizer's shadow does not fit the group");
    return;
  }
  brood::Pool<Policy> pool({.workers = 1});
  for (const int round : support::rounds(1, 1'000)) {
    CAPTURE(round);
    const brood::Failure failure = failure_of(pool.submit(
        [](const std::string& processes) {
          if (!MemoryGroup::put(processes, std::to_string(::getpid()))) return 1;
          std::vector<std::vector<char>> held;
          for (int n = 0; n < 256; ++n) held.emplace_back(std::size_t{1} << 20, static_cast<char>(n));
          return static_cast<int>(held.size());
        },
        group.processes()));
    CHECK(failure.signal() == SIGKILL);
    CHECK_MESSAGE(failure.out_of_memory(), failure.message());
    CHECK_MESSAGE(contains(failure.message(), "memory ran out"), failure.message());
    // the next kill is nobody's fault but the killer's
    const brood::Failure killed = failure_of(pool.submit(&causes::raise_one, SIGKILL));
    CHECK_FALSE(killed.out_of_memory());
  }
}

TEST_CASE_TEMPLATE("a worker with a high oom_score_adj is what the kernel kills, not its larger host", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  const MemoryGroup group;
  if (!group || support::has_sanitizer) {
    MESSAGE("SKIPPED: no memory cgroup can be made here, or AddressSanitizer's shadow does not fit it");
    return;
  }
  // host, server and workers share the group
  const auto run_host = [&](std::optional<int> score, int rounds) {
    return support::run_in_child([&, score, rounds]() -> int {
      if (!MemoryGroup::put(group.processes(), std::to_string(::getpid()))) return 10;
      brood::PoolOptions options;
      options.workers = 1;
      options.limits.oom_score_adj = score;
      brood::Pool<Policy> pool(options);
      if (pool.submit(&add_one, 1).get() != 2) return 11;
      const std::vector<char> large(std::size_t{40} << 20, 'x');  // more than any worker will have
      for (int round = 0; round < rounds; ++round) {
        const auto outcome = pool.submit([] {
          std::vector<std::vector<char>> held;
          for (int n = 0; n < 256; ++n) held.emplace_back(std::size_t{1} << 20, static_cast<char>(n + 1));
          return static_cast<int>(held.size());
        }).outcome();
        if (outcome) return 12;
        if (outcome.failure().signal() != SIGKILL || !outcome.failure().out_of_memory()) return 13;
      }
      return large.back() == 'x' ? 0 : 14;
    });
  };
  const support::Ran ran = run_host(1000, 20);
  CHECK_MESSAGE(ran.status.describe() == "exited with code 0", ran.output);
  // without it the kernel takes the largest
  const support::Ran other = run_host(std::nullopt, 20);
  CHECK_MESSAGE((other.status.signaled() && other.status.signal() == SIGKILL), other.status.describe());
  CHECK_FALSE(contains(other.output, "it took too long"));
}
