// SPDX-License-Identifier: MIT
// Memory that host and workers share: nothing is copied, a worker that may only read can't write, and nothing is left behind.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

using brood::SharedArray;

namespace {

double sum(const SharedArray<const double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

void fill(SharedArray<int> part, int value) {
  for (int& each : part) each = value;
}

void square(SharedArray<double> part) {
  for (double& each : part) each *= each;
}

void write_through_const(const SharedArray<const double>& values) { const_cast<double&>(values[0]) = 13; }

/// Whether this process could make a writable mapping of what it has mapped to read.
bool can_be_made_writable(const SharedArray<const double>& values) {
  return ::mprotect(const_cast<double*>(values.data()), 4096, PROT_READ | PROT_WRITE) == 0;
}

void write_and_die(SharedArray<int> values) {
  for (std::size_t at = 0; at < values.size() / 2; ++at) values[at] = 7;
  ::raise(SIGKILL);
}

void write_and_wait(SharedArray<int> values, const std::string& gate) {
  values[0] = 1;
  support::wait_for_gate(gate, 0);
  values[1] = 2;
}

struct Job {
  std::string name;
  std::vector<SharedArray<const int>> inputs;
  std::optional<SharedArray<int>> output;
};

std::string run(const Job& job, const std::tuple<int, SharedArray<const int>>& more) {
  for (const auto& input : job.inputs) {
    for (std::size_t at = 0; at < input.size(); ++at) (*job.output)[at] += input[at];
  }
  return job.name + std::to_string(std::get<0>(more) + std::get<1>(more)[0]);
}

struct Holder {
  SharedArray<int> array;
};
Holder make_in_worker() { return {SharedArray<int>(3)}; }
Holder give_back(SharedArray<int> array) { return {std::move(array)}; }

/// How many descriptors of this process are arrays.
std::size_t array_descriptors() {
  std::size_t count = 0;
  for (const std::string& each : support::own_descriptors()) {
    if (each.find("/memfd:brood-array") != std::string::npos) ++count;
  }
  return count;
}

/// The descriptors, and the mappings of arrays, of the calling process, as numbers.
std::pair<std::size_t, std::size_t> resources() {
  std::istringstream maps(support::read_text("/proc/self/maps"));
  std::size_t mappings = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:brood-array") != std::string::npos) ++mappings;
  }
  return {support::own_descriptors().size(), mappings};
}

SharedArray<int> kept;
void keep_it(SharedArray<int> array) { kept = std::move(array); }
int use_kept(int value) { return kept[0] = value; }
void drop_kept() { kept = SharedArray<int>(); }

/// A Serializer that writes what it has to a buffer of its own.
struct Sealed {
  SharedArray<int> array;
};

}  // namespace

template <>
struct brood::Serializer<Sealed> {
  static void write(brood::Writer& writer, const Sealed& sealed) {
    brood::Writer own;
    own.value(sealed.array);
    writer.text({reinterpret_cast<const char*>(own.view().data()), own.size()});
  }
  static Sealed read(brood::Reader& reader) {
    brood::Reader own(std::as_bytes(std::span(reader.text())));
    return {own.value<SharedArray<int>>()};
  }
};

TEST_CASE("SharedArray is a range of its own memory") {
  const support::Leftovers audit;
  SharedArray<int> a(5);
  CHECK(a.size() == 5);
  CHECK(a.size_bytes() == 20);
  CHECK(std::accumulate(a.begin(), a.end(), 0) == 0);
  std::iota(a.begin(), a.end(), 1);
  CHECK(a.front() == 1);
  CHECK(a.back() == 5);
  CHECK(a.at(2) == 3);
  CHECK(*a.rbegin() == 5);
  CHECK_THROWS_AS(static_cast<void>(a.at(5)), std::out_of_range);
  CHECK(a.span().size() == 5);
  const std::span<const int> view = a;
  CHECK(view.data() == a.data());

  const SharedArray<int> copy = a;  // the same memory
  copy[0] = 10;
  CHECK(a[0] == 10);
  SharedArray<int> moved = std::move(a);
  CHECK(moved.data() == copy.data());
  CHECK(a.empty());
  CHECK(a.data() == nullptr);
  const SharedArray<const int> read_only = moved;
  CHECK(read_only.data() == moved.data());
  moved = SharedArray<int>();
  CHECK(read_only[0] == 10);

  const std::vector<short> data{1, 2, 3};
  SharedArray from_vector(data);
  static_assert(std::is_same_v<decltype(from_vector), SharedArray<short>>);
  CHECK(std::equal(data.begin(), data.end(), from_vector.begin(), from_vector.end()));
  from_vector[0] = 4;
  CHECK(data[0] == 1);
  SharedArray same(from_vector);
  static_assert(std::is_same_v<decltype(same), SharedArray<short>>);
  CHECK(same.data() == from_vector.data());

  const SharedArray<int> copied(read_only.span());
  CHECK(copied.data() != read_only.data());
  CHECK(copied[0] == 10);

  CHECK(SharedArray<int>(0).empty());
  CHECK(SharedArray<int>(std::span<const int>()).data() == nullptr);
  CHECK_FALSE(SharedArray<int>().frozen());
}

TEST_CASE("SharedArray::subspan and split are parts of the same memory") {
  const support::Leftovers audit;
  SharedArray<int> a(10);
  std::iota(a.begin(), a.end(), 0);
  SharedArray<int> part = a.subspan(3, 4);
  CHECK(part.data() == a.data() + 3);
  CHECK(part.size() == 4);
  CHECK(part.subspan(2).data() == a.data() + 5);
  CHECK(part.subspan(2).size() == 2);
  CHECK(a.subspan(10).empty());
  CHECK_THROWS_AS(static_cast<void>(part.subspan(5)), std::out_of_range);
  CHECK_THROWS_AS(static_cast<void>(part.subspan(2, 3)), std::out_of_range);
  CHECK_THROWS_AS(static_cast<void>(part.subspan(2, SIZE_MAX - 1)), std::out_of_range);

  for (const std::size_t parts : {1U, 3U, 10U, 17U}) {
    CAPTURE(parts);
    const auto all = a.split(parts);
    CHECK(all.size() == std::min<std::size_t>(parts, 10));
    int* next = a.data();
    for (const auto& each : all) {
      CHECK(each.data() == next);
      CHECK(each.size() >= 10 / all.size());
      CHECK(each.size() <= 10 / all.size() + 1);
      next += each.size();
    }
    CHECK(next == a.data() + 10);
  }
  CHECK(a.split(0).empty());
  CHECK(SharedArray<int>().split(3).empty());

  a = SharedArray<int>();
  CHECK(part[0] == 3);  // a part holds the memory
}

TEST_CASE("SharedArray says why it can't be made") {
  const support::Leftovers audit;
  CHECK_THROWS_WITH_AS(SharedArray<double>(SIZE_MAX / 2), doctest::Contains("no process has so much memory"),
                       brood::SharedMemoryError);
  const std::size_t beyond = std::size_t{1} << 57;  // no address space is so large
  try {
    SharedArray<std::byte> array(beyond);
    FAIL("it was made");
  } catch (const brood::SharedMemoryError& error) {
    CHECK(error.error() != 0);
    CHECK(std::string(error.what()).find(std::to_string(beyond)) != std::string::npos);
  }
}

TEST_CASE_TEMPLATE("an argument is the host's memory, to be read", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  SharedArray<double> a(std::size_t{1} << 20);
  a.back() = 1.5;
  CHECK(pool.submit(&sum, a).get() == 1.5);
  a.front() = 2;  // the worker that runs already sees it
  CHECK(pool.submit(&sum, a).get() == 3.5);
  CHECK(pool.submit(&sum, a.subspan(1)).get() == 1.5);
  CHECK(pool.submit(&sum, SharedArray<const double>()).get() == 0);
  const SharedArray<const double> view = a;
  CHECK(pool.submit(&sum, view).get() == 3.5);
  CHECK(pool.submit([](auto array) { return array[0]; }, view).get() == 2);
}

TEST_CASE_TEMPLATE("a task writes into the host's memory", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  SharedArray<int> a(1000);
  pool.submit(&fill, a, 7).get();
  CHECK(std::all_of(a.begin(), a.end(), [](int each) { return each == 7; }));
  pool.submit(&fill, a.subspan(999), 8).get();
  CHECK(a[998] == 7);
  CHECK(a[999] == 8);
}

TEST_CASE_TEMPLATE("map over slices writes outputs in place", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  SharedArray<double> values(10'007);
  std::iota(values.begin(), values.end(), 0.0);
  pool.map(&square, values.split(300));
  bool right = true;
  for (std::size_t at = 0; at < values.size(); ++at) right = right && values[at] == static_cast<double>(at * at);
  CHECK(right);
  std::vector<std::pair<SharedArray<int>, int>> work;
  SharedArray<int> numbers(60);
  for (auto& part : numbers.split(20)) work.emplace_back(std::move(part), static_cast<int>(work.size()));
  pool.map(&fill, work, {.chunk_size = 7});
  for (int at = 0; at < 60; ++at) CHECK(numbers[static_cast<std::size_t>(at)] == at / 3);
}

TEST_CASE_TEMPLATE("it travels inside of structs and containers", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  SharedArray<int> a(std::vector<int>{1, 2, 3});
  SharedArray<int> b(std::vector<int>{10, 20, 30});
  SharedArray<int> out(3);
  const Job job{"job", {a, b, a.subspan(1)}, out};
  CHECK(pool.submit(&run, job, std::tuple<int, SharedArray<const int>>(5, b)).get() == "job15");
  CHECK(std::vector<int>(out.begin(), out.end()) == std::vector<int>{13, 25, 33});

  std::vector<SharedArray<int>> parts = SharedArray<int>(5000).split(5000);  // one mapping, one descriptor
  CHECK(pool.submit([](const std::vector<SharedArray<int>>& all) {
          const auto [descriptors, mappings] = resources();
          return descriptors < 1000 && mappings < 10 && all[4999].data() == all[0].data() + 4999;
        }, parts).get());
}

TEST_CASE_TEMPLATE("what is passed to be read can't be written to", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  SharedArray<double> a(1000);
  a[0] = 1;
  auto sinner = pool.submit(&write_through_const, a);
  const auto outcome = sinner.outcome();
  REQUIRE_FALSE(outcome);
  CHECK(outcome.failure().kind() == brood::FailureKind::worker_died);
  CHECK_THROWS_AS(static_cast<void>(sinner.get()), brood::WorkerDied);
  CHECK(a[0] == 1);
  CHECK_FALSE(pool.submit(&can_be_made_writable, a).get());
  CHECK(pool.submit(&sum, a).get() == 1);
  CHECK(pool.stats().failed == 1);
}

TEST_CASE_TEMPLATE("a frozen array can't be changed by anybody", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});  // before the array: a copy of the host would have its mapping
  SharedArray<double> a(1000);
  a[5] = 3;
  pool.submit(&square, a).get();  // a mapping in a worker that is gone when the task is done
  const double* const at = a.data();
  const SharedArray<const double> frozen = std::move(a).freeze();
  CHECK(a.empty());
  CHECK(frozen.frozen());
  CHECK(frozen.data() == at);
  CHECK(frozen[5] == 9);
  CHECK(pool.submit(&sum, frozen).get() == 9);
  CHECK(pool.submit([](SharedArray<const double> array) { return array.frozen(); }, frozen).get());
  CHECK_FALSE(can_be_made_writable(frozen));
  if constexpr (!std::is_same_v<Policy, brood::InlinePolicy>) {
    CHECK_THROWS_AS(pool.submit(&write_through_const, frozen).get(), brood::WorkerDied);
  }
  const SharedArray<const double> sealed(std::vector<double>{1, 2, 3});  // made so
  CHECK(sealed.frozen());
  CHECK_FALSE(can_be_made_writable(sealed));
  CHECK(pool.submit(&sum, sealed).get() == 6);
}

TEST_CASE_TEMPLATE("freeze refuses while somebody may write", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 2});
  SharedArray<int> a(10);
  a[3] = 4;
  int* const data = a.data();
  {
    const SharedArray<const int> part = a.subspan(2, 3);
    CHECK_THROWS_WITH_AS(static_cast<void>(std::move(a).freeze()), doctest::Contains("other SharedArrays"),
                         brood::SharedMemoryError);
  }
  auto running = pool.submit(&write_and_wait, a, gate.path());
  CHECK_THROWS_WITH_AS(static_cast<void>(std::move(a).freeze()), doctest::Contains("not resolved"), brood::SharedMemoryError);
  gate.open();
  running.get();
  // a task that keeps it
  brood::Pool<Policy> keeper({.workers = 1});
  if constexpr (!std::is_same_v<Policy, brood::ForkPolicy>) {
    keeper.submit(&keep_it, a).get();
    CHECK_THROWS_WITH_AS(static_cast<void>(std::move(a).freeze()), doctest::Contains("another process"),
                         brood::SharedMemoryError);
    CHECK(a.data() == data);  // nothing has changed
    a[4] = 9;
    CHECK(keeper.submit(&use_kept, 5).get() == 5);
    keeper.submit(&drop_kept).get();
    CHECK(std::move(a).freeze()[0] == 5);
  } else {  // the pool's server is a copy of the host, and has it
    CHECK_THROWS_WITH_AS(static_cast<void>(std::move(a).freeze()), doctest::Contains("ForkPolicy"), brood::SharedMemoryError);
    CHECK(a.data() == data);
    a[4] = 9;
    CHECK(a[3] == 4);
  }
}

TEST_CASE_TEMPLATE("a worker that dies half-way leaves what it has written", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  SharedArray<int> a(1000);
  CHECK_THROWS_AS(pool.submit(&write_and_die, a).get(), brood::WorkerDied);
  CHECK(a[499] == 7);
  CHECK(a[500] == 0);
  a[999] = 1;
  pool.submit(&fill, a, 3).get();
  CHECK(a[0] == 3);
  CHECK(a[999] == 3);
  // with retries, its next try has the array, too
  CHECK_THROWS_AS(pool.submit({.retries = 2}, &write_and_die, a).get(), brood::WorkerDied);
  CHECK(a[0] == 7);
}

TEST_CASE_TEMPLATE("map: an item whose worker dies is tried again with its slice", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  SharedArray<int> a(64);
  const auto die_once = [](SharedArray<int> part) {
    if (part[0]++ == 0 && part.size() == 4) ::raise(SIGKILL);
  };
  {
    const auto outcomes = pool.try_map(die_once, a.split(16), {.chunk_size = 16});  // the range is gone when they are done
    for (const auto& each : outcomes) CHECK(each.failure().kind() == brood::FailureKind::worker_died);
  }
  pool.map(die_once, a.split(16), {.chunk_size = 16, .retries = 1});
  for (const auto& part : a.split(16)) CHECK(part[0] == 2);
  std::fill(a.begin(), a.end(), 0);
  pool.map(die_once, a.split(16), {.chunk_size = 16, .retries = 1});
  for (const auto& part : a.split(16)) CHECK(part[0] == 2);
}

TEST_CASE_TEMPLATE("cancel, deadline and kill while it is in use", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  SharedArray<int> a(1000);
  {
    brood::Pool<Policy> pool({.workers = 1});
    auto cancelled = pool.submit(&write_and_wait, a, gate.path());
    REQUIRE(support::eventually([&] { return std::atomic_ref(a[0]).load() == 1; }));
    CHECK(cancelled.cancel());
    CHECK_THROWS_AS(cancelled.get(), brood::TaskCancelled);
    auto late = pool.submit({.timeout = std::chrono::milliseconds(50)}, &write_and_wait, a, gate.path());
    CHECK_THROWS_AS(late.get(), brood::TaskTimeout);
    pool.submit(&fill, a.subspan(0, 1), 0).get();
    auto killed = pool.submit(&write_and_wait, a, gate.path());
    auto queued = pool.submit(&write_and_wait, a, gate.path());
    REQUIRE(support::eventually([&] { return std::atomic_ref(a[0]).load() == 1; }));
    pool.kill();
    CHECK_THROWS_AS(killed.get(), brood::TaskCancelled);
    CHECK_THROWS_AS(queued.get(), brood::TaskCancelled);
  }
  CHECK(a[1] == 0);
  CHECK(std::move(a).freeze()[0] == 1);  // nobody is left who has it
}

TEST_CASE_TEMPLATE("a task holds on to what the host has dropped", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  auto busy = pool.submit(&support::wait_for_gate, gate.path(), 1);
  std::vector<brood::Future<double>> sums;
  for (int at = 0; at < 20; ++at) {
    SharedArray<double> a(1000);
    a[7] = at;
    sums.push_back(pool.submit(&sum, std::move(a)));
  }
  CHECK(array_descriptors() == 20);
  gate.open();
  for (int at = 0; at < 20; ++at) CHECK(sums[static_cast<std::size_t>(at)].get() == at);
  busy.get();
  CHECK(array_descriptors() == 0);
}

TEST_CASE_TEMPLATE("a worker is after many tasks as it was before", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  SharedArray<int> a(100'000);
  const auto look = [](SharedArray<int>) {};
  pool.submit(look, a).get();
  const auto before = pool.submit(&resources).get();
  for (int at = 0; at < 1000; ++at) {
    switch (at % 4) {
      case 0: pool.submit(look, a).get(); break;
      case 1: pool.submit(look, SharedArray<int>(10)).get(); break;
      case 2: static_cast<void>(pool.submit(&sum, SharedArray<double>(1)).get()); break;
      default:
        CHECK_THROWS_AS(pool.submit([](SharedArray<const int>) { throw std::runtime_error("no"); }, a).get(), std::runtime_error);
    }
  }
  pool.map(look, a.split(1000));
  // each item has an array of its own: they are not held to the end of a chunk
  std::vector<SharedArray<int>> many;
  for (int at = 0; at < 100; ++at) many.emplace_back(std::size_t{1});
  const auto count_mappings = [](const SharedArray<int>&) { return resources().second; };
  for (const std::size_t mappings : pool.map(count_mappings, many, {.chunk_size = 50})) CHECK(mappings < before.second + 10);
  many.clear();
  CHECK(pool.submit(&resources).get() == before);
  CHECK(array_descriptors() == 1);
  CHECK(pool.stats().workers_started == 1);
}

TEST_CASE_TEMPLATE("a task may keep it beyond its end", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  SharedArray<int> a(10);
  pool.submit(&keep_it, a).get();
  CHECK(pool.submit(&use_kept, 5).get() == 5);
  CHECK(a[0] == 5);
  a = SharedArray<int>();
  CHECK(pool.submit(&use_kept, 6).get() == 6);
}

TEST_CASE_TEMPLATE("a result can't hold one", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&make_in_worker).get()), doctest::Contains("not (part of) its result"),
                       brood::SerializationError);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&give_back, SharedArray<int>(2)).get()),
                       doctest::Contains("let the task write into it"), brood::SerializationError);
  CHECK(pool.submit([] { return std::optional<SharedArray<int>>(SharedArray<int>()); }).get()->empty());  // it has no memory
  CHECK(pool.submit(&sum, SharedArray<double>(2)).get() == 0);
}

TEST_CASE_TEMPLATE("it can't be written to a buffer of a Serializer's own", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto first = [](const Sealed& sealed) { return sealed.array[0]; };
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(first, Sealed{SharedArray<int>(1)})),
                       doctest::Contains("nobody would hold on to its memory"), brood::SerializationError);
  brood::Writer writer;
  CHECK_THROWS_AS(writer.value(SharedArray<int>(1)), brood::SerializationError);
}

TEST_CASE_TEMPLATE("closures see captured arrays", Policy, brood::ForkPolicy, brood::InlinePolicy) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  SharedArray<int> a(100);
  const SharedArray<const int> input(std::vector<int>{4, 5, 6});
  pool.submit([&a, input] { a[0] = input[2]; }).get();
  CHECK(a[0] == 6);
  pool.submit([shift = 2](SharedArray<int> array, const SharedArray<const int>& in) { array[1] = in[0] + shift; },
              SharedArray<int>(a), SharedArray<const int>(input)).get();
  CHECK(a[1] == 6);
  pool.map([&a](std::size_t at) { a[at] = static_cast<int>(at); }, std::vector<std::size_t>{5, 6, 7});
  CHECK(a[7] == 7);
  pool.map([shift = 1](SharedArray<int> part) { part[0] = shift; }, a.split(10), {.chunk_size = 3});
  CHECK(a[90] == 1);
  CHECK(pool.submit([&a](int value) {  // an array of the snapshot's own that ends in it closes nothing
          SharedArray<int> gone = std::move(a);
          gone = SharedArray<int>();
          SharedArray<int> own(3);
          own[1] = value;
          return own[1];
        }, 3).get() == 3);
  if constexpr (std::is_same_v<Policy, brood::ForkPolicy>) CHECK(a[7] == 7);
}

namespace {

int nested_sum(SharedArray<const int> outer, SharedArray<int> result) {
  brood::Pool<brood::SpawnPolicy> pool({.workers = 2});
  SharedArray<int> own(2);
  own[1] = 100;
  const auto add = [](const SharedArray<const int>& a, const SharedArray<const int>& b, SharedArray<int> to) {
    to[0] = a[0] + b[1];
    return to[0];
  };
  return pool.submit(add, outer.subspan(1), own, result).get();
}

}  // namespace

TEST_CASE_TEMPLATE("a pool in a task passes on what the task has", Policy, brood::SpawnPolicy, support::ForkServer) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  SharedArray<int> a(std::vector<int>{1, 2});
  SharedArray<int> result(1);
  CHECK(pool.submit(&nested_sum, a, result).get() == 102);
  CHECK(result[0] == 102);
}

namespace {

/// A Preload that is given shared memory, and some of its own.
struct Table {
  explicit Table(SharedArray<const int> input) : values(std::move(input)), own(3) { own[2] = values[1]; }
  SharedArray<const int> values;
  SharedArray<int> own;
};

}  // namespace

TEST_CASE("a Preload may be given one, and make some that its workers share") {
  const support::Leftovers audit;
  using Policy = brood::ForkServerPolicy<Table>;
  Policy policy{brood::preload_args<Table>(SharedArray<const int>(std::vector<int>{7, 8}))};
  policy.strict = true;  // its descriptors are the library's
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 1}, std::move(policy));
  CHECK(pool.submit([] { return brood::preloaded<Table>().values[0] + brood::preloaded<Table>().own[2]; }).get() == 15);
  pool.submit([] { brood::preloaded<Table>().own[0] = 4; }).get();
  CHECK(pool.submit([] { return brood::preloaded<Table>().own[0]; }).get() == 4);
  pool.map([](int) {}, std::vector<int>(5));
  // a new server is given it again
  ::kill(pool.stats().server_pid, SIGKILL);
  CHECK(support::eventually([&] {
    auto future = pool.submit([] { return brood::preloaded<Table>().values[0]; });
    const auto outcome = future.outcome();
    return outcome && outcome.value() == 7;
  }));
}

TEST_CASE("a host that may not be looked into is told what to do") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    if (::setgid(12345) != 0 || ::setuid(12345) != 0) return 77;  // root may look into everything
    brood::Pool<brood::ForkPolicy> pool({.workers = 1});
    ::prctl(PR_SET_DUMPABLE, 0);
    try {
      static_cast<void>(pool.submit(&sum, SharedArray<double>(2)).get());
    } catch (const brood::SerializationError& error) {
      std::puts(error.what());
    }
    ::prctl(PR_SET_DUMPABLE, 1);
    return pool.submit(&sum, SharedArray<double>(2)).get() == 0 ? 0 : 1;
  });
  if (ran.status.code() == 77) return;
  CHECK_MESSAGE(ran.status.code() == 0, ran.output);
  CHECK_MESSAGE(ran.output.find("PR_SET_DUMPABLE") != std::string::npos, ran.output);
}

TEST_CASE_TEMPLATE("a descriptor that was closed behind its back is noticed", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto find = [] {
    for (const int fd : support::numbers_in("/proc/self/fd")) {
      if (support::link_target("/proc/self/fd/" + std::to_string(fd)).starts_with("/memfd:brood-array")) return fd;
    }
    return -1;
  };
  SharedArray<double> a(1000);
  a[0] = 4;
  const int fd = find();
  REQUIRE(fd >= 0);
  const int spare = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  const int other = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  REQUIRE(::dup3(other, fd, O_CLOEXEC) == fd);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.submit(&sum, a).get()), doctest::Contains("not there any more"),
                       brood::SerializationError);
  REQUIRE(::dup3(spare, fd, O_CLOEXEC) == fd);
  ::close(spare);
  ::close(other);
  CHECK(pool.submit(&sum, a).get() == 4);
}

TEST_CASE("what a worker sends never makes the host open anything") {
  const support::Leftovers audit;
  const SharedArray<int> a(4);
  brood::Writer writer = brood::Writer::of_call();
  writer.value(a);
  brood::Reader answer(writer.view());
  CHECK_THROWS_WITH_AS(static_cast<void>(answer.value<SharedArray<int>>()), doctest::Contains("comes from a worker"),
                       brood::SerializationError);
  for (std::size_t size = 0; size < writer.size(); ++size) {  // cut off
    brood::Reader cut = brood::Reader::of_call(writer.view().first(size));
    CHECK_THROWS_AS(static_cast<void>(cut.value<SharedArray<int>>()), brood::SerializationError);
  }
  std::vector<std::byte> bytes(writer.view().begin(), writer.view().end());
  const std::uint64_t count = 5;
  std::memcpy(bytes.data(), &count, sizeof count);
  brood::Reader beyond = brood::Reader::of_call(bytes);
  CHECK_THROWS_WITH_AS(static_cast<void>(beyond.value<SharedArray<int>>()), doctest::Contains("beyond its memory"),
                       brood::SerializationError);
}
