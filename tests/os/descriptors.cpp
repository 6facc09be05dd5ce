// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <brood/os/control_socket.hpp>
#include <brood/os/fd.hpp>
#include <brood/os/mapping.hpp>
#include <brood/os/pipe.hpp>
#include <brood/os/poller.hpp>

#include <sys/stat.h>

#include <array>
#include <chrono>
#include <set>
#include <string>

#include "support/rounds.hpp"

using namespace brood::detail;

namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }
bool closes_on_exec(int fd) { return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

std::set<int> remembered() {
  std::set<int> all;
  library_descriptors.for_each([&](int fd) { all.insert(fd); });
  return all;
}

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

}  // namespace

TEST_CASE("Fd closes what it owns once, and is remembered as the library's") {
  int number = -1;
  {
    Pipe pipe = Pipe::make();
    number = pipe.read.get();
    CHECK(closes_on_exec(number));
    CHECK(remembered().contains(number));
    Fd moved = std::move(pipe.read);
    CHECK_FALSE(pipe.read);
    CHECK(moved.get() == number);
    CHECK(is_open(number));
  }
  CHECK_FALSE(is_open(number));
  CHECK_FALSE(remembered().contains(number));
}

TEST_CASE("own never keeps the numbers of stdio") {
  const int saved = ::fcntl(0, F_DUPFD_CLOEXEC, 10);
  ::close(0);
  const Pipe pipe = Pipe::make();  // the kernel hands out 0 first
  CHECK(pipe.read.get() > 2);
  CHECK(pipe.write.get() > 2);
  CHECK_FALSE(is_open(0));
  if (saved >= 0) {
    ::dup2(saved, 0);
    ::close(saved);
  }
}

TEST_CASE("own names the call that failed") {
  try {
    errno = EMFILE;
    own("pipe2", -1);
    FAIL("own took -1");
  } catch (const SystemError& error) {
    CHECK(error.call() == std::string("pipe2"));
    CHECK(error.code().value() == EMFILE);
    CHECK(std::string(error.what()).find("pipe2") != std::string::npos);
  }
}

TEST_CASE("read_some and write_some tell moved, blocked and ended apart") {
  Pipe pipe = Pipe::make();
  set_nonblocking(pipe.read.get());
  set_nonblocking(pipe.write.get());
  std::array<std::byte, 16> room{};
  CHECK(read_some(pipe.read.get(), room).blocked);
  CHECK(write_some(pipe.write.get(), bytes_of("hello")).bytes == 5);
  CHECK(read_some(pipe.read.get(), room).bytes == 5);
  const std::string much(1 << 20, 'x');
  std::size_t sent = 0;
  for (;;) {
    const Moved moved = write_some(pipe.write.get(), bytes_of(much));
    if (moved.blocked) break;
    sent += moved.bytes;
  }
  CHECK(sent > 0);
  pipe.write.reset();
  std::array<std::byte, 4096> sink;
  std::size_t received = 0;
  for (;;) {
    const Moved moved = read_some(pipe.read.get(), sink);
    if (moved.ended) break;
    received += moved.bytes;
  }
  CHECK(received == sent);
}

TEST_CASE("make_shared_memory is zero, shared, and can't change its size") {
  const Fd memory = make_shared_memory("brood-test", 8192);
  const Mapping one(memory.get(), 8192, Inherit::no);
  const Mapping two(memory.get(), 8192, Inherit::yes);
  CHECK(static_cast<const char*>(one.data())[8191] == 0);
  static_cast<char*>(one.data())[5] = 'x';
  CHECK(static_cast<const char*>(two.data())[5] == 'x');
  CHECK(::ftruncate(memory.get(), 4096) == -1);
  CHECK(::ftruncate(memory.get(), 16384) == -1);
}

TEST_CASE("make_sealed_bytes can be read and not written") {
  const Fd memory = make_sealed_bytes("brood-test", bytes_of("sealed"));
  std::array<char, 16> room{};
  CHECK(::pread(memory.get(), room.data(), room.size(), 0) == 6);
  CHECK(std::string(room.data()) == "sealed");
  CHECK(::pwrite(memory.get(), "x", 1, 0) == -1);
}

TEST_CASE("ControlSocket keeps packets apart and passes descriptors") {
  auto [host, server] = ControlSocket::make_pair();
  CHECK(closes_on_exec(host.fd()));
  const Pipe pipe = Pipe::make();
  const std::array<int, 2> given{pipe.read.get(), pipe.write.get()};
  CHECK(host.send(bytes_of("first"), given) == ControlSocket::Sent::yes);
  CHECK(host.send(bytes_of("second")) == ControlSocket::Sent::yes);

  std::array<std::byte, 64> room{};
  ControlSocket::Fds fds;
  Packet packet = server.receive(room, fds);
  CHECK(packet.outcome == Packet::Outcome::received);
  CHECK(packet.size == 5);
  REQUIRE(packet.fd_count == 2);
  CHECK(closes_on_exec(fds[0].get()));
  CHECK(write_some(fds[1].get(), bytes_of("x")).bytes == 1);
  CHECK(read_some(pipe.read.get(), room).bytes == 1);
  CHECK(server.receive(room, fds).size == 6);
  CHECK(server.receive(room, fds).outcome == Packet::Outcome::nothing_now);
  host.close();
  CHECK(server.receive(room, fds).outcome == Packet::Outcome::ended);
  CHECK(server.send(bytes_of("to nobody")) == ControlSocket::Sent::ended);  // and no SIGPIPE
}

TEST_CASE("ControlSocket::receive closes the descriptors of a packet that is truncated, or has too many") {
  auto [host, server] = ControlSocket::make_pair();
  const Pipe pipe = Pipe::make();
  const auto count_open = [] {
    int count = 0;
    for (int fd = 0; fd < 256; ++fd) count += is_open(fd) ? 1 : 0;
    return count;
  };
  const int before = count_open();
  const std::array<int, 2> given{pipe.read.get(), pipe.write.get()};
  std::array<std::byte, 4> small{};
  constexpr std::size_t most = 253;  // that the kernel passes on
  std::array<int, most> many;
  many.fill(pipe.read.get());
  for (const int round : support::rounds(1, 10'000)) {
    CAPTURE(round);
    ControlSocket::Fds fds;
    REQUIRE(host.send(bytes_of("longer than the room"), given) == ControlSocket::Sent::yes);
    CHECK(server.receive(small, fds).outcome == Packet::Outcome::violated);
    CHECK(count_open() == before);

    for (const std::size_t count : {ControlSocket::max_fds + 1, most}) {
      iovec part{small.data(), small.size()};
      alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof many)> space{};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = space.data();
      message.msg_controllen = CMSG_SPACE(count * sizeof(int));
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(count * sizeof(int));
      std::memcpy(CMSG_DATA(header), many.data(), count * sizeof(int));
      REQUIRE(::sendmsg(host.fd(), &message, 0) == 4);
      CHECK(server.receive(small, fds).outcome == Packet::Outcome::violated);
      CHECK(count_open() == before);
    }

    REQUIRE(host.send(bytes_of("none")) == ControlSocket::Sent::yes);
    CHECK(server.receive(small, fds).fd_count == 0);
    CHECK(count_open() == before);
    REQUIRE(host.send(bytes_of("two"), given) == ControlSocket::Sent::yes);
    CHECK(server.receive(small, fds).fd_count == 2);
    CHECK(count_open() == before + 2);
    fds = {};
    CHECK(count_open() == before);
  }
}

TEST_CASE("Poller::wait returns what is ready, and a Bell wakes it") {
  using namespace std::chrono_literals;
  Poller poller;
  Bell bell;
  poller.add(bell.fd(), EPOLLIN, 42);
  std::array<Poller::Event, 4> room;
  CHECK(poller.wait(room, 0ns).empty());
  bell.ring();
  bell.ring();
  const auto ready = poller.wait(room, -1ns);
  REQUIRE(ready.size() == 1);
  CHECK(std::uint64_t{ready[0].data.u64} == 42);
  bell.hush();
  CHECK(poller.wait(room, 0ns).empty());
  poller.remove(bell.fd());
  bell.ring();
  CHECK(poller.wait(room, 0ns).empty());
}
