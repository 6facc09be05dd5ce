// SPDX-License-Identifier: MIT
// Descriptors and channels when a system call fails: another way where there is one, else a typed error, and nothing left.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "faults/board.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using support::Fault;
using support::FaultAction;
using support::ProcessRole;

Fault failure(const char* name, int error, ProcessRole role) {
  return {.action = FaultAction::fail, .value = error, .role = role, .name = name};
}

brood::Fd make_memory(const std::string& text) {
  brood::Fd memory(::memfd_create("brood-test", MFD_CLOEXEC));
  if (::pwrite(memory.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) memory.reset();
  return memory;
}

std::string contents(const brood::Fd& of) {
  char text[64];
  const ssize_t size = ::pread(of.get(), text, sizeof text, 0);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

brood::Fd answer(const brood::Fd& memory) { return make_memory(contents(memory) + ", answered"); }

int sum_of(brood::Channel<int> host) {
  int sum = 0;
  for (const int each : host) host.send(sum += each);
  return sum;
}

}  // namespace

TEST_CASE("descriptors travel by either of two ways, and a host that has neither says so") {
  support::Board board;
  const support::Leftovers audit;
  const auto works = [] {
    brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
    return contents(pool.submit(&answer, make_memory("asked")).get()) == "asked, answered";
  };
  const Fault no_look = failure("pidfd_getfd", EPERM, ProcessRole::host);
  const Fault no_name = failure("connect", ECONNREFUSED, ProcessRole::host);
  for (const Fault& each : {no_look, no_name, failure("bind", EACCES, ProcessRole::worker),
                            failure("getrandom", ENOSYS, ProcessRole::worker)}) {
    CAPTURE(each.name);
    board.plan({each});
    CHECK(works());
    board.lift();
  }
  board.plan({no_look, no_name});
  {
    brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
    const auto outcome = pool.submit(&answer, make_memory("asked")).outcome();
    REQUIRE(!outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::serialization);
    CHECK_MESSAGE(outcome.failure().message().find("both were refused") != std::string::npos, outcome.failure().message());
    CHECK(board.hits() > 0);
    const std::vector<std::string> names{"one", "two"};
    for (const auto& item : pool.try_map(&make_memory, names, {.chunk_size = 2})) {
      REQUIRE(!item);
      CHECK(item.failure().kind() == brood::FailureKind::serialization);
      CHECK_MESSAGE(item.failure().message().find("both were refused") != std::string::npos, item.failure().message());
    }
    board.lift();
    CHECK(contents(pool.submit(&answer, make_memory("again")).get()) == "again, answered");
  }
}

TEST_CASE("a call that fails once while descriptors travel fails that task at the most") {
  support::Board board;
  const support::Leftovers audit;
  for (const ProcessRole role : {ProcessRole::host, ProcessRole::worker}) {
    for (const char* const name : {"sendmsg", "recvmsg", "fcntl", "socket", "accept4", "getsockopt", "pidfd_getfd", "futex"}) {
      for (std::uint64_t nth = 1; nth <= 6; ++nth) {
        const std::string which = name + std::string(", number ") + std::to_string(nth);
        CAPTURE(which);
        Fault fault = failure(name, EMFILE, role);
        fault.first = fault.last = nth;
        brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
        CHECK(pool.submit([] { return 1; }).get() == 1);
        const brood::Fd memory = make_memory("asked");
        board.plan({fault});
        std::string said;
        try {
          said = contents(pool.submit(&answer, memory).get());
        } catch (const brood::SerializationError& error) {
          said = error.what();
        } catch (const brood::ProtocolError& error) {
          said = error.what();
        } catch (const brood::WorkerDied& error) {  // the call that failed was for the server's word that the worker is up
          said = error.what();
        }
        const bool told = said.find("Too many open files") != std::string::npos ||
                          said.find("lost its control socket") != std::string::npos;
        CHECK_MESSAGE((said == "asked, answered" || told), said);
        board.lift();
        CHECK(contents(pool.submit(&answer, memory).get()) == "asked, answered");
      }
    }
  }
}

TEST_CASE("a channel whose calls fail throws, and its pool goes on") {
  support::Board board;
  const support::Leftovers audit;
  for (const char* const name : {"socketpair", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "poll", "shutdown"}) {
    for (std::uint64_t nth = 1; nth <= 4; ++nth) {
      const std::string which = name + std::string(", number ") + std::to_string(nth);
      CAPTURE(which);
      brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
      Fault fault = failure(name, ENOTSUP, ProcessRole::host);
      fault.first = fault.last = nth;
      board.plan({fault});
      try {
        auto [mine, theirs] = brood::channel<int>({.capacity = 50'000});
        auto sum = pool.submit(&sum_of, std::move(theirs));
        for (int at = 0; at < 5; ++at) {
          mine.send(at);
          mine.receive();
        }
        mine.close();
        sum.get();
      } catch (const brood::Error& error) {
        CHECK(std::string(error.what()).size() > 5);
      }
      board.lift();
    }
  }
}
