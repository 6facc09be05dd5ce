// SPDX-License-Identifier: MIT
// Errors name the callable, the argument and the line of the call.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"

/// A type that refuses to travel when it is negative.
struct Picky {
  int value = 0;
};
template <>
struct brood::Serializer<Picky> {
  static void write(brood::Writer& out, const Picky& picky) {
    if (picky.value < 0) throw brood::SerializationError("a negative Picky");
    out.value(picky.value);
  }
  static Picky read(brood::Reader& in) { return {in.value<int>()}; }
};

namespace {

using namespace std::chrono_literals;
using Server = brood::ForkServerPolicy<>;

int die() { return ::raise(SIGKILL); }
int die_of(int, int, int, int) { return ::raise(SIGKILL); }
int die_of_many(int, int, int, int, int) { return ::raise(SIGKILL); }
int die_of_eight(int, int, int, int, int, int, int, int) { return ::raise(SIGKILL); }
int die_of_nine(int, int, int, int, int, int, int, int, int) { return ::raise(SIGKILL); }
std::vector<int> die_into() { return {::raise(SIGKILL)}; }
std::vector<int> die_into_of(int, int, int) { return {::raise(SIGKILL)}; }
int sum(int a, Picky b, Picky c) { return a + b.value + c.value; }

std::string line(unsigned number) { return ", submitted at where.cpp:" + std::to_string(number) + ")"; }
constexpr unsigned here(std::source_location where = std::source_location::current()) { return where.line(); }

template <class Future>
std::string message_of(Future&& future) {
  return std::forward<Future>(future).outcome().failure().message();
}

}  // namespace

TEST_CASE("a failure says where its call was submitted") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 1});
  const auto check = [&](const std::string& message, unsigned number) {
    CHECK_MESSAGE(message.find(line(number)) != std::string::npos, message);
  };
  check(message_of(pool.submit(&die)), here());
  check(message_of(pool.submit(&die_of, 1, 2, 3, 4)), here());
  check(message_of(pool.submit({.timeout = 20s}, &die_of_many, 1, 2, 3, 4, 5)), here());
  check(message_of(pool.submit([] { return ::raise(SIGKILL); })), here());
  const brood::TaskOptions kept{.retries = 1};
  const unsigned kept_line = here() - 1;
  check(message_of(pool.submit(kept, &die)), kept_line);
  check(message_of(pool.submit(&die_of_many, 1, 2, 3, 4, 5)), here());
  check(message_of(pool.submit(&die_of_eight, 1, 2, 3, 4, 5, 6, 7, 8)), here());
  std::vector<int> place(1);
  check(message_of(pool.submit_into(place, &die_into)), here());
  check(message_of(pool.submit_into(place, &die_into_of, 1, 2, 3)), here());
  check(message_of(brood::async<Server>(&die)), here());
  check(message_of(brood::async<Server>(&die_of, 1, 2, 3, 4)), here());
  const std::string many = message_of(pool.submit(&die_of_nine, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  CHECK_MESSAGE(many.find("submitted at") == std::string::npos, many);
  const std::string none = message_of(pool.submit({.where = {}}, &die));
  CHECK_MESSAGE(none.find("submitted at") == std::string::npos, none);
  CHECK(none.find("task ") == 0);
}

TEST_CASE("a failure of an item says where its map was called") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 1});
  const auto fatal = [](int n) { return n == 1 ? ::raise(SIGKILL) : n; };
  const std::vector<int> items{0, 1};
  const auto plain = pool.try_map(fatal, items);
  const unsigned plain_line = here() - 1;
  const std::string text = plain[1].failure().message();
  CHECK_MESSAGE(text.find(line(plain_line) + ", item 1") != std::string::npos, text);
  const auto with_options = pool.try_map(fatal, items, {.chunk_size = 1});
  const unsigned options_line = here() - 1;
  const std::string other = with_options[1].failure().message();
  CHECK_MESSAGE(other.find(line(options_line)) != std::string::npos, other);
  auto streamed = pool.try_stream(fatal, items);
  const unsigned stream_line = here() - 1;
  auto at = streamed.begin();
  ++at;
  const std::string third = at->failure().message();
  CHECK_MESSAGE(third.find(line(stream_line) + ", item 1") != std::string::npos, third);
}

TEST_CASE("an argument that can't be written is named, with the callable") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 1});
  CHECK(pool.submit(&sum, 1, Picky{2}, Picky{3}).get() == 6);
  const auto check = [&](auto&& call, const std::string& wanted) {
    try {
      call();
      FAIL("nothing was thrown");
    } catch (const brood::SerializationError& error) {
      const std::string text = error.what();
      CHECK_MESSAGE(text.rfind(wanted, 0) == 0, text);
      CHECK_MESSAGE(text.find("sum(int, Picky, Picky): a negative Picky") != std::string::npos, text);
    }
  };
  check([&] { pool.submit(&sum, 1, Picky{-2}, Picky{3}); }, "argument 2 of ");
  check([&] { pool.submit(&sum, 1, Picky{2}, Picky{-3}); }, "argument 3 of ");
  CHECK(pool.stats().queued == 0);
}
