// SPDX-License-Identifier: MIT
// Workers that stop in the middle of a large message: nobody else waits for them.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/eventually.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"
#include "support/rounds.hpp"

namespace app {

/// Bytes whose decoding stops the worker.
struct Stopping {
  std::string bytes;
  bool stops = true;
};

}  // namespace app

template <>
struct brood::Serializer<app::Stopping> {
  static void write(brood::Writer& writer, const app::Stopping& value) {
    writer.value(value.stops);
    writer.value(value.bytes);
  }
  static app::Stopping read(brood::Reader& reader) {
    app::Stopping value;
    value.stops = reader.value<bool>();
    if (value.stops) ::raise(SIGSTOP);
    value.bytes = reader.value<std::string>();
    return value;
  }
};

namespace {

constexpr std::size_t large = std::size_t{16} << 20;

int add_one(int n) { return n + 1; }
std::size_t length(const app::Stopping& value) { return value.bytes.size(); }

template <class Policy>
pid_t stopped_worker(brood::Pool<Policy>& pool) {
  pid_t found = 0;
  support::eventually([&] {
    for (const auto& worker : pool.stats().workers) {
      const auto info = support::process_info(worker.pid);
      if (info && info->state == 'T') found = worker.pid;
    }
    return found != 0;
  });
  return found;
}

}  // namespace

TEST_CASE_TEMPLATE("a worker that stops while it decodes 16 MiB delays nobody, and is WorkerDied when it is killed", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 3});
  std::uint64_t deaths = 0;
  for (const int round : support::rounds(3, 200)) {
    CAPTURE(round);
    auto stuck = pool.submit(&length, app::Stopping{std::string(large, 'a')});
    const pid_t worker = stopped_worker(pool);
    REQUIRE(worker != 0);
    for (int n = 0; n < 300; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);
    const auto many = static_cast<std::size_t>(support::rounds(2'000, 10'000).count());
    CHECK(pool.map(&add_one, std::vector<int>(many)) == std::vector<int>(many, 1));
    CHECK(pool.submit(&length, app::Stopping{std::string(large, 'b'), false}).get() == large);
    CHECK_FALSE(stuck.ready());
    REQUIRE(::kill(worker, SIGKILL) == 0);
    const auto outcome = stuck.outcome();
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
    CHECK(outcome.failure().signal() == SIGKILL);
    CHECK(outcome.failure().pid() == worker);
    ++deaths;
  }
  CHECK(pool.stats().failed == deaths);
}

TEST_CASE_TEMPLATE("submit of large arguments does not wait for workers that are stopped", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const pid_t worker = pool.submit([] { return ::getpid(); }).get();
  REQUIRE(::kill(worker, SIGSTOP) == 0);
  REQUIRE(support::eventually([&] { return support::process_info(worker)->state == 'T'; }));
  std::vector<brood::Future<std::size_t>> futures;
  for (int n = 0; n < 5; ++n) futures.push_back(pool.submit(&length, app::Stopping{std::string(large, 'c'), false}));
  for (const auto& each : futures) CHECK_FALSE(each.ready());  // submit came back all the same
  REQUIRE(::kill(worker, SIGCONT) == 0);
  for (const auto& each : futures) CHECK(each.get() == large);
}

TEST_CASE_TEMPLATE("a pool whose worker is stopped in a large message ends within its grace", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const bool cancelled : {false, true}) {
    brood::Pool<Policy> pool({.workers = 2, .stop_grace = std::chrono::milliseconds(100)});
    auto stuck = pool.submit(&length, app::Stopping{std::string(large, 'd')});
    REQUIRE(stopped_worker(pool) != 0);
    CHECK(pool.submit(&add_one, 1).get() == 2);
    if (cancelled) {
      CHECK(stuck.cancel());
    } else {
      pool.kill();
    }
    CHECK(stuck.outcome().failure().kind() == brood::FailureKind::cancelled);
  }
}
