// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <span>

#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// A packet received over a control socket.
struct Packet {
  enum class Outcome {
    received,
    nothing_now,
    ended,
    no_room,  ///< received, but its descriptors found no free number here
    violated,
  };

  Outcome outcome = Outcome::nothing_now;
  std::size_t size = 0;
  std::size_t fd_count = 0;
};

/// One end of a pair of unnamed sockets that keep the bounds of packets and pass descriptors. No name in any
/// namespace, so nobody else can connect. Sending raises no SIGPIPE.
class ControlSocket {
 public:
  static constexpr std::size_t max_fds = 4;
  using Fds = std::array<Fd, max_fds>;

  ControlSocket() noexcept = default;
  explicit ControlSocket(Fd fd) noexcept : fd_(std::move(fd)) {}

  struct Pair;
  static Pair make_pair();

  int fd() const noexcept { return fd_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  void close() noexcept { fd_.reset(); }

  enum class Sent { yes, not_now, ended };

  /// Sends one packet with copies of up to max_fds descriptors, without waiting. Never allocates.
  Sent send(std::span<const std::byte> bytes, std::span<const int> fds = {}) noexcept {
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::byte space[CMSG_SPACE(sizeof(int) * max_fds)]{};
    if (!fds.empty()) {
      message.msg_control = space;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
    }
    const ssize_t sent =
        retried("sendmsg", [&] { return ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT); });
    if (sent >= 0) return Sent::yes;
    return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS ? Sent::not_now
                                                                                           : Sent::ended;
  }

  /// Receives one packet, without waiting. A packet with anything truncated is a violation; its descriptors are closed.
  Packet receive(std::span<std::byte> bytes, Fds& fds) noexcept {
    iovec part{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::byte space[CMSG_SPACE(sizeof(int) * max_fds)];
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    const ssize_t size =
        retried("recvmsg", [&] { return ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT); });
    if (size == 0) return {Packet::Outcome::ended, 0, 0};
    if (size < 0) {
      return {errno == EAGAIN ? Packet::Outcome::nothing_now : Packet::Outcome::ended, 0, 0};
    }
    std::size_t count = 0;
    bool fits = true;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      for (std::size_t at = 0; at < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++at) {
        int raw = -1;
        std::memcpy(&raw, CMSG_DATA(header) + at * sizeof(int), sizeof raw);
        if (count == max_fds) {
          close_descriptor(raw);
          fits = false;
          continue;
        }
        const int moved = raw > 2 ? raw : retried("fcntl", [&] { return ::fcntl(raw, F_DUPFD_CLOEXEC, 3); });
        if (moved != raw) close_descriptor(raw);
        if (moved >= 0) fds[count++] = Fd(moved);
      }
    }
    if (!fits || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
      for (Fd& fd : fds) fd.reset();
      const bool only_room = fits && (message.msg_flags & MSG_TRUNC) == 0 && count < max_fds;
      return {only_room ? Packet::Outcome::no_room : Packet::Outcome::violated, static_cast<std::size_t>(size), 0};
    }
    return {Packet::Outcome::received, static_cast<std::size_t>(size), count};
  }

 private:
  Fd fd_;
};

struct ControlSocket::Pair {
  ControlSocket host;
  ControlSocket server;
};

inline ControlSocket::Pair ControlSocket::make_pair() {
  int ends[2];
  checked("socketpair", [&] { return ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends); });
  Pair pair;
  pair.host = ControlSocket(own("socketpair", ends[0]));
  pair.server = ControlSocket(own("socketpair", ends[1]));
  return pair;
}

}  // namespace brood::detail
