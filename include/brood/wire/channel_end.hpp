// SPDX-License-Identifier: MIT
// internal
// One end of a channel, in bytes: messages travel as packets of a socket pair, which arrive whole and in order or not at all.
// So what a process that is killed has half sent is a message without its end, which is told from a whole one, and no byte of it
// gets into the next. The packets are a stranger's: sizes are checked before memory is asked for.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <brood/core/bytes.hpp>
#include <brood/core/errors.hpp>
#include <brood/os/descriptor_socket.hpp>
#include <brood/wire/channel_packets.hpp>

namespace brood::inline v0_1::detail {

using ChannelClock = std::chrono::steady_clock;

/// The time at which a wait of this length ends.
template <class Rep, class Period>
ChannelClock::time_point end_of_wait(std::chrono::duration<Rep, Period> time) {
  constexpr auto longest = std::chrono::hours(24 * 365);
  const auto now = ChannelClock::now();
  return time > longest ? ChannelClock::time_point::max() : now + std::chrono::ceil<ChannelClock::duration>(time);
}

class ChannelEnd {
 public:
  static constexpr auto forever = ChannelClock::time_point::max();
  static constexpr auto at_once = ChannelClock::time_point::min();

  ChannelEnd() noexcept = default;
  ChannelEnd(ChannelEnd&&) noexcept = default;
  ChannelEnd& operator=(ChannelEnd&& other) noexcept {
    ChannelEnd taken(std::move(other));
    close();
    socket_ = std::move(taken.socket_);
    packets_ = std::move(taken.packets_);
    room_ = std::move(taken.room_);
    descriptors_ = std::move(taken.descriptors_);
    owner_ = taken.owner_;
    payload_ = taken.payload_;
    lent_ = taken.lent_;
    inlined_ = taken.inlined_;
    ended_ = taken.ended_;
    return *this;
  }
  ~ChannelEnd() { close(); }

  /// Both ends. Throws SystemError.
  static std::pair<ChannelEnd, ChannelEnd> make_pair(std::size_t capacity, std::uint64_t max_message_bytes) {
    auto sockets = make_packet_pair();
    for (const Fd* const each : {&sockets.first, &sockets.second}) {
      if (capacity != 0) set_send_buffer(each->get(), capacity);
    }
    return {ChannelEnd(std::move(sockets.first), max_message_bytes), ChannelEnd(std::move(sockets.second), max_message_bytes)};
  }

  /// Precondition: is_packet_socket.
  ChannelEnd(Fd socket, std::uint64_t max_message_bytes, bool inlined = false)
      : socket_(std::move(socket)), packets_(max_message_bytes), inlined_(inlined) {
    constexpr std::size_t kernels = 64;  // it keeps some of the buffer for itself
    payload_ = std::min(max_packet, std::max(send_buffer(socket_.get()), 1024 + kernels) - kernels) - sizeof(ChannelPacket);
  }

  explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
  int descriptor() const noexcept { return socket_.get(); }
  bool ended() const noexcept { return ended_ || !socket_; }
  std::uint64_t max_message_bytes() const noexcept { return packets_.limit(); }

  /// It is about to be another process's as well: that this copy is closed says nothing to the peer.
  void lend() const noexcept { lent_ = true; }
  /// It is used by a task that runs in its caller.
  void set_inlined() noexcept { inlined_ = true; }

  /// The peer gets no more than was sent.
  void close_sending() {
    require("close_sending");
    shut(SHUT_WR);
  }

  /// The peer sees the end. A copy of the process that made or got it must not say that for it.
  void close() noexcept {
    if (!socket_) return;
    if (::getpid() != owner_) return socket_.forget();
    if (!lent_) shut(SHUT_RDWR);
    socket_.reset();
  }

  /// Sends a message. False when its first packet finds no room in time; the others are waited for. Throws ChannelClosed.
  bool send(std::span<const std::byte> message, std::span<const Fd> fds, ChannelClock::time_point until) {
    require("send");
    if (message.size() > packets_.limit()) {
      throw MessageTooLarge("a message of " + std::to_string(message.size()) + " bytes is too large for its channel " +
                            "(ChannelOptions::max_message_bytes is " + std::to_string(packets_.limit()) + ")");
    }
    std::size_t sent = 0;
    do {
      const auto part = message.subspan(sent, std::min(message.size() - sent, payload_));
      ChannelPacket header;
      header.kind = sent == 0 ? ChannelPacket::Kind::first : ChannelPacket::Kind::more;
      header.size = sent == 0 ? message.size() : sent;
      const iovec parts[] = {{&header, sizeof header}, {const_cast<std::byte*>(part.data()), part.size()}};
      if (!send_one(parts, sent == 0 ? fds : std::span<const Fd>(), sent == 0 ? until : forever)) return false;
      sent += part.size();
    } while (sent < message.size());
    return true;
  }

  /// The next message, and its descriptors; nothing when there is none in time, or at the end (ended()). Throws ProtocolError
  /// or MessageTooLarge when the peer has sent what it may not: then the channel is closed.
  std::optional<Bytes> receive(ChannelClock::time_point until) {
    require("receive");
    if (room_.size() == 0) room_.extend(max_packet);
    while (!ended_) {
      const iovec part{room_.data(), max_packet};
      if (!packets_.in_message()) descriptors_.clear();
      const PacketRead read = receive_packet(socket_.get(), {&part, 1}, descriptors_);
      if (read.error == ECONNRESET) continue;  // the peer went without reading all; what it has sent is there still
      if (read.error == EAGAIN || read.error == ENOMEM || read.error == ENOBUFS) {
        if (!may_wait("receive", POLLIN, until)) return std::nullopt;
        continue;
      }
      if (read.error == 0 && read.size == 0) {
        ended_ = true;  // of a message that was cut nothing is told
        break;
      }
      try {
        if (read.error != 0) throw SystemError("recvmsg", read.error);
        if (read.cut) throw ProtocolError("a channel got a packet that is longer than any may be");
        if (descriptors_.size() > descriptors_per_packet) throw ProtocolError("a channel got more descriptors than a message has");
        if (packets_.feed(room_.view().first(read.size))) return packets_.take();
      } catch (const Error&) {
        ended_ = true;
        descriptors_.clear();
        shut(SHUT_RDWR);
        throw;
      }
    }
    return std::nullopt;
  }
  const std::vector<Fd>& descriptors() const noexcept { return descriptors_; }
  void drop_descriptors() noexcept { descriptors_.clear(); }

 private:
  static constexpr std::size_t max_packet = std::size_t{64} << 10;

  void require(const char* call) const {
    const std::string what = std::string("Channel::") + call + ": ";
    if (!socket_) throw ChannelClosed(what + "this end was closed, moved from, or passed to a task");
    if (::getpid() == owner_) return;
    throw WrongProcess(what + "process " + std::to_string(::getpid()) + " is a copy of process " + std::to_string(owner_) +
                       ", whose end of the channel it is; pass the end to the task as an argument of its own, not as a capture, "
                       "a global, or a part of an argument of a closure");
  }

  void shut(int how) noexcept { shut_down(socket_.get(), how); }

  bool send_one(std::span<const iovec> parts, std::span<const Fd> fds, ChannelClock::time_point until) {
    for (;;) {
      const int error = send_packet(socket_.get(), parts, fds);
      switch (error) {
        case 0: return true;
        case EAGAIN:
        case ENOBUFS:
        case ENOMEM:
          if (!may_wait("send", POLLOUT, until)) return false;
          break;
        case EPIPE:
        case ECONNRESET:
        case ENOTCONN:
          throw ChannelClosed("Channel::send: nobody receives any more: the other end was closed, or its process has ended");
        default: throw SystemError("sendmsg", error);
      }
    }
  }

  bool may_wait(const char* call, short events, ChannelClock::time_point until) const {
    if (until == at_once) return false;
    if (inlined_ && until == forever) {
      throw ChannelDeadlock(std::string("Channel::") + call + " would wait for ever: under InlinePolicy the task runs inside of "
                            "submit, so the host can't " + (events == POLLIN ? "send" : "receive") +
                            " meanwhile. Send before submit what the task is to receive, use try_" + call + " or " + call +
                            "_for in the task, or a policy that has workers");
    }
    return wait_ready(socket_.get(), events, until);
  }

  Fd socket_;
  ChannelPackets packets_;
  Bytes room_;
  std::vector<Fd> descriptors_;  ///< of the message that is arriving, or has arrived
  pid_t owner_ = ::getpid();
  std::size_t payload_ = 0;
  mutable bool lent_ = false;
  bool inlined_ = false;
  bool ended_ = false;
};

}  // namespace brood::detail
