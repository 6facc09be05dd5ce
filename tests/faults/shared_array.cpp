// SPDX-License-Identifier: MIT
// SharedArray when a system call fails: a typed error and nothing left, or another way.
#include <doctest/doctest.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

#include "faults/board.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using brood::SharedArray;
using support::Fault;
using support::FaultAction;
using support::ProcessRole;

int add_up(SharedArray<const int> values) {
  int sum = 0;
  for (const int each : values) sum += each;
  return sum;
}
void put(SharedArray<int> values, int value) { values[0] = value; }

Fault failure(const char* name, int error, ProcessRole role) {
  return {.action = FaultAction::fail, .value = error, .role = role, .name = name};
}

/// Arrays of each kind.
void make_some() {
  SharedArray<int> a(1000);
  a[0] = 1;
  const SharedArray<const int> frozen = std::move(a).freeze();
  CHECK(frozen[0] == 1);
  const SharedArray<int> b(std::vector<int>{1, 2, 3});
  const SharedArray<const int> c(std::vector<int>{1, 2, 3});
  CHECK(b[2] + c[1] == 5);
}

}  // namespace

#define SHARING_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithPreloads

TEST_CASE("SharedArray: a call that fails in the host is a SharedMemoryError, and nothing is left") {
  support::Board board;
  const support::Leftovers audit;
  for (const char* const name : {"memfd_create", "ftruncate", "fcntl(F_ADD_SEALS)", "fstat", "mmap", "pwrite"}) {
    CAPTURE(name);
    int refused = 0;
    for (std::uint64_t nth = 1; nth <= 12; ++nth) {
      Fault fault = failure(name, ENOMEM, ProcessRole::host);
      fault.first = fault.last = nth;
      board.plan({fault});
      try {
        make_some();
      } catch (const brood::SharedMemoryError& error) {
        ++refused;
        CHECK(error.error() == ENOMEM);
        CHECK_MESSAGE(std::string(error.what()).find("a SharedArray of ") == 0, error.what());
      }
      board.lift();
    }
    CHECK(refused > 0);
  }
}

TEST_CASE_TEMPLATE("SharedArray works without memfd_create", Policy, SHARING_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  for (const int error : {ENOSYS, EPERM}) {
    board.plan({failure("memfd_create", error, ProcessRole::host)});
    brood::Pool<Policy> pool({.workers = 1});
    SharedArray<int> a(std::vector<int>{1, 2, 3});
    pool.submit(&put, a, 10).get();
    CHECK(pool.submit(&add_up, a).get() == 15);
    const SharedArray<const int> frozen = std::move(a).freeze();
    CHECK(pool.submit(&add_up, frozen).get() == 15);
    CHECK(board.hits() > 0);
    board.lift();
  }
}

TEST_CASE_TEMPLATE("a call that fails in the worker fails that task, with what to do", Policy, SHARING_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  board.plan({});
  brood::Pool<Policy> pool({.workers = 1});
  const SharedArray<int> a(std::vector<int>{1, 2, 3});
  CHECK(pool.submit(&add_up, a).get() == 6);
  for (const char* const name : {"open", "fstat", "mmap"}) {
    CAPTURE(name);
    Fault fault = failure(name, EACCES, ProcessRole::worker);
    fault.last = 1;
    board.plan({fault});
    CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&add_up, a).get()), doctest::Contains("/proc must be mounted"),
                         brood::SerializationError);
    CHECK(board.hits() == 1);
    board.lift();
    CHECK(pool.submit(&add_up, a).get() == 6);
  }
  board.plan({failure("madvise", EINVAL, ProcessRole::worker)});  // nothing depends on it
  CHECK(pool.submit(&add_up, a).get() == 6);
  CHECK(board.hits() > 0);
  board.lift();
  CHECK(pool.stats().workers_started == 1);
}

TEST_CASE_TEMPLATE("without /proc a worker asks for the descriptor itself", Policy, SHARING_POLICIES) {
  support::Board board;
  const support::Leftovers audit;
  board.plan({});
  brood::Pool<Policy> pool({.workers = 1});
  const SharedArray<int> a(std::vector<int>{1, 2, 3});
  CHECK(pool.submit(&add_up, a).get() == 6);
  board.plan({failure("stat", ENOENT, ProcessRole::worker)});
  const auto outcome = pool.submit(&add_up, a).outcome();
  CHECK(board.hits() == 1);
  if (outcome) {  // pidfd_getfd needs the rights of a debugger
    CHECK(outcome.value() == 6);
    pool.submit(&put, a, 2).get();
    CHECK(a[0] == 2);
  } else {
    CHECK(outcome.failure().kind() == brood::FailureKind::serialization);
  }
  for (const char* const name : {"pidfd_open", "pidfd_getfd"}) {
    board.plan({failure("stat", ENOENT, ProcessRole::worker), failure(name, EPERM, ProcessRole::worker)});
    CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&add_up, a).get()), doctest::Contains("No such file or directory"),
                         brood::SerializationError);
    board.lift();
  }
  CHECK(pool.submit(&add_up, a).get() != 0);
  CHECK(pool.stats().workers_started == 1);
}
