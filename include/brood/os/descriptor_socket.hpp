// SPDX-License-Identifier: MIT
// internal
// How descriptors get from one process to another: in packets over a pair of sockets. Two processes that have no such pair yet
// get one in one of two ways: one takes the other's descriptor (pidfd_getfd), or connects to a name that the other has. The
// first needs the right to look into that process, the second a network namespace in common.
#pragma once

#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// The most that one message can have.
inline constexpr std::size_t max_descriptors = 4096;

/// The kernel's bound for one packet (SCM_MAX_FD).
inline constexpr std::size_t descriptors_per_packet = 253;

/// In front of each packet. `secret` tells who sends it.
struct DescriptorPacket {
  std::uint64_t secret = 0;
  std::uint32_t all = 0;  ///< descriptors in the whole message
  std::uint32_t unused = 0;
};

/// One end of a pair of sockets that descriptors are sent through, or a socket that such a connection is made to.
inline Fd make_packet_socket() {
  return own("socket", retried("socket", [] { return ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }));
}

/// Two connected ones.
inline std::pair<Fd, Fd> make_packet_pair() {
  int ends[2];
  checked("socketpair", [&] { return ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends); });
  std::pair<Fd, Fd> pair;
  pair.first = Fd(ends[0]);
  pair.second = Fd(ends[1]);
  for (Fd* const each : {&pair.first, &pair.second}) {
    if (each->get() <= 2) *each = duplicate(each->get());  // those are stdio's
  }
  return pair;
}

/// Whether a descriptor is a socket whose packets arrive whole, from a process of this machine.
inline bool is_packet_socket(int fd) noexcept {
  const auto asked = [fd](int what) {
    int value = 0;
    socklen_t size = sizeof value;
    return tried("getsockopt", [&] { return ::getsockopt(fd, SOL_SOCKET, what, &value, &size); }) == 0 ? value : -1;
  };
  return asked(SO_DOMAIN) == AF_UNIX && asked(SO_TYPE) == SOCK_SEQPACKET;
}

/// How many bytes may wait in a socket, as the kernel counts them. Throws SystemError.
inline std::size_t send_buffer(int socket) {
  int bytes = 0;
  socklen_t size = sizeof bytes;
  checked("getsockopt", [&] { return ::getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, &size); });
  return bytes > 0 ? static_cast<std::size_t>(bytes) : 0;
}
inline void set_send_buffer(int socket, std::size_t bytes) {
  const int wanted = static_cast<int>(std::min(bytes, std::size_t{1} << 30));
  checked("setsockopt", [&] { return ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted); });
}

/// For all who have a descriptor of the socket, and for the other end.
inline void shut_down(int socket, int how) noexcept {
  tried("shutdown", [&] { return ::shutdown(socket, how); });
}

/// Waits until a descriptor is ready. False when the time is over. Throws SystemError.
inline bool wait_ready(int fd, short events, std::chrono::steady_clock::time_point until) {
  using Clock = std::chrono::steady_clock;
  for (;;) {
    int timeout = -1;
    if (until != Clock::time_point::max()) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
      timeout = static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
    }
    pollfd watched{fd, events, 0};
    const int count = tried("poll", [&] { return ::poll(&watched, 1, timeout); });
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) throw SystemError("poll", errno);
    if (until != Clock::time_point::max() && Clock::now() >= until) return false;
  }
}

/// A name that the kernel makes up: a zero, then five hexadecimal digits. It is gone when its socket is.
class SocketName {
 public:
  static constexpr std::size_t length = 5;

  explicit SocketName(std::uint64_t word) noexcept : word_(word) {}

  /// Gives the socket a name, and has it take connections. Throws SystemError.
  static SocketName listen(int socket) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    checked("bind", [&] { return ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address.sun_family); });
    checked("listen", [&] { return ::listen(socket, 16); });
    socklen_t size = sizeof address;
    checked("getsockname", [&] { return ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size); });
    std::uint64_t word = 0;
    std::memcpy(&word, address.sun_path + 1, length);
    return SocketName(word);
  }

  /// Throws SystemError.
  Fd connect() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, &word_, length);
    constexpr auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
    Fd socket = make_packet_socket();
    checked("connect", [&] { return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), size); });
    return socket;
  }

  std::uint64_t word() const noexcept { return word_; }

 private:
  std::uint64_t word_;
};

/// A number that nobody guesses.
inline std::uint64_t make_secret() noexcept {
  std::uint64_t secret = 0;
  const ssize_t size = retried("getrandom", [&] { return ::getrandom(&secret, sizeof secret, GRND_NONBLOCK); });
  if (size == sizeof secret && secret != 0) return secret;
  return reinterpret_cast<std::uintptr_t>(&secret) ^ (static_cast<std::uint64_t>(::getpid()) << 40) ^ 0x9e3779b97f4a7c15U;
}

/// A copy of a descriptor of another process. Throws SystemError.
inline Fd descriptor_of(int pidfd, int number) {
  const long fd = retried("pidfd_getfd", [&] { return ::syscall(SYS_pidfd_getfd, pidfd, number, 0U); });
  return own("pidfd_getfd", static_cast<int>(fd));
}

/// Sends one packet, with copies of descriptors, without waiting and without SIGPIPE. Returns 0 or an errno.
inline int send_packet(int socket, std::span<const iovec> parts, std::span<const Fd> fds, int flags = MSG_DONTWAIT) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * descriptors_per_packet)> space;
  if (!fds.empty()) {
    const std::size_t bytes = sizeof(int) * fds.size();
    std::fill_n(space.begin(), CMSG_SPACE(bytes), std::byte{0});
    message.msg_control = space.data();
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    for (std::size_t at = 0; at < fds.size(); ++at) {
      const int fd = fds[at].get();
      std::memcpy(CMSG_DATA(header) + at * sizeof(int), &fd, sizeof fd);
    }
  }
  const ssize_t sent = retried("sendmsg", [&] { return ::sendmsg(socket, &message, MSG_NOSIGNAL | flags); });
  return sent >= 0 ? 0 : errno;
}

/// What one packet brought.
struct PacketRead {
  std::size_t size = 0;
  int error = 0;        ///< an errno: EAGAIN when there is none now, EMFILE when its descriptors found no number here
  bool cut = false;     ///< it was longer than there was room for
};

/// Receives one packet without waiting; its descriptors, closed on exec, are put behind `fds`. A packet of no bytes is the end.
/// May throw std::bad_alloc before it takes anything.
inline PacketRead receive_packet(int socket, std::span<const iovec> parts, std::vector<Fd>& fds, bool wants_fds = true) {
  if (wants_fds) fds.reserve(fds.size() + descriptors_per_packet);
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * descriptors_per_packet)> space;
  if (wants_fds) {
    message.msg_control = space.data();
    message.msg_controllen = space.size();
  }
  const ssize_t size = retried("recvmsg", [&] { return ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT); });
  if (size < 0) return {0, errno, false};
  PacketRead read{static_cast<std::size_t>(size), 0, (message.msg_flags & MSG_TRUNC) != 0};
  if (wants_fds && (message.msg_flags & MSG_CTRUNC) != 0) read.error = EMFILE;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; at < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++at) {
      int raw = -1;
      std::memcpy(&raw, CMSG_DATA(header) + at * sizeof(int), sizeof raw);
      const int moved = raw > 2 ? raw : retried("fcntl", [&] { return ::fcntl(raw, F_DUPFD_CLOEXEC, 3); });
      if (moved != raw) close_descriptor(raw);
      if (moved < 0) read.error = EMFILE;
      if (moved >= 0) fds.push_back(Fd(moved));
    }
  }
  return read;
}

/// Sends descriptors, any number of them up to max_descriptors, also none. Does not wait. Throws SystemError.
inline void send_descriptors(int socket, std::uint64_t secret, std::span<const Fd> fds) {
  const DescriptorPacket header{secret, static_cast<std::uint32_t>(fds.size()), 0};
  const iovec part{const_cast<DescriptorPacket*>(&header), sizeof header};
  do {
    const auto some = fds.first(std::min(fds.size(), descriptors_per_packet));
    const int error = send_packet(socket, {&part, 1}, some);
    if (error != 0) throw SystemError("sendmsg", error);
    fds = fds.subspan(some.size());
  } while (!fds.empty());
}

/// Receives what send_descriptors has sent before. Does not wait. Nothing when it was not sent, or not by who has the secret.
/// Throws SystemError: EMFILE when there are no numbers for them here.
inline std::optional<std::vector<Fd>> receive_descriptors(int socket, std::uint64_t secret) {
  std::vector<Fd> fds;
  for (;;) {
    DescriptorPacket header;
    const iovec part{&header, sizeof header};
    const std::size_t before = fds.size();
    const PacketRead read = receive_packet(socket, {&part, 1}, fds);
    if (read.error == EMFILE) throw SystemError("recvmsg", EMFILE);
    if (read.error != 0 || read.cut || read.size != sizeof header || header.secret != secret) return std::nullopt;
    if (header.all > max_descriptors || fds.size() > header.all) return std::nullopt;
    if (fds.size() == header.all) return fds;
    if (fds.size() == before) return std::nullopt;
  }
}

}  // namespace brood::detail
