// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <brood/wire/control.hpp>
#include <brood/wire/frame.hpp>
#include <brood/wire/hand_over.hpp>
#include <brood/wire/status_page.hpp>

#include <string>
#include <thread>
#include <vector>

using namespace brood::detail;

namespace {

struct Collector {
  std::vector<FrameHeader> admitted;
  std::vector<Frame> frames;
  std::uint64_t limit = 1 << 20;

  void admit(const FrameHeader& header) {
    if (header.size > limit) throw brood::MessageTooLarge("too large");
    admitted.push_back(header);
  }
  void accept(Frame&& frame) { frames.push_back(std::move(frame)); }
};

Bytes make_frame(FrameType type, std::uint64_t task, const std::string& payload) {
  Bytes bytes;
  begin_frame(bytes);
  bytes.append(payload.data(), payload.size());
  FrameHeader header;
  header.type = type;
  header.task = task;
  end_frame(bytes, header);
  return bytes;
}

std::string text_of(const Frame& frame) {
  return {reinterpret_cast<const char*>(frame.payload.data()), frame.payload.size()};
}

}  // namespace

TEST_CASE("FrameReader puts frames together however they are cut") {
  Bytes stream;
  for (const std::string& payload : {std::string("one"), std::string(), std::string(1000, 'z')}) {
    const Bytes frame = make_frame(FrameType::result, payload.size(), payload);
    stream.append(frame.data(), frame.size());
  }
  for (std::size_t step = 1; step < stream.size(); step += step < 50 ? 1 : 97) {
    FrameReader reader;
    Collector collector;
    for (std::size_t at = 0; at < stream.size(); at += step) {
      reader.feed(stream.view().subspan(at, std::min(step, stream.size() - at)), collector);
    }
    REQUIRE(collector.frames.size() == 3);
    CHECK(text_of(collector.frames[0]) == "one");
    CHECK(text_of(collector.frames[1]).empty());
    CHECK(text_of(collector.frames[2]) == std::string(1000, 'z'));
    CHECK_FALSE(reader.in_frame());
  }
}

TEST_CASE("FrameReader::direct_target takes large payloads without a detour") {
  const std::string payload(3 << 20, 'p');
  const Bytes frame = make_frame(FrameType::result, 1, payload);
  FrameReader reader;
  Collector collector;
  collector.limit = 1 << 30;
  reader.feed(frame.view().first(sizeof(FrameHeader) + 10), collector);
  std::size_t at = sizeof(FrameHeader) + 10;
  while (at < frame.size()) {
    const auto target = reader.direct_target(collector);
    if (target.empty()) {
      reader.feed(frame.view().subspan(at), collector);
      break;
    }
    CHECK(target.size() <= std::max<std::size_t>(1 << 20, at));  // memory is asked for as the bytes arrive
    std::memcpy(target.data(), frame.data() + at, target.size());
    at += target.size();
    reader.commit_direct(target.size(), collector);
  }
  REQUIRE(collector.frames.size() == 1);
  CHECK(text_of(collector.frames[0]) == payload);
}

TEST_CASE("FrameReader refuses bytes that are no frame before it asks for memory") {
  Collector collector;
  const std::string noise(sizeof(FrameHeader), 'n');
  FrameReader reader;
  CHECK_THROWS_AS(reader.feed(std::as_bytes(std::span(noise)), collector), brood::ProtocolError);
  CHECK(collector.admitted.empty());

  FrameHeader header;
  header.size = ~std::uint64_t{0};
  FrameReader other;
  CHECK_THROWS_AS(other.feed(std::as_bytes(std::span(&header, 1)), collector), brood::MessageTooLarge);
}

TEST_CASE("StatusPage: a task is claimed or revoked, never both") {
  const Fd memory = StatusMapping::make_memory();
  const StatusMapping host(memory.get(), Inherit::no);
  const StatusMapping worker(memory.get(), Inherit::yes);
  for (std::uint64_t number = 1; number < 20'000; ++number) {
    host.page().offer(number);
    bool claimed = false;
    std::thread other;
    if (number % 20 == 0) {
      other = std::thread([&] { claimed = worker.page().claim(number); });
    } else if (number % 2 == 0) {
      claimed = worker.page().claim(number);
    }
    const bool revoked = host.page().revoke(number);
    if (other.joinable()) other.join();
    if (number % 2 == 1) claimed = worker.page().claim(number);
    REQUIRE(claimed != revoked);
    REQUIRE(host.page().may_have_started(number) == claimed);
    REQUIRE(worker.page().was_taken_back(number) == revoked);
  }
}

TEST_CASE("StatusPage: numbers that share a place are told apart") {
  const Fd memory = StatusMapping::make_memory();
  const StatusMapping mapping(memory.get(), Inherit::no);
  StatusPage& page = mapping.page();
  page.offer(1);
  page.offer(1 + StatusPage::claim_count);
  CHECK_FALSE(page.claim(1));
  CHECK(page.was_taken_back(1));
  CHECK(page.claim(1 + StatusPage::claim_count));
  CHECK(page.was_taken_back(1));
  CHECK_FALSE(page.was_taken_back(1 + StatusPage::claim_count));
  CHECK(page.may_have_started(1 + StatusPage::claim_count));
}

TEST_CASE("StatusPage: a claim that was written over counts as started, and is not taken for one that was taken back") {
  const Fd memory = StatusMapping::make_memory();
  const StatusMapping mapping(memory.get(), Inherit::no);
  StatusPage& page = mapping.page();
  for (const std::uint64_t word : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{0xdeadbeefdeadbeef}, std::uint64_t{1}}) {
    for (const std::uint64_t number : {std::uint64_t{1}, std::uint64_t{5}, std::uint64_t{1} << 40}) {
      page.offer(number);
      CHECK_FALSE(page.may_have_started(number));
      page.claims[number % StatusPage::claim_count].store(word);
      CHECK_FALSE(page.claim(number));
      CHECK_FALSE(page.revoke(number));
      CHECK(page.may_have_started(number));
      CHECK_FALSE(page.was_taken_back(number));
    }
  }
}

TEST_CASE("StatusPage: what was halted starts no item, and does not count it") {
  const Fd memory = StatusMapping::make_memory();
  const StatusMapping mapping(memory.get(), Inherit::no);
  StatusPage& page = mapping.page();
  CHECK(page.start_item());
  CHECK(page.start_item());
  CHECK(page.halt_items() == 2);
  CHECK_FALSE(page.start_item());
  CHECK_FALSE(page.start_item());
  CHECK(page.halt_items() == 2);  // as a host reads it after the worker's end
}

TEST_CASE("ControlMessage cuts a text that is too long, and knows a packet that is none") {
  const std::string text(10'000, 't');
  const auto message = ControlMessage::make(ControlType::failed, {3, 4}, -5, 6, text);
  CHECK(message.said().size() == ControlMessage::max_text);
  CHECK(message.ticket() == Ticket{3, 4});
  CHECK(message.valid(message.bytes().size()));
  CHECK_FALSE(message.valid(message.bytes().size() - 1));
  CHECK_FALSE(message.valid(8));
  ControlMessage broken = ControlMessage::make(ControlType::ready);
  broken.text_size = ~std::uint64_t{0};
  CHECK_FALSE(broken.valid(ControlMessage::head_size));
  broken = ControlMessage::make(ControlType::ready);
  broken.magic = 1;
  CHECK_FALSE(broken.valid(ControlMessage::head_size));
}

TEST_CASE("a hand-over is found on its descriptor only, and by its magic only") {
  const int saved = ::fcntl(hand_over_fd, F_DUPFD_CLOEXEC, 64);
  const std::string body = "body";
  HandOverHeader header;
  header.role = Role::server;
  header.parent = 77;
  {
    const Fd memory = make_hand_over(header, std::as_bytes(std::span(body)));
    ::dup2(memory.get(), hand_over_fd);
    const auto found = peek_hand_over();
    REQUIRE(found);
    CHECK(found->parent == 77);
    CHECK(found->size == 4);
    const HandOver taken = take_hand_over(*found);
    CHECK(std::string(reinterpret_cast<const char*>(taken.body.data()), taken.body.size()) == body);

    const std::string other(sizeof header + 4, 'o');
    const Fd stranger = make_sealed_bytes("other", std::as_bytes(std::span(other)));
    ::dup2(stranger.get(), hand_over_fd);
    CHECK_FALSE(peek_hand_over());
    const Pipe pipe = Pipe::make();
    ::dup2(pipe.read.get(), hand_over_fd);
    CHECK_FALSE(peek_hand_over());
    ::close(hand_over_fd);
    CHECK_FALSE(peek_hand_over());
  }
  if (saved >= 0) {
    ::dup2(saved, hand_over_fd);
    ::close(saved);
  }
}
