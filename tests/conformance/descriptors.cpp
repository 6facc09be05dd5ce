// SPDX-License-Identifier: MIT
// Descriptors as arguments and results: of every kind, in both directions, under every policy. Who waits for the end of what it
// has passed sees it, and nothing stays open behind a task, however it ends.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

using brood::Fd;

namespace {

struct Ends {
  Fd first;
  Fd second;
};

Ends make_pipe() {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

Ends make_sockets(int type) {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

Fd make_memory(const std::string& text) {
  Fd memory(::memfd_create("brood-test", MFD_CLOEXEC));
  if (::pwrite(memory.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) memory.reset();
  return memory;
}

Fd make_file() {
  char path[] = "/tmp/brood_fd_XXXXXX";
  Fd file(::mkostemp(path, O_CLOEXEC));
  ::unlink(path);
  return file;
}

void put(const Fd& to, const std::string& text) {
  if (::write(to.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) ::_exit(41);
}

/// One read; empty at the end.
std::string get(const Fd& from) {
  char text[256];
  const ssize_t size = ::read(from.get(), text, sizeof text);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

std::string contents(const Fd& of) {
  char text[256];
  const ssize_t size = ::pread(of.get(), text, sizeof text, 0);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

bool closed_on_exec(const Fd& fd) { return (::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0; }

struct Bundle {
  std::string name;
  std::vector<Fd> many;
  std::optional<Fd> maybe;
  std::map<int, Fd> by_number;
  Fd none;
};

// ---- tasks ---------------------------------------------------------------------------------------------------------

std::string use_each_kind(Fd file, Fd pipe, Fd socket, const Fd& memory) {
  const Fd* const all[] = {&file, &pipe, &socket, &memory};
  for (const Fd* const each : all) {
    if (!closed_on_exec(*each) || each->get() <= 2) return "not as it should be";
  }
  put(file, "file ");
  put(pipe, "pipe ");
  put(socket, "socket ");
  return get(socket) + contents(memory);
}

Bundle turn_round(Bundle bundle) {
  Bundle made;
  made.name = bundle.name + std::to_string(bundle.many.size());
  made.many.push_back(make_memory("made"));
  made.many.push_back(std::move(bundle.many[1]));
  made.maybe = std::move(bundle.by_number.at(7));
  if (!bundle.maybe && !bundle.none) made.by_number.emplace(1, make_memory("as sent"));
  return made;
}

Fd open_memory(const std::string& text) { return make_memory(text); }

struct Large {
  std::vector<double> numbers;
  Fd memory;
};
Large make_large(std::size_t count) { return {std::vector<double>(count, 1.5), make_memory("large")}; }

void write_and_return(const Fd& to) { put(to, "written"); }
void write_and_die(Fd to) {
  put(to, "last words");
  ::raise(SIGKILL);
}
void write_and_wait(Fd to, const std::string& gate) {
  put(to, "here");
  support::wait_for_gate(gate, 0);
}

int write_at_second_try(const Fd& to, const Fd& memory) {
  if (contents(memory).empty()) {
    (void)!::pwrite(memory.get(), "x", 1, 0);
    ::raise(SIGKILL);
  }
  put(to, "second");
  return 2;
}

std::size_t count_descriptors() { return support::own_descriptors().size(); }
std::size_t count_with(const Fd&, std::vector<Fd>) { return support::own_descriptors().size(); }
std::size_t length_of(const Fd& memory) { return contents(memory).size(); }
Fd open_of_length(std::size_t length) { return make_memory(std::string(length, 'x')); }

struct MaybeMemory {
  std::optional<Fd> memory;
};
/// It throws when it has opened something.
MaybeMemory open_if_even(std::size_t length) {
  MaybeMemory made;
  if (length % 2 == 0) made.memory = open_of_length(length);
  if (length % 5 == 0) throw std::runtime_error("five");
  return made;
}
Fd open_and_die_of_four(std::size_t length) {
  Fd made = open_of_length(length);
  if (length == 4) ::raise(SIGKILL);
  return made;
}
std::vector<Fd> open_many(std::size_t count) {
  std::vector<Fd> made;
  while (made.size() < count) made.push_back(make_memory("x"));
  return made;
}
Bundle open_as_bundle(std::size_t length) {
  Bundle made;
  made.many.push_back(open_of_length(length));
  return made;
}
Bundle join(Bundle one, Bundle other) {
  for (Fd& each : other.many) one.many.push_back(std::move(each));
  return one;
}

std::string number_from(const Fd& from, const Fd& to, int rounds) {
  for (int round = 0; round < rounds; ++round) put(to, get(from) + "+");
  return "done";
}

/// A Preload that would like to have a descriptor.
struct Holder {
  explicit Holder(Fd) {}
};

}  // namespace

TEST_CASE_TEMPLATE("descriptors of every kind travel, in both directions", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const Fd file = make_file();
  Ends pipe = make_pipe();
  Ends sockets = make_sockets(SOCK_STREAM);
  Fd memory = make_memory("memory");
  put(sockets.first, "answer ");
  CHECK(pool.submit(&use_each_kind, Fd::duplicate(file.get()), std::move(pipe.second), std::move(sockets.second), memory).get() ==
        "answer memory");
  CHECK(memory);  // it was lent
  CHECK(!pipe.second);
  CHECK(contents(file) == "file ");
  CHECK(get(pipe.first) == "pipe ");
  CHECK(get(pipe.first).empty());  // the end: nobody holds the other one any more
  CHECK(get(sockets.first) == "socket ");
  CHECK(get(sockets.first).empty());

  Bundle bundle;
  bundle.name = "bundle of ";
  bundle.many.push_back(make_memory("first"));
  bundle.many.push_back(make_memory("second"));
  bundle.by_number.emplace(7, make_memory("seven"));
  const Bundle back = pool.submit(&turn_round, std::move(bundle)).get();
  CHECK(bundle.many.empty());
  CHECK(back.name == "bundle of 2");
  REQUIRE(back.many.size() == 2);
  CHECK(contents(back.many[0]) == "made");
  CHECK(contents(back.many[1]) == "second");
  CHECK(closed_on_exec(back.many[1]));
  REQUIRE(back.maybe);
  CHECK(contents(*back.maybe) == "seven");
  CHECK(contents(back.by_number.at(1)) == "as sent");
  CHECK(!back.none);

  auto made = pool.submit(&open_memory, std::string("made there"));
  const Fd once = made.get();
  CHECK(contents(once) == "made there");
  CHECK(contents(made.get()) == "made there");  // another one

  const Large large = pool.submit(&make_large, std::size_t{100'000}).get();
  CHECK(large.numbers.size() == 100'000);
  CHECK(large.numbers.back() == 1.5);
  CHECK(contents(large.memory) == "large");
}

TEST_CASE_TEMPLATE("who waits for the end of what it has passed sees it, however the task ends", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  pool.submit(&count_descriptors).get();

  Ends pipe = make_pipe();
  auto written = pool.submit(&write_and_return, std::move(pipe.second));
  CHECK(get(pipe.first) == "written");
  CHECK(get(pipe.first).empty());  // also before the future is asked
  written.get();

  pipe = make_pipe();
  auto died = pool.submit(&write_and_die, std::move(pipe.second));
  CHECK(get(pipe.first) == "last words");
  CHECK(get(pipe.first).empty());
  CHECK_THROWS_AS(died.get(), brood::WorkerDied);

  const support::Gate gate;
  pipe = make_pipe();
  auto cancelled = pool.submit(&write_and_wait, std::move(pipe.second), gate.path());
  CHECK(get(pipe.first) == "here");
  CHECK(cancelled.cancel());
  CHECK(get(pipe.first).empty());

  // one that never starts
  const auto first = pool.submit(&support::wait_for_gate, gate.path(), 1);
  const auto second = pool.submit(&support::wait_for_gate, gate.path(), 2);
  REQUIRE(support::wait_until_running(pool, 2));
  pipe = make_pipe();
  auto queued = pool.submit(&write_and_return, std::move(pipe.second));
  CHECK(queued.cancel());
  CHECK(get(pipe.first).empty());
  gate.open();
  first.get();
  second.get();

  // a retry gets it once more
  pipe = make_pipe();
  const Fd memory = make_memory("");
  CHECK(pool.submit({.retries = 1}, &write_at_second_try, std::move(pipe.second), memory).get() == 2);
  CHECK(get(pipe.first) == "second");
  CHECK(get(pipe.first).empty());
}

TEST_CASE_TEMPLATE("nothing stays open in a worker, and items of map have descriptors", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const std::size_t before = pool.submit(&count_descriptors).get();
  std::size_t during = 0;
  for (int round = 0; round < 30; ++round) {
    std::vector<Fd> some;
    for (int at = 0; at < 10; ++at) some.push_back(make_memory("x"));
    during = pool.submit(&count_with, make_memory("y"), std::move(some)).get();
    static_cast<void>(pool.submit(&open_memory, std::string("z")).get());
  }
  CHECK(during >= before + 11);
  CHECK(pool.submit(&count_descriptors).get() == before);

  std::vector<Fd> items;
  for (std::size_t at = 0; at < 300; ++at) items.push_back(make_memory(std::string(at % 100, 'x')));
  const std::vector<std::size_t> lengths = pool.map(&length_of, items);
  for (std::size_t at = 0; at < items.size(); ++at) REQUIRE(lengths[at] == at % 100);
  CHECK(pool.submit(&count_descriptors).get() == before);
}

TEST_CASE_TEMPLATE("results of map, of streams and of map_reduce have descriptors", Policy, EVERY_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  std::vector<std::size_t> lengths;
  for (std::size_t at = 0; at < 200; ++at) lengths.push_back(at);
  const std::vector<Fd> opened = pool.map(&open_of_length, lengths);
  REQUIRE(opened.size() == lengths.size());
  for (std::size_t at = 0; at < opened.size(); ++at) {
    REQUIRE(contents(opened[at]).size() == at);
    REQUIRE(closed_on_exec(opened[at]));
  }
  std::size_t next = 0;
  for (const auto& made : pool.try_stream(&open_if_even, lengths)) {  // some have none, some fail
    const std::size_t length = next++;
    if (length % 5 == 0) {
      REQUIRE(!made);
      REQUIRE(made.failure().message().find("five") != std::string::npos);
    } else if (length % 2 == 0) {
      REQUIRE(contents(*made.value().memory).size() == length);
    } else {
      REQUIRE(!made.value().memory);
    }
  }
  CHECK(next == 200);
  for (const Fd& each : pool.stream_unordered(&open_of_length, lengths)) {
    if (contents(each).size() == 20) break;  // what is under way is closed
  }
  const Bundle all = pool.map_reduce(&open_as_bundle, &join, lengths, Bundle());
  REQUIRE(all.many.size() == 200);
  for (std::size_t at = 0; at < all.many.size(); ++at) REQUIRE(contents(all.many[at]).size() == at);
  if constexpr (!std::is_same_v<Policy, brood::InlinePolicy>) {
    const std::vector<std::size_t> none(2);
    for (const std::size_t each : pool.map([](std::size_t) { return count_descriptors(); }, none)) {
      CHECK(each <= pool.submit(&count_descriptors).get() + 1);  // nothing stays open
    }
  }
}

TEST_CASE("an item's deadline does not run while the worker waits for the host to take what it has opened") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1, .helper_thread = false});
  std::size_t made = 0;
  for (const auto& each : pool.try_stream(&open_of_length, std::vector<std::size_t>(6), {.chunk_size = 3, .timeout = std::chrono::seconds(1)})) {
    CHECK_MESSAGE(each.has_value(), (each ? "" : each.failure().message()));
    ++made;
    if (made == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1500));  // longer than the deadline, and drives nothing
  }
  CHECK(made == 6);
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE("what an item has opened goes with a worker that dies, and the others' is there") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 2});
  const std::vector<std::size_t> lengths{1, 2, 3, 4, 5, 6, 7};
  const auto made = pool.try_map(&open_and_die_of_four, lengths, {.chunk_size = 7});
  for (std::size_t at = 0; at < lengths.size(); ++at) {
    CAPTURE(at);
    CHECK(made[at].has_value() == (lengths[at] != 4));
    if (made[at]) CHECK(contents(made[at].value()).size() == lengths[at]);
  }
  CHECK(made[3].failure().kind() == brood::FailureKind::worker_died);
  // more than one packet takes, several times over
  for (const std::vector<Fd>& each : pool.map(&open_many, std::vector<std::size_t>{260, 0, 254, 253}, {.chunk_size = 4})) {
    for (const Fd& one : each) REQUIRE(contents(one) == "x");
  }
}

TEST_CASE("eight workers pass descriptors at once, hundreds in one call") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 8});
  std::vector<brood::Future<std::string>> running;
  std::vector<std::pair<Ends, Ends>> pipes;
  for (int at = 0; at < 8; ++at) {
    pipes.emplace_back(make_pipe(), make_pipe());
    running.push_back(pool.submit(&number_from, std::move(pipes.back().first.first), std::move(pipes.back().second.second), 20));
  }
  for (int round = 0; round < 20; ++round) {
    for (std::size_t at = 0; at < pipes.size(); ++at) put(pipes[at].first.second, std::to_string(at));
    for (std::size_t at = 0; at < pipes.size(); ++at) REQUIRE(get(pipes[at].second.first) == std::to_string(at) + "+");
  }
  for (auto& each : running) CHECK(each.get() == "done");

  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::size_t many = limit.rlim_cur >= 4096 ? 1000 : 300;  // more than one packet takes
  std::vector<Fd> all;
  for (std::size_t at = 0; at < many; ++at) all.push_back(make_memory("x"));
  CHECK(pool.submit(&count_with, Fd(), std::move(all)).get() > many);
}

TEST_CASE("a call that is not taken keeps its descriptors, and limits of open files are typed failures") {
  const support::Leftovers audit;
  {
    brood::Pool<brood::SpawnPolicy> pool({.workers = 1, .max_pending_bytes = 1});
    Fd memory = make_memory("kept");
    CHECK_THROWS_AS(pool.submit(&length_of, std::move(memory)), brood::QueueFull);
    CHECK(contents(memory) == "kept");
  }
  brood::Limits limits;
  limits.open_files = 20;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1, .limits = limits});
  std::vector<Fd> many;
  for (int at = 0; at < 30; ++at) many.push_back(make_memory("x"));
  auto over = pool.submit(&count_with, Fd(), std::move(many));
  const auto outcome = over.outcome();
  REQUIRE(!outcome);
  CHECK(outcome.failure().kind() == brood::FailureKind::serialization);
  CHECK_MESSAGE(outcome.failure().message().find("ulimit -n") != std::string::npos, outcome.failure().message());
  CHECK(pool.submit(&length_of, make_memory("fine")).get() == 4);  // the worker lives on

  CHECK_THROWS_AS(static_cast<void>(pool.submit(&length_of, Fd(1'000'000))), brood::SerializationError);
  CHECK_THROWS_AS(brood::preload_args<Holder>(make_memory("")), brood::SerializationError);
}

TEST_CASE("results whose descriptors find no room in the host are failures of their own") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit low = before;
  const pid_t worker = pool.submit(&::getpid).get();
  low.rlim_cur = support::numbers_in("/proc/self/fd").size() + 12;
  ::setrlimit(RLIMIT_NOFILE, &low);
  const auto refused = [](const auto& one) {
    REQUIRE(!one);
    CHECK(one.failure().kind() == brood::FailureKind::serialization);
    CHECK_MESSAGE(one.failure().message().find("ulimit -n") != std::string::npos, one.failure().message());
  };
  refused(pool.submit(&open_many, 15U).outcome());
  const auto parts = pool.try_map(&open_many, std::vector<std::size_t>{1, 15, 1}, {.chunk_size = 3});
  CHECK(parts[0].value().size() == 1);
  refused(parts[1]);
  refused(parts[2]);
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK(pool.submit(&open_many, 15U).get().size() == 15);
  CHECK(pool.submit(&::getpid).get() == worker);
}

#if !BROOD_TEST_HAS_THREAD_SANITIZER
TEST_CASE("a closure of ForkPolicy has descriptors as arguments and as its result") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  const std::string word = "captured";
  Fd memory = make_memory(" and passed");
  const Fd back = pool.submit([&](Fd given) { return make_memory(word + contents(given)); }, std::move(memory)).get();
  CHECK(contents(back) == "captured and passed");
}

TEST_CASE("descriptors reach a worker that has left the network, and one that only a privileged host may look into") {
  const support::Leftovers audit;
  {
    brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
    const bool left = pool.submit([] { return ::unshare(CLONE_NEWNET) == 0; }).get();
    if (!left) MESSAGE("no right to a network namespace here");
    CHECK(pool.submit(&length_of, make_memory("1234")).get() == 4);
    CHECK(contents(pool.submit(&open_memory, std::string("from there")).get()) == "from there");
  }
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  pool.submit([] { ::prctl(PR_SET_DUMPABLE, 0); }).get();
  CHECK(pool.submit(&length_of, make_memory("1234")).get() == 4);
}
#endif

// ---- lies ----------------------------------------------------------------------------------------------------------

namespace {

using brood::detail::FrameHeader;
using brood::detail::FrameType;

/// The write end of the worker's result pipe.
int result_pipe() {
  for (const int fd : support::numbers_in("/proc/self/fd")) {
    const std::string target = support::link_target("/proc/self/fd/" + std::to_string(fd));
    if (fd > 2 && target.starts_with("pipe:") && (::fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) return fd;
  }
  return -1;
}

void say(FrameType type, std::uint32_t first, std::uint64_t size) {
  struct {
    FrameHeader header;
    std::uint64_t payload = 1;
  } frame;
  frame.header.type = type;
  frame.header.task = brood::this_task::id();
  frame.header.first = first;
  frame.header.size = size;
  (void)!::write(result_pipe(), &frame, sizeof frame.header + size);
}

void claim_descriptors() {
  say(FrameType::result, 3, 0);
  ::pause();
}
void say_items(std::uint32_t first, std::uint32_t count, std::uint64_t descriptors) {
  struct {
    FrameHeader header;
    std::uint64_t words[2] = {};
  } frame;
  frame.header.type = FrameType::items;
  frame.header.task = brood::this_task::id();
  frame.header.flags = FrameHeader::attached;
  frame.header.first = first;
  frame.header.count = count;
  frame.header.number = descriptors;
  frame.header.size = count * sizeof(std::uint64_t);
  (void)!::write(result_pipe(), &frame, sizeof frame.header + frame.header.size);
  ::pause();
}
void claim_descriptors_of_item(int) { say_items(0, 1, 3); }
void claim_descriptors_of_two(int) { say_items(0, 2, 0); }
Fd claim_descriptors_of_second(int n) {
  if (n == 1) say_items(1, 1, 1);  // the connection is there, and nothing in it
  return make_memory("x");
}
void claim_more_than_were_sent(Fd) {  // it has a connection
  say(FrameType::result, 1'000'000, 0);
  ::pause();
}
void ask_again(Fd) {
  say(FrameType::post, 0, 0);
  ::pause();
}
void ask_at_length() {
  say(FrameType::post, 0, 8);
  ::pause();
}
/// Without anything that the host could connect to.
void ask_for_nothing() {
  say(FrameType::post, 0, 0);
  ::pause();
}
Fd name_what_is_not_there() {
  say(FrameType::result, 0, sizeof(std::uint32_t));
  ::pause();
  return Fd();
}

}  // namespace

TEST_CASE("a worker that lies about descriptors is killed, and fails its own task only") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 2});
  const support::Gate gate;
  auto other = pool.submit(&support::wait_for_gate, gate.path(), 5);
  const auto check = [&](auto future, const char* text) {
    CAPTURE(text);
    const auto outcome = std::move(future).outcome();
    REQUIRE(!outcome);
    CHECK(outcome.failure().kind() == brood::FailureKind::protocol);
    CHECK_MESSAGE(outcome.failure().message().find(text) != std::string::npos, outcome.failure().message());
  };
  check(pool.submit(&claim_descriptors), "descriptors that it did not send");
  check(pool.submit(&claim_more_than_were_sent, make_memory("")), "descriptors that it did not send");
  check(pool.submit(&ask_again, make_memory("")), "one wish for descriptors too many");
  check(pool.submit(&ask_at_length), "one wish for descriptors too many");
  const std::vector<int> two{0, 1};
  const auto check_item = [&](const auto& outcomes, std::size_t at, const char* text) {
    CAPTURE(text);
    REQUIRE(!outcomes[at]);
    CHECK(outcomes[at].failure().kind() == brood::FailureKind::protocol);
    CHECK_MESSAGE(outcomes[at].failure().message().find(text) != std::string::npos, outcomes[at].failure().message());
  };
  check_item(pool.try_map(&claim_descriptors_of_item, two, {.chunk_size = 2}), 0, "descriptors that it did not send");
  check_item(pool.try_map(&claim_descriptors_of_two, two, {.chunk_size = 2}), 0, "items that it was not asked for");
  const auto second = pool.try_map(&claim_descriptors_of_second, two, {.chunk_size = 2});
  CHECK(contents(second[0].value()) == "x");
  check_item(second, 1, "descriptors that it did not send");
  auto nothing = pool.submit({.timeout = std::chrono::milliseconds(200)}, &ask_for_nothing);
  CHECK_THROWS_AS(nothing.get(), brood::TaskTimeout);

  auto unnamed = pool.submit(&name_what_is_not_there).outcome();
  REQUIRE(!unnamed);
  CHECK(unnamed.failure().kind() == brood::FailureKind::serialization);
  CHECK(unnamed.failure().message().find("descriptor 0 of a message that has 0") != std::string::npos);
  gate.open();
  CHECK(other.get() == 5);
  CHECK(pool.submit(&length_of, make_memory("123")).get() == 3);
}
