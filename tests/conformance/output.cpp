// SPDX-License-Identifier: MIT
// What becomes of what a task prints: captured, discarded, inherited.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using support::Leftovers;

constexpr std::size_t kept = std::size_t{64} << 10;

brood::PoolOptions with(brood::Output output, unsigned workers = 1) {
  brood::PoolOptions options;
  options.workers = workers;
  options.output = output;
  return options;
}

void write_all(int fd, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t count = ::write(fd, text.data() + done, text.size() - done);
    if (count <= 0) ::_exit(99);
    done += static_cast<std::size_t>(count);
  }
}

int prints_in_every_way(int n) {
  std::printf("printf %d\n", n);
  std::cout << "cout " << n << '\n';
  std::cerr << "cerr " << n << '\n';
  std::fprintf(stderr, "stderr %d\n", n);
  std::printf("no end of line");
  return n;
}

std::string numbered(int n) { return "task " + std::to_string(n) + " says so\n"; }

int prints_number(int n) {
  std::cout << numbered(n);
  if (n % 3 == 0) write_all(STDERR_FILENO, "and more\n");
  return n;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::set<std::string> descriptors() { return support::own_descriptors(); }

}  // namespace

TEST_CASE_TEMPLATE("Output::capture gives a task's stdout and stderr, in order", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool(with(brood::Output::capture));
  auto future = pool.submit(&prints_in_every_way, 3);
  CHECK(future.output() == "printf 3\ncout 3\ncerr 3\nstderr 3\nno end of line");
  CHECK(future.get() == 3);
  CHECK(future.output().size() > 10);  // may be asked again
  auto silent = pool.submit([] { return 1; });
  CHECK(silent.output().empty());
}

TEST_CASE_TEMPLATE("Output::discard leaves nothing", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  const auto ran = support::run_in_child([] {
    brood::Pool<Policy> pool(with(brood::Output::discard));
    auto future = pool.submit(&prints_in_every_way, 3);
    const bool empty = future.output().empty();
    return future.get() == 3 && empty ? 7 : 1;
  });
  CHECK(ran.status.describe() == "exited with code 7");
  CHECK(ran.output.empty());
}

TEST_CASE_TEMPLATE("Output::inherit writes to where the host's goes", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  const auto ran = support::run_in_child([] {
    brood::Pool<Policy> pool(with(brood::Output::inherit));
    auto future = pool.submit(&prints_in_every_way, 3);
    const bool empty = future.output().empty();
    return future.get() == 3 && empty ? 7 : 1;
  });
  CHECK(ran.status.describe() == "exited with code 7");
  for (const char* each : {"printf 3\n", "cout 3\n", "cerr 3\n", "stderr 3\n", "no end of line"}) {
    CHECK_MESSAGE(contains(ran.output, each), ran.output);
  }
}

TEST_CASE_TEMPLATE("Output::capture lets nothing through to the host's", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  const auto ran = support::run_in_child([] {
    brood::Pool<Policy> pool(with(brood::Output::capture, 2));
    for (int n = 0; n < 10; ++n) static_cast<void>(pool.submit(&prints_in_every_way, n).get());
    return 7;
  });
  CHECK(ran.status.describe() == "exited with code 7");
  CHECK(ran.output.empty());
}

TEST_CASE_TEMPLATE("the last 64 KiB are kept, whatever a task prints", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool(with(brood::Output::capture));
  for (const std::size_t size : {kept - 1, kept, kept + 1, 5 * kept + 17}) {
    CAPTURE(size);
    auto future = pool.submit(
        [](std::size_t bytes) {
          std::string text;
          for (std::size_t at = 0; at < bytes; ++at) text += static_cast<char>('a' + at % 23);
          write_all(STDOUT_FILENO, text);
          return 0;
        },
        size);
    const std::string output = future.output();
    REQUIRE(output.size() == std::min(size, kept));
    std::size_t wrong = 0;
    for (std::size_t at = 0; at < output.size(); ++at) {
      if (output[at] != static_cast<char>('a' + (size - output.size() + at) % 23)) ++wrong;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE_TEMPLATE("output is bytes", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool(with(brood::Output::capture));
  std::string every;
  for (int byte = 0; byte < 256; ++byte) every += static_cast<char>(byte);
  auto future = pool.submit(
      [](const std::string& bytes) {
        std::fwrite(bytes.data(), 1, bytes.size(), stdout);
        return 0;
      },
      every);
  CHECK(future.output() == every);
}

TEST_CASE_TEMPLATE("each of many tasks gets its own output and no other", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  for (const unsigned workers : {1U, 3U}) {
    CAPTURE(workers);
    brood::PoolOptions options = with(brood::Output::capture, workers);
    options.tasks_per_worker = 40;
    brood::Pool<Policy> pool(options);
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 200; ++n) futures.push_back(pool.submit(&prints_number, n));
    for (int n = 0; n < 200; ++n) {
      auto& future = futures[static_cast<std::size_t>(n)];
      CHECK(future.output() == numbered(n) + (n % 3 == 0 ? "and more\n" : ""));
      CHECK(future.get() == n);
    }
  }
}

TEST_CASE_TEMPLATE("an exception's failure has the output too", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool(with(brood::Output::capture));
  auto future = pool.submit([]() -> int {
    std::puts("before it threw");
    throw std::runtime_error("thrown");
  });
  const auto outcome = future.outcome();
  REQUIRE_FALSE(outcome);
  CHECK(outcome.failure().captured_output() == "before it threw\n");
  CHECK(future.output() == "before it threw\n");
}

TEST_CASE_TEMPLATE("a crash keeps the lines that were finished", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool(with(brood::Output::capture));
  for (const int signal : {SIGSEGV, SIGKILL}) {
    auto future = pool.submit(
        [](int number) {
          std::puts("a line of stdio");
          std::cout << "a line of a stream\n";
          write_all(STDERR_FILENO, "and a last word");
          ::raise(number);
          return 0;
        },
        signal);
    const auto outcome = future.outcome();
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().signal() == signal);
    CHECK(outcome.failure().captured_output() == "a line of stdio\na line of a stream\nand a last word");
    CHECK_MESSAGE(contains(outcome.failure().message(), "captured_output()"), outcome.failure().message());
    CHECK(outcome.failure().message().find('\n') == std::string::npos);
    try {
      outcome.failure().raise();
    } catch (const brood::WorkerDied& died) {
      CHECK(died.captured_output() == outcome.failure().captured_output());
    }
  }
  const auto aborted = pool.submit([]() noexcept -> int { std::terminate(); }).outcome();
  CHECK_MESSAGE(contains(aborted.failure().captured_output(), "terminate called"), aborted.failure().captured_output());
}

TEST_CASE_TEMPLATE("timeouts, cancels and kill() keep the output", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  const auto hang = [](const std::string& marker) {
    std::puts("about to hang");
    ::close(::open(marker.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    for (;;) ::pause();
    return 0;
  };
  brood::Pool<Policy> pool(with(brood::Output::capture));
  const support::Gate late;
  auto timed = pool.submit({.timeout = std::chrono::milliseconds(300), .retries = 0, .limits = {}}, hang, late.path());
  CHECK(timed.outcome().failure().kind() == brood::FailureKind::timeout);
  CHECK(timed.outcome().failure().captured_output() == "about to hang\n");
  const auto until_it_hangs = [](const support::Gate& gate) {
    return support::eventually([&] { return ::access(gate.path().c_str(), F_OK) == 0; });
  };
  const support::Gate first;
  auto cancelled = pool.submit(hang, first.path());
  REQUIRE(until_it_hangs(first));
  CHECK(cancelled.cancel());
  CHECK(cancelled.outcome().failure().captured_output() == "about to hang\n");
  const support::Gate second;
  auto killed = pool.submit(hang, second.path());
  REQUIRE(until_it_hangs(second));
  pool.kill();
  CHECK(killed.outcome().failure().kind() == brood::FailureKind::cancelled);
  CHECK(killed.outcome().failure().captured_output() == "about to hang\n");
}

TEST_CASE_TEMPLATE("a retried task has the output of its last run", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool(with(brood::Output::capture));
  auto future = pool.submit({.timeout = {}, .retries = 1, .limits = {}},
                            [](const std::string& marker) {
                              const bool again = ::access(marker.c_str(), F_OK) == 0;
                              std::puts(again ? "second run" : "first run");
                              if (again) return 2;
                              ::close(::open(marker.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
                              ::raise(SIGKILL);
                              return 1;
                            },
                            gate.path());
  CHECK(future.get() == 2);
  CHECK(future.output() == "second run\n");
}

TEST_CASE_TEMPLATE("an item of a map that fails has what its chunk has printed", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool(with(brood::Output::capture, 2));
  const auto outcomes = pool.try_map(
      [](int n) {
        std::printf("item %d\n", n);
        if (n == 5) ::raise(SIGKILL);
        if (n == 8) throw std::runtime_error("eight");
        return n;
      },
      std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {.chunk_size = 10, .timeout = {}, .retries = 0});
  for (const std::size_t at : {5U, 8U}) {
    REQUIRE_FALSE(outcomes[at]);
    const std::string& output = outcomes[at].failure().captured_output();
    CHECK_MESSAGE(contains(output, "item " + std::to_string(at) + "\n"), output);
  }
}

TEST_CASE_TEMPLATE("a process that a task leaves behind with the pipe delays nothing", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  const support::Gate gate;
  pid_t left_behind = 0;
  {
    brood::Pool<Policy> pool(with(brood::Output::capture));
    auto future = pool.submit(
        [](const std::string& path) {
          std::puts("the task");
          std::fflush(stdout);
          const pid_t child = ::fork();
          if (child == 0) {
            support::eventually([&] { return ::access(path.c_str(), F_OK) == 0; }, std::chrono::seconds(60));
            ::_exit(0);
          }
          return child;
        },
        gate.path());
    CHECK(future.output() == "the task\n");
    left_behind = future.get();
    CHECK(pool.submit(&prints_number, 1).output() == numbered(1));
    const auto died = pool.submit([] {
                            std::puts("last");
                            ::raise(SIGKILL);
                          }).outcome();
    CHECK(died.failure().captured_output() == "last\n");
    CHECK(pool.submit(&prints_number, 2).output() == numbered(2));
  }
  CHECK(support::runs(left_behind));
  gate.open();
  CHECK(support::eventually([&] { return !support::runs(left_behind); }));
}

TEST_CASE_TEMPLATE("a process that a task leaves behind and that prints without end delays nothing", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  {
    brood::Pool<Policy> pool(with(brood::Output::capture));
    CHECK(pool.submit([] {
                if (::fork() == 0) {
                  ::signal(SIGPIPE, SIG_DFL);
                  const std::string noise(4096, 'n');
                  for (;;) write_all(STDOUT_FILENO, noise);
                }
                return 5;
              }).get() == 5);
    for (int n = 0; n < 20; ++n) CHECK(pool.submit(&prints_number, n).get() == n);
  }
  // the pipe has no reader any more: the noise ends (the audit looks)
}

TEST_CASE_TEMPLATE("a thread of an earlier task spoils nothing but what it prints itself", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::Pool<Policy> pool(with(brood::Output::capture));
  auto first = pool.submit([] {
    std::thread([] {
      for (int n = 0; n < 1000; ++n) write_all(STDERR_FILENO, "x");
    }).detach();
    return 1;
  });
  CHECK(first.get() == 1);
  for (int n = 0; n < 20; ++n) CHECK(contains(pool.submit(&prints_number, n * 3 + 1).output(), "says so\n"));
}

namespace hooks {

void prints() { std::puts("from the hook"); }
void prints_and_throws() {
  std::puts("the reason is this");
  throw std::runtime_error("hook");
}
void prints_and_ends() {
  std::puts("the reason is that");
  std::fflush(stdout);
  ::_exit(3);
}

}  // namespace hooks

TEST_CASE_TEMPLATE("what the start hook prints belongs to no task, and to a failed start", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  brood::PoolOptions options = with(brood::Output::capture);
  options.tasks_per_worker = 1;
  options.on_worker_start = &hooks::prints;
  {
    brood::Pool<Policy> pool(options);
    for (int n = 1; n < 6; n += 3) CHECK(pool.submit(&prints_number, n).output() == numbered(n));
  }
  for (const auto hook : {&hooks::prints_and_throws, &hooks::prints_and_ends}) {
    options.on_worker_start = hook;
    brood::Pool<Policy> pool(options);
    const auto outcome = pool.submit(&prints_number, 1).outcome();
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::launch);
    CHECK_MESSAGE(contains(outcome.failure().message(), "it printed: the reason is th"), outcome.failure().message());
  }
}

TEST_CASE_TEMPLATE("capturing leaves a worker with no descriptor more", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  std::set<std::size_t> sizes;
  for (const auto output : {brood::Output::inherit, brood::Output::capture, brood::Output::discard}) {
    brood::Pool<Policy> pool(with(output, 3));
    const auto found = pool.submit(&descriptors).get();
    sizes.insert(found.size());
    if (output == brood::Output::discard) CHECK(found.contains("1 /dev/null"));
    if (output == brood::Output::discard) CHECK(found.contains("2 /dev/null"));
    std::size_t pipes = 0;
    for (const std::string& each : found) {
      if (contains(each, "pipe:") && each[0] > '2') ++pipes;
    }
    if constexpr (!brood::CopiesHost<Policy>) CHECK(pipes == 2);  // tasks and results
  }
  CHECK(sizes.size() == 1);
}

TEST_CASE("closures of a ForkPolicy pool are captured too") {
  const Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool(with(brood::Output::capture));
  const std::string said = "captured twice";
  auto future = pool.submit([&said] {
    std::puts(said.c_str());
    return 1;
  });
  CHECK(future.output() == "captured twice\n");
}

TEST_CASE_TEMPLATE("a worker that is told to leave while it starts leaves, with its stop hook, when it has come up", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  const support::Gate left;
  constexpr auto starts = +[](const std::string& path) { support::wait_for_gate(path, 0); };
  constexpr auto leaves = +[](const std::string& path) { ::close(::creat(path.c_str(), 0600)); };
  std::thread opener;
  {
    brood::Pool<Policy> pool({.workers = 1,
                              .stop_grace = std::chrono::seconds(20),
                              .output = brood::Output::capture,
                              .on_worker_start = brood::worker_hook(starts, gate.path()),
                              .on_worker_stop = brood::worker_hook(leaves, left.path())});
    auto never = pool.submit(+[] { return 1; });
    REQUIRE(support::eventually([&] { return pool.stats().workers.size() == 1; }));
    never.cancel();
    CHECK_FALSE(never.outcome());
    opener = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));  // most likely the pool's end has begun
      gate.open();
    });
  }
  opener.join();
  CHECK(::access(left.path().c_str(), F_OK) == 0);
}
