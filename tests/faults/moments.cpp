// SPDX-License-Identifier: MIT
// Moments that are too short to be met by chance: the seam holds them open.
#include <doctest/doctest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "faults/suite.hpp"
#include "support/policies.hpp"

using support::FaultAction;
using support::ProcessRole;

namespace {

void sleep_on() { ::sleep(3'600); }

/// More than its pipe holds.
void prints_a_lot() {
  const std::string text(80'000, 'x');
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t count = ::write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (count <= 0) ::_exit(99);
    done += static_cast<std::size_t>(count);
  }
  throw std::runtime_error("has printed");
}

/// The middle of it can't be read.
std::vector<double> result_with_a_hole() {
  constexpr std::size_t page = 4096;
  std::vector<double> made((std::size_t{1} << 20) / sizeof(double), 1.0);
  auto* const middle = reinterpret_cast<std::byte*>(made.data()) + 512 * 1024;
  ::mprotect(middle - reinterpret_cast<std::uintptr_t>(middle) % page, 16 * page, PROT_NONE);
  return made;
}

}  // namespace

#define MOMENT_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithPreloads

TEST_CASE_TEMPLATE("kill() between the first and the last byte of a result", Policy, MOMENT_POLICIES) {
  for (int round = 0; round < 5; ++round) {
    support::Board board;
    const support::Leftovers audit;
    brood::Pool<Policy> pool({.workers = 1});
    // nobody reads before kill() does; the signal comes late enough for the worker to write the rest
    board.plan({{.action = FaultAction::fail, .value = EAGAIN, .role = ProcessRole::host, .name = "pthread_create"},
                {.action = FaultAction::sleep, .value = 100, .role = ProcessRole::host, .name = "pidfd_send_signal"},
                {.role = ProcessRole::worker, .name = "write"}});
    auto future = pool.submit(&support::doubled, std::string(50'000, 'x'));
    REQUIRE(support::eventually([&] {  // hello, and the result that does not fit into the pipe
      if (board.seen(2) < 2) static_cast<void>(pool.stats());  // hears of a server or a worker that comes up
      return board.seen(2) >= 2;
    }));
    ::usleep(5'000);  // until it is in the pipe; should that take longer, this round shows nothing
    pool.kill();
    const auto outcome = future.outcome();
    if (outcome) {
      CHECK(*outcome == support::doubled(std::string(50'000, 'x')));
    } else {
      CHECK_MESSAGE(outcome.failure().kind() == brood::FailureKind::cancelled, outcome.failure().message());
    }
  }
}

TEST_CASE("a worker is killed while its server is still forking the others that were asked for") {
  support::Board board;
  const support::Leftovers audit;
  constexpr std::uint64_t workers = 20;
  brood::Pool<support::ForkServer> pool({.workers = workers});
  board.plan({{.action = FaultAction::sleep, .value = 100, .role = ProcessRole::server, .name = "fork"}});
  std::vector<brood::Future<void>> futures;
  for (std::uint64_t n = 0; n < workers; ++n) {
    futures.push_back(pool.submit({.timeout = std::chrono::milliseconds(n == 2 ? 1 : 0)}, &sleep_on));
  }
  const auto outcome = futures[2].outcome();
  REQUIRE_FALSE(outcome.has_value());
  REQUIRE_MESSAGE(outcome.failure().kind() == brood::FailureKind::timeout, outcome.failure().message());
  CHECK(support::eventually([&] {
    const auto process = support::process_info(outcome.failure().pid());
    return !process || process->state == 'Z';
  }));
  CHECK(board.seen() < workers);  // the last is forked more than a second later
  pool.kill();
}

TEST_CASE("a large result that its worker can't read itself fails its task, whichever way it was to take") {
  support::Board board;
  const support::Leftovers audit;
  brood::Pool<support::ForkServer> pool({.workers = 1});
  for (const bool refused : {false, true}) {
    CAPTURE(refused);
    board.plan({});
    if (refused) board.plan({{.action = FaultAction::fail, .value = EPERM, .role = ProcessRole::host, .name = "process_vm_readv"}});
    auto future = pool.submit(&result_with_a_hole);
    CHECK(future.wait_for(std::chrono::seconds(20)));
    future.cancel();
    const auto outcome = future.outcome();
    REQUIRE_FALSE(outcome.has_value());
    CHECK_MESSAGE(outcome.failure().kind() != brood::FailureKind::cancelled, outcome.failure().message());
  }
}

TEST_CASE("a worker prints on when what it has printed can't be read for a moment, and the output says so") {
  support::Board board;
  const support::Leftovers audit;
  brood::PoolOptions options;
  options.workers = 1;
  options.output = brood::Output::capture;
  brood::Pool<support::ForkServer> pool(options);
  int told = 0;
  for (std::uint64_t first = 1; first <= 6; ++first) {
    CAPTURE(first);
    REQUIRE(pool.submit(&support::doubled, std::string("x")).get() == "xx");
    board.plan({{.action = FaultAction::fail, .value = EIO, .role = ProcessRole::host, .name = "read", .first = first, .last = first + 3}});
    auto future = pool.submit(&prints_a_lot);
    REQUIRE(future.wait_for(std::chrono::seconds(20)));
    const auto outcome = future.outcome();
    REQUIRE_FALSE(outcome.has_value());
    const std::string output = outcome.failure().captured_output();
    const std::size_t note = output.find("[brood could not read here: ");
    if (note != std::string::npos) ++told;
    CHECK(output.find("[brood", note + 1) == std::string::npos);
    board.plan({});
  }
  CHECK(told > 0);
}
