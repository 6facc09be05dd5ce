// SPDX-License-Identifier: MIT
// A value that can't be encoded or decoded fails its own task and nothing else.
#include <signal.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace app {

enum class Fault { none, encode, decode, decode_throws_int, decode_kills, decode_short, decode_long };

/// A value whose serializer fails where it is told to.
struct Faulty {
  Fault fault = Fault::none;
  int value = 0;
};

}  // namespace app

template <>
struct brood::Serializer<app::Faulty> {
  static void write(brood::Writer& writer, const app::Faulty& faulty) {
    if (faulty.fault == app::Fault::encode) throw std::runtime_error("can't be encoded");
    writer.value(faulty.fault);
    writer.value(faulty.value);
    if (faulty.fault == app::Fault::decode_short) writer.value(faulty.value);
  }
  static app::Faulty read(brood::Reader& reader) {
    app::Faulty faulty;
    faulty.fault = reader.value<app::Fault>();
    faulty.value = reader.value<int>();
    switch (faulty.fault) {
      case app::Fault::decode: brood::Reader::fail("the value is refused");
      case app::Fault::decode_throws_int: throw 42;
      case app::Fault::decode_kills: ::raise(SIGKILL); break;
      case app::Fault::decode_long: reader.value<std::vector<std::uint64_t>>(); break;
      default: break;
    }
    return faulty;
  }
};

namespace {

int take(const app::Faulty& faulty) { return faulty.value; }
app::Faulty give(app::Fault fault) { return {fault, 7}; }

template <class Policy>
void still_works(brood::Pool<Policy>& pool) {
  CHECK(pool.submit(&take, app::Faulty{app::Fault::none, 5}).get() == 5);
}

}  // namespace

TEST_CASE_TEMPLATE("an argument that can't be encoded is thrown by submit", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&take, app::Faulty{app::Fault::encode})), "can't be encoded",
                       std::runtime_error);
  still_works(pool);
  CHECK(pool.stats().failed == 0);
  CHECK(pool.stats().queued == 0);
}

TEST_CASE_TEMPLATE("an argument that can't be decoded fails its task", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const app::Fault fault : {app::Fault::decode, app::Fault::decode_short, app::Fault::decode_long}) {
    CAPTURE(static_cast<int>(fault));
    auto future = pool.submit(&take, app::Faulty{fault, 1});
    const auto outcome = future.outcome();
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::serialization);
    CHECK_THROWS_AS(static_cast<void>(future.get()), brood::SerializationError);
    const std::string text = outcome.failure().message();
    CHECK_MESSAGE(text.find("task " + std::to_string(future.id())) != std::string::npos, text);
    still_works(pool);
  }
  auto refused = pool.submit(&take, app::Faulty{app::Fault::decode});
  CHECK_THROWS_WITH_AS(static_cast<void>(refused.get()), doctest::Contains("the value is refused"), brood::SerializationError);
  CHECK_THROWS_AS(static_cast<void>(pool.submit(&take, app::Faulty{app::Fault::decode_throws_int}).get()), brood::TaskError);
  still_works(pool);
}

TEST_CASE_TEMPLATE("an argument whose decoding kills the worker fails its task", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit(&take, app::Faulty{app::Fault::decode_kills});
  CHECK(future.outcome().failure().kind() == brood::FailureKind::worker_died);
  still_works(pool);
}

TEST_CASE_TEMPLATE("a result that can't be encoded fails its task", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit(&give, app::Fault::encode);
  CHECK_THROWS_WITH_AS(static_cast<void>(future.get()), "can't be encoded", std::runtime_error);
  still_works(pool);
}

TEST_CASE_TEMPLATE("a result that can't be decoded fails its task", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  for (const app::Fault fault : {app::Fault::decode, app::Fault::decode_short, app::Fault::decode_long}) {
    CAPTURE(static_cast<int>(fault));
    auto future = pool.submit(&give, fault);
    const auto outcome = future.outcome();
    REQUIRE_FALSE(outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::serialization);
    CHECK(outcome.failure().task() == future.id());
    CHECK_MESSAGE(outcome.failure().message().find("app::Faulty") != std::string::npos, outcome.failure().message());
    CHECK_THROWS_AS(static_cast<void>(future.get()), brood::SerializationError);
    still_works(pool);
  }
}

TEST_CASE_TEMPLATE("a result whose decoding throws what is no exception fails its task", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit(&give, app::Fault::decode_throws_int);
  bool has_value = true;
  CHECK_NOTHROW(has_value = future.outcome().has_value());  // outcome() throws nothing
  CHECK_FALSE(has_value);
  still_works(pool);
}

TEST_CASE_TEMPLATE("in map, items that can't be coded fail alone", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t chunk : {0U, 1U, 50U}) {
    CAPTURE(chunk);
    std::vector<app::Faulty> items(50, {app::Fault::none, 3});
    items[17].fault = app::Fault::decode;
    items[23].fault = app::Fault::decode_long;
    const auto taken = pool.try_map(&take, items, {.chunk_size = chunk});
    std::vector<app::Fault> faults(50, app::Fault::none);
    faults[11] = app::Fault::encode;
    faults[31] = app::Fault::decode;
    const auto given = pool.try_map(&give, faults, {.chunk_size = chunk});
    for (std::size_t n = 0; n < 50; ++n) {
      CAPTURE(n);
      REQUIRE(taken[n].has_value() == (n != 17 && n != 23));
      REQUIRE(given[n].has_value() == (n != 11 && n != 31));
    }
    CHECK(taken[17].failure().kind() == brood::FailureKind::serialization);
    CHECK(given[31].failure().kind() == brood::FailureKind::serialization);
    items[40].fault = app::Fault::encode;
    items[0].fault = items[49].fault = app::Fault::encode;
    const auto before = pool.stats();
    const auto sent = pool.try_map(&take, items, {.chunk_size = chunk});
    REQUIRE(sent.size() == 50);
    for (std::size_t n = 0; n < 50; ++n) {
      CAPTURE(n);
      REQUIRE(sent[n].has_value() == (n != 0 && n != 17 && n != 23 && n != 40 && n != 49));
    }
    CHECK(pool.stats().failed - before.failed == 5);
    CHECK(pool.stats().done - before.done == 45);
    CHECK(sent[40].failure().kind() == brood::FailureKind::serialization);
    CHECK_MESSAGE(sent[40].failure().message().find("item 40, can't be sent to a worker: can't be encoded") != std::string::npos,
                  sent[40].failure().message());
    CHECK_THROWS_WITH_AS(pool.map(&take, items, {.chunk_size = chunk}), "can't be encoded", std::runtime_error);
    still_works(pool);
  }
}

TEST_CASE_TEMPLATE("in map, a result whose decoding throws what is no exception fails alone", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  std::vector<app::Fault> faults(20, app::Fault::none);
  faults[11] = app::Fault::decode_throws_int;
  std::vector<brood::Outcome<app::Faulty>> given;
  CHECK_NOTHROW(given = pool.try_map(&give, faults));
  REQUIRE(given.size() == 20);
  for (std::size_t n = 0; n < 20; ++n) CHECK(given[n].has_value() == (n != 11));
  still_works(pool);
}

TEST_CASE_TEMPLATE("arguments beyond max_message_bytes are thrown by submit", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .max_message_bytes = 1024});
  const auto length = [](const std::string& text) { return text.size(); };
  CHECK(pool.submit(length, std::string(500, 'x')).get() == 500);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(length, std::string(2000, 'x'))), doctest::Contains("max_message_bytes"),
                       brood::MessageTooLarge);
  CHECK(pool.submit(length, std::string(500, 'x')).get() == 500);
  CHECK_THROWS_AS(pool.map(length, std::vector{std::string(10, 'x'), std::string(2000, 'x')}), brood::MessageTooLarge);
  CHECK(pool.map(length, std::vector<std::string>(100, std::string(500, 'x'))) == std::vector<std::size_t>(100, 500));
  const auto outcomes = pool.try_map(length, std::vector{std::string(10, 'x'), std::string(2000, 'x'), std::string("y")});
  CHECK(outcomes[0].value() == 10);
  CHECK(outcomes[1].failure().kind() == brood::FailureKind::too_large);
  CHECK(outcomes[2].value() == 1);
}

TEST_CASE_TEMPLATE("a result beyond max_message_bytes fails its task", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .max_message_bytes = 1024});
  const auto text = [](std::size_t size) { return std::string(size, 'x'); };
  CHECK(pool.submit(text, 500).get().size() == 500);
  for (const std::size_t size : {std::size_t{1025}, std::size_t{5000}, std::size_t{5} << 20}) {
    auto future = pool.submit(text, size);
    CHECK(future.outcome().failure().kind() == brood::FailureKind::too_large);
    CHECK_THROWS_WITH_AS(static_cast<void>(future.get()), doctest::Contains("max_message_bytes"), brood::MessageTooLarge);
    CHECK(pool.submit(text, 500).get().size() == 500);
  }
  const auto outcomes = pool.try_map(text, std::vector<std::size_t>{10, 5000, 20, std::size_t{5} << 20, 30});
  CHECK(outcomes[0].value().size() == 10);
  CHECK(outcomes[1].failure().kind() == brood::FailureKind::too_large);
  CHECK(outcomes[2].value().size() == 20);
  CHECK(outcomes[3].failure().kind() == brood::FailureKind::too_large);
  CHECK(outcomes[4].value().size() == 30);
  CHECK(pool.stats().workers_died == 0);
}
