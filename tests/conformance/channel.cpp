// SPDX-License-Identifier: MIT
// Channels between host and running tasks: everything arrives whole and in order, or the end is seen, whoever closes, dies or
// lies.
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

using namespace std::chrono_literals;
using brood::Channel;

namespace {

struct Part {
  int number = 0;
  std::string text;
};

bool readable(int fd) {
  pollfd watched{fd, POLLIN, 0};
  return ::poll(&watched, 1, 0) == 1;
}

// ---- tasks ---------------------------------------------------------------------------------------------------------

/// Yields parts until it is told to stop. Returns how many it has yielded.
int yield_until_told(Channel<Part, std::string> host) {
  for (int number = 0;; ++number) {
    host.send({number, "part " + std::to_string(number)});
    if (const auto order = host.try_receive()) return *order == "stop" ? number + 1 : -1;
  }
}

int send_some(brood::Sender<int> host, int count) {
  for (int at = 0; at < count; ++at) host.send(at);
  return count;
}

void throw_after(Channel<int, void> host, int count) {
  for (int at = 0; at < count; ++at) host.send(at);
  throw std::runtime_error("after so many");
}

void die_after(Channel<int, void> host, int count) {
  for (int at = 0; at < count; ++at) host.send(at);
  ::raise(SIGKILL);
}

/// Dies when it has sent a part of a message.
void die_in_the_middle(Channel<std::vector<int>, void> host) {
  host.send({1, 2, 3});
  brood::detail::ChannelPacket header;
  header.kind = brood::detail::ChannelPacket::Kind::first;
  header.size = 1'000'000;
  char packet[4096]{};
  std::memcpy(packet, &header, sizeof header);
  if (::send(host.descriptor(), packet, sizeof packet, 0) != sizeof packet) ::_exit(43);
  ::raise(SIGKILL);
}

void say_and_wait(Channel<int> host) {
  host.send(1);
  host.receive();
  ::pause();
}

/// The sum of all that comes, until the end.
long add_up(brood::Receiver<int> host) {
  long sum = 0;
  for (const int each : host) sum += each;
  return sum;
}

std::size_t echo(Channel<std::string> host) {
  std::size_t count = 0;
  for (std::string& each : host) {
    host.send(each);
    ++count;
  }
  return count;
}

/// Dies once, in the middle of its work; goes on with what is left.
long add_up_dying_once(Channel<std::string, int> host, const brood::Fd& memory) {
  long sum = 0;
  for (const int each : host) {
    sum += each;
    char mark = 0;
    if (each == 5 && ::pread(memory.get(), &mark, 1, 0) == 0) {
      (void)!::pwrite(memory.get(), "x", 1, 0);
      ::raise(SIGKILL);
    }
    if (each == 9) break;
  }
  host.send("sum " + std::to_string(sum));
  return sum;
}

std::size_t send_large(Channel<std::vector<double>, void> host, std::size_t count) {
  std::vector<double> values(count);
  std::iota(values.begin(), values.end(), 0.0);
  host.send(values);
  host.send({});
  host.send({1, 2});
  return values.size();
}

std::string use_what_comes(Channel<brood::Fd, Channel<std::string, void>> host) {
  auto inner = host.receive();
  inner->send("from the inner one");
  brood::Fd memory(::memfd_create("brood-test", MFD_CLOEXEC));
  if (::pwrite(memory.get(), "memory", 6, 0) != 6) return "no memory";
  host.send(memory);
  return "both";
}

std::size_t count_descriptors() { return support::own_descriptors().size(); }

}  // namespace

TEST_CASE_TEMPLATE("Channel: a task yields partial results and takes orders", Policy, EVERY_WORKER_POLICY) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  auto [mine, theirs] = brood::channel<std::string, Part>();
  auto done = pool.submit(&yield_until_told, std::move(theirs));
  CHECK(!theirs);
  int count = 0;
  for (const Part& part : mine) {
    REQUIRE(part.number == count);
    REQUIRE(part.text == "part " + std::to_string(count));
    if (++count == 2000) mine.send("stop");
  }
  CHECK(mine.ended());
  CHECK(count >= 2000);
  CHECK(done.get() == count);
  CHECK_THROWS_AS(mine.send("more"), brood::ChannelClosed);
  CHECK(!mine.receive());
}

TEST_CASE_TEMPLATE("Channel: both sides see the end, however it comes", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const auto take_all = [](Channel<void, int>& from) {
    std::vector<int> all;
    for (const int each : from) all.push_back(each);
    return all;
  };
  {
    auto [mine, theirs] = brood::channel<void, int>();
    auto returned = pool.submit(&send_some, std::move(theirs), 3);
    CHECK(take_all(mine) == std::vector{0, 1, 2});
    CHECK(returned.get() == 3);
  }
  {
    auto [mine, theirs] = brood::channel<void, int>();
    auto threw = pool.submit(&throw_after, std::move(theirs), 3);
    CHECK(take_all(mine) == std::vector{0, 1, 2});
    CHECK_THROWS_AS(threw.get(), std::runtime_error);
  }
  {
    auto [mine, theirs] = brood::channel<void, int>();
    auto died = pool.submit(&die_after, std::move(theirs), 3);
    CHECK(take_all(mine) == std::vector{0, 1, 2});
    CHECK_THROWS_AS(died.get(), brood::WorkerDied);
  }
  {
    auto [mine, theirs] = brood::channel<void, std::vector<int>>();
    auto died = pool.submit(&die_in_the_middle, std::move(theirs));
    CHECK(mine.receive() == std::vector{1, 2, 3});
    CHECK(!mine.receive());
    CHECK(mine.ended());
    CHECK_THROWS_AS(died.get(), brood::WorkerDied);
  }
  for (const bool late : {true, false}) {
    auto [mine, theirs] = brood::channel<int>();
    const auto bound = late ? 300ms : 0ms;  // 0: none
    auto killed = pool.submit({.timeout = bound}, &say_and_wait, std::move(theirs));
    CHECK(mine.receive() == 1);
    if (!late) CHECK(killed.cancel());
    CHECK(!mine.receive());
    CHECK(mine.ended());
  }
  {
    // one that never starts, and one that is not taken
    auto [mine, theirs] = brood::channel<void, int>();
    const support::Gate gate;
    auto first = pool.submit(&support::wait_for_gate, gate.path(), 1);
    auto second = pool.submit(&support::wait_for_gate, gate.path(), 1);
    REQUIRE(support::wait_until_running(pool, 2));
    auto queued = pool.submit(&send_some, std::move(theirs), 3);
    CHECK(queued.cancel());
    CHECK(!mine.receive());
    gate.open();
    first.get();
    second.get();
  }
  {
    // other processes that come to be meanwhile have no copy of an end: the task sees the host close its own, though they live
    auto [mine, theirs] = brood::channel<int, void>();
    auto sum = pool.submit(&add_up, std::move(theirs));
    mine.send(20);
    const support::Gate gate;
    auto other = pool.submit(&support::wait_for_gate, gate.path(), 1);
    brood::Pool<Policy> later({.workers = 1});
    auto another = later.submit(&support::wait_for_gate, gate.path(), 1);
    REQUIRE(support::wait_until_running(later, 1));
    mine.send(22);
    mine.close();
    CHECK(sum.get() == 42);
    gate.open();
    other.get();
    another.get();
  }
}

TEST_CASE("Channel: thousands of messages both ways at once, eight workers at once") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 8});
  const std::size_t before = pool.submit(&count_descriptors).get();
  std::vector<std::thread> talkers;
  std::vector<std::size_t> sent(8);
  std::vector<std::size_t> echoed(8);
  for (std::size_t at = 0; at < 8; ++at) {
    talkers.emplace_back([&, at] {
      auto [mine, theirs] = brood::channel<std::string>();
      auto count = pool.submit(&echo, std::move(theirs));
      std::thread sender([&ours = mine] {
        for (unsigned each = 0; each < 2000; ++each) ours.send(std::to_string(each) + std::string(each % 300, '.'));
        ours.close_sending();
      });
      int next = 0;
      bool in_order = true;
      for (const std::string& each : mine) in_order = in_order && each.starts_with(std::to_string(next++));
      sender.join();
      echoed[at] = in_order ? static_cast<std::size_t>(next) : 0;
      sent[at] = count.get();
    });
  }
  for (std::thread& each : talkers) each.join();
  CHECK(sent == std::vector<std::size_t>(8, 2000));
  CHECK(echoed == std::vector<std::size_t>(8, 2000));
  CHECK(pool.submit(&count_descriptors).get() == before);
}

TEST_CASE("Channel: large messages, descriptors and channels in messages") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 2});
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}}) {
    auto [mine, theirs] = brood::channel<void, std::vector<double>>({.capacity = capacity});
    auto count = pool.submit(&send_large, std::move(theirs), std::size_t{300'000});
    const auto values = mine.receive();
    REQUIRE(values);
    REQUIRE(values->size() == 300'000);
    CHECK(values->back() == 299'999);
    CHECK(mine.receive()->empty());
    CHECK(mine.receive() == std::vector<double>{1, 2});
    CHECK(!mine.receive());
    CHECK(count.get() == 300'000);
  }
  auto [mine, theirs] = brood::channel<Channel<std::string, void>, brood::Fd>();
  auto used = pool.submit(&use_what_comes, std::move(theirs));
  auto [near, far] = brood::channel<void, std::string>();
  mine.send(far);
  far.close();
  CHECK(near.receive() == "from the inner one");
  CHECK(!near.receive());
  const auto memory = mine.receive();
  REQUIRE(memory);
  char text[8]{};
  CHECK(::pread(memory->get(), text, sizeof text, 0) == 6);
  CHECK(std::string(text) == "memory");
  CHECK(used.get() == "both");
}

TEST_CASE("Channel: it is bounded, waits no longer than it may, and can be polled") {
  const support::Leftovers audit;
  auto [one, other] = brood::channel<std::string>({.capacity = 20'000, .max_message_bytes = 100'000});
  CHECK(!other.try_receive());
  CHECK(!other.receive_for(1ms));
  CHECK(!other.ended());
  CHECK(!readable(other.descriptor()));
  int room = 0;
  while (one.try_send(std::string(100, 'x'))) ++room;
  CHECK(room >= 10);
  CHECK(room <= 400);
  CHECK(!one.send_for(std::string("late"), 1ms));
  CHECK(readable(other.descriptor()));
  for (int at = 0; at < room; ++at) CHECK(other.receive()->size() == 100);
  CHECK(!other.try_receive());
  CHECK(one.send_for(std::string("in time"), 10s));
  CHECK(other.receive() == "in time");

  CHECK_THROWS_AS(one.send(std::string(100'001, 'x')), brood::MessageTooLarge);
  std::thread sender([&ours = one] { ours.send(std::string(99'000, 'y')); });  // larger than the capacity
  CHECK(other.receive()->size() == 99'000);
  sender.join();

  other.send("the other way");
  one.close_sending();
  CHECK(readable(other.descriptor()));
  CHECK(!other.receive());
  CHECK(other.ended());
  CHECK(one.receive() == "the other way");
  CHECK_THROWS_AS(one.send("no more"), brood::ChannelClosed);
  other.close();
  CHECK(!other);
  CHECK(other.descriptor() == -1);
  CHECK_THROWS_AS(other.send(""), brood::ChannelClosed);
  CHECK_THROWS_AS(other.receive(), brood::ChannelClosed);
  CHECK(!one.receive());
}

TEST_CASE("Channel: a retry goes on with the same channel") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  auto [mine, theirs] = brood::channel<int, std::string>();
  const brood::Fd memory(::memfd_create("brood-test", MFD_CLOEXEC));
  auto sum = pool.submit({.retries = 1}, &add_up_dying_once, std::move(theirs), memory);
  for (int at = 0; at < 10; ++at) mine.send(at);
  CHECK(mine.receive() == "sum 30");  // 6 to 9: the others were the first try's
  CHECK(!mine.receive());
  CHECK(sum.get() == 30);
}

TEST_CASE("Channel: under InlinePolicy nothing waits for ever") {
  const support::Leftovers audit;
  brood::Pool<brood::InlinePolicy> pool;
  auto [mine, theirs] = brood::channel<int, std::string>();
  for (int at = 0; at < 10; ++at) mine.send(at);
  const brood::Fd memory(::memfd_create("brood-test", MFD_CLOEXEC));
  (void)!::pwrite(memory.get(), "x", 1, 0);
  CHECK(pool.submit(&add_up_dying_once, std::move(theirs), memory).get() == 45);
  CHECK(mine.receive() == "sum 45");
  CHECK(!mine.receive());

  const auto fails_with_words = [](auto future) {
    const auto outcome = std::move(future).outcome();
    REQUIRE(!outcome);
    CHECK_MESSAGE(outcome.failure().message().find("wait for ever: under InlinePolicy") != std::string::npos,
                  outcome.failure().message());
  };
  auto [ours, yours] = brood::channel<int, void>();
  fails_with_words(pool.submit(&add_up, std::move(yours)));
  auto [reader, writer] = brood::channel<void, int>({.capacity = 1});
  fails_with_words(pool.submit(&send_some, std::move(writer), 100'000));
  CHECK(reader.receive() == 0);
  auto [third, fourth] = brood::channel<int, void>();
  const int captured = 1;
  fails_with_words(pool.submit([&](Channel<void, int> from) { return from.receive().value_or(captured); }, std::move(fourth)));
}

#if !BROOD_TEST_HAS_THREAD_SANITIZER
TEST_CASE("Channel: closures of ForkPolicy get ends as arguments, and captured ones are refused") {
  const support::Leftovers audit;
  brood::Pool<brood::ForkPolicy> pool({.workers = 1});
  const std::string word = "captured ";
  auto [mine, theirs] = brood::channel<std::string>();
  auto done = pool.submit(
      [&](Channel<std::string> host) {
        int count = 0;
        for (const std::string& each : host) {
          host.send(word + each);
          ++count;
        }
        return count;  // the host's end was closed: this process has no copy of it
      },
      std::move(theirs));
  CHECK(!theirs);
  mine.send("one");
  CHECK(mine.receive() == "captured one");
  mine.close_sending();
  CHECK(!mine.receive());
  CHECK(done.get() == 1);

  auto [ours, others] = brood::channel<std::string>();
  const auto outcome = pool.submit([&end = others] { end.send("from a copy"); }).outcome();
  REQUIRE(!outcome);
  CHECK_MESSAGE(outcome.failure().message().find("pass the end to the task as an argument of its own") != std::string::npos,
                outcome.failure().message());
  others.send("from here");  // a copy's end says nothing for it
  CHECK(ours.receive() == "from here");
}
#endif

// ---- lies ----------------------------------------------------------------------------------------------------------

namespace {

using brood::detail::ChannelPacket;

/// A packet that is no message, and then an honest one.
int lie(Channel<int> host, const ChannelPacket& header, std::size_t payload) {
  std::vector<char> packet(sizeof header + payload, 'z');
  std::memcpy(packet.data(), &header, sizeof header);
  if (::send(host.descriptor(), packet.data(), packet.size(), MSG_NOSIGNAL) < 0) return -1;
  return host.receive() ? 1 : 2;
}
int send_text_for_int(Channel<std::string> host) {
  host.send("no int");
  host.send("1234");
  return host.receive() ? 1 : 2;
}

}  // namespace

template <>
inline constexpr bool brood::bitwise<ChannelPacket> = true;

TEST_CASE("Channel: what is no message is an exception where it is received, and the end, and harms nobody else") {
  const support::Leftovers audit;
  brood::Pool<brood::SpawnPolicy> pool({.workers = 2});
  auto [good, theirs] = brood::channel<std::string>();
  auto echoed = pool.submit(&echo, std::move(theirs));
  using Kind = ChannelPacket::Kind;
  const auto magic = ChannelPacket::magic_value;
  struct Lie {
    const char* what;
    ChannelPacket header;
    std::size_t payload;
  };
  const Lie lies[] = {
      {"no packet of a channel", {magic + 1, Kind::first, 4}, 4},
      {"does not follow", {magic, Kind::more, 4}, 4},
      {"does not follow", {magic, Kind{77}, 4}, 4},
      {"more bytes than the message has", {magic, Kind::first, 4}, 5},
      {"a packet of nothing", {magic, Kind::first, 4}, 0},
      {"longer than any", {magic, Kind::first, 70'000}, 70'000},
      {"max_message_bytes (1000)", {magic, Kind::first, 1001}, 4},
      {"max_message_bytes (1000)", {magic, Kind::first, ~std::uint64_t{0}}, 4},
  };
  for (const Lie& each : lies) {
    CAPTURE(each.what);
    auto [mine, liars] = brood::channel<int>({.max_message_bytes = 1000});
    auto lied = pool.submit(&lie, std::move(liars), each.header, each.payload);
    std::string said = "nothing";
    try {
      mine.receive();
    } catch (const brood::Error& error) {
      said = error.what();
    }
    CHECK_MESSAGE(said.find(each.what) != std::string::npos, said);
    CHECK(mine.ended());
    CHECK(!mine.receive());
    CHECK(lied.get() == 2);
  }
  auto [mine, liars] = brood::channel<std::string>();
  auto lied = pool.submit(&send_text_for_int, std::move(liars));
  // the same channel, read as another type
  brood::Channel<int> as_int(brood::detail::ChannelEnd(brood::detail::duplicate(mine.descriptor()), 1000));
  CHECK_THROWS_AS(as_int.receive(), brood::SerializationError);
  CHECK(!as_int.ended());
  CHECK(mine.receive() == "1234");
  as_int.close();
  mine.close();
  CHECK(lied.get() == 2);

  good.send("fine");
  CHECK(good.receive() == "fine");
  good.close();
  CHECK(echoed.get() == 1);
}
