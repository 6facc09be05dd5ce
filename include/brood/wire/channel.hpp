// SPDX-License-Identifier: MIT
// Channel: typed messages between the host and a task that runs.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/wire/channel_end.hpp>
#include <brood/wire/serializer.hpp>

namespace brood::inline v0_1 {

/// How large a channel may grow.
/// \snippet reference.cpp Channel::receive
struct ChannelOptions {
  /// How many bytes may be under way in each direction before send waits, as the kernel counts them: those of the messages
  /// and about 1 KiB more for each. The kernel rounds it, to at least some KiB and at most twice net.core.wmem_max; 0 is its
  /// default, about 200 KiB. One message may always be under way, however large.
  std::size_t capacity = 0;
  /// A message that is larger is refused where it is sent, and where it is received.
  std::uint64_t max_message_bytes = std::uint64_t{256} << 20;
};

/// One end of a channel: sends values of Out, and receives those of In, in the order in which the other end sends them. Pass an
/// end to a task as an argument of its own (std::move), and keep the other: the task can yield partial results and take orders
/// while it runs. void: nothing travels that way.
///
/// \snippet channels.cpp Channel
///
/// Both types must be Serializable; what a message has in it may be a Fd, or another Channel, too. An end is closed when it is
/// destroyed. With TaskOptions::retries the pool keeps a copy of the task's end until the task is resolved: a retry goes on with
/// the same channel, and the end is seen when no try is left.
///
/// One thread at a time may send and one may receive; both at once is fine. Each member throws WrongProcess in a copy of the
/// process whose end it is, and ChannelClosed when this end was closed or passed on. Under InlinePolicy a task runs inside of
/// submit: where it would wait for its channel for ever it throws ChannelDeadlock. Complexity: sending and
/// receiving are linear in the bytes of the value, all else is constant.
template <class Out, class In = Out>
class Channel {
  struct Nothing {};
  static constexpr bool sends = !std::is_void_v<Out>;
  static constexpr bool receives = !std::is_void_v<In>;

 public:
  /// What this end sends.
  using Sent = std::conditional_t<sends, Out, Nothing>;
  /// What this end receives.
  using Received = std::conditional_t<receives, In, Nothing>;

  /// No channel.
  Channel() noexcept = default;

  // internal
  explicit Channel(detail::ChannelEnd end) noexcept : end_(std::move(end)) {}

  /// Whether this end is open.
  explicit operator bool() const noexcept { return static_cast<bool>(end_); }

  /// Sends a value; waits as long as the capacity is used up. Throws ChannelClosed when nobody receives any more,
  /// SerializationError, MessageTooLarge.
  /// \snippet reference.cpp Channel::receive
  void send(const Sent& value)
    requires sends
  {
    write(value, End::forever);
  }
  /// The same without waiting. False: there was no room, and nothing was sent. A value of more than 64 KiB that has begun is sent
  /// to its end, for which this waits.
  bool try_send(const Sent& value)
    requires sends
  {
    return write(value, End::at_once);
  }
  /// The same with a bound for the wait.
  template <class Rep, class Period>
  bool send_for(const Sent& value, std::chrono::duration<Rep, Period> time)
    requires sends
  {
    return write(value, detail::end_of_wait(time));
  }

  /// The next value; waits for it. Nothing at the end: the other end was closed, or its process has ended, and all that it had
  /// sent whole was received. Throws SerializationError for bytes that are no In: the next call goes on behind them. Throws
  /// ProtocolError and MessageTooLarge for what is no message: that is the end.
  /// \snippet reference.cpp Channel::receive
  std::optional<Received> receive()
    requires receives
  {
    return read(End::forever);
  }
  /// The same without waiting: nothing when there is none now, or at the end.
  std::optional<Received> try_receive()
    requires receives
  {
    return read(End::at_once);
  }
  /// The same with a bound for the wait.
  template <class Rep, class Period>
  std::optional<Received> receive_for(std::chrono::duration<Rep, Period> time)
    requires receives
  {
    return read(detail::end_of_wait(time));
  }
  /// Whether a receive has found the end, or this end is closed.
  bool ended() const noexcept { return end_.ended(); }

  /// The other end sees the end of what this one sends; this one can still receive.
  void close_sending() { end_.close_sending(); }
  /// The other end sees the end, and can send no more. Does nothing when it is closed.
  void close() noexcept { end_.close(); }

  /// To be polled: readable when try_receive has something to do (a value, a part of one, or the end), writable when send would
  /// not wait. To be left alone otherwise. -1 when this end is closed.
  int descriptor() const noexcept { return end_.descriptor(); }

  /// Receives, value after value, until the end. An input iterator: there is one walk at a time.
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using iterator_category = std::input_iterator_tag;
    using value_type = Received;
    using difference_type = std::ptrdiff_t;
    using reference = Received&;
    using pointer = Received*;

    iterator() = default;
    explicit iterator(Channel& channel) : channel_(&channel) { ++*this; }
    iterator(iterator&&) = default;
    iterator& operator=(iterator&&) = default;

    Received& operator*() const noexcept { return *value_; }
    Received* operator->() const noexcept { return &*value_; }
    iterator& operator++() {
      value_ = channel_->receive();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) noexcept { return !it.value_; }

   private:
    Channel* channel_ = nullptr;
    mutable std::optional<Received> value_;
  };

  /// Receives the first value, and waits for it. Throws what receive() throws, as ++ does.
  iterator begin()
    requires receives
  {
    return iterator(*this);
  }
  /// The end of what the other end sends.
  std::default_sentinel_t end() const noexcept
    requires receives
  {
    return {};
  }

 private:
  friend struct Serializer<Channel>;
  using End = detail::ChannelEnd;

  bool write(const Sent& value, detail::ChannelClock::time_point until) {
    Writer out;
    std::vector<detail::Fd> descriptors;
    out.attach_to(&descriptors);
    out.value<Sent>(value);
    if (descriptors.size() > detail::descriptors_per_packet) {
      Writer::fail("a message of a channel has at most " + std::to_string(detail::descriptors_per_packet) + " descriptors");
    }
    return end_.send(out.view(), descriptors, until);
  }

  std::optional<Received> read(detail::ChannelClock::time_point until) {
    const std::optional<detail::Bytes> message = end_.receive(until);
    if (!message) return std::nullopt;
    detail::ListedDescriptors descriptors(&end_.descriptors());
    Reader in(message->view());
    in.with(&descriptors);
    std::optional<Received> value(in.value<Received>());
    in.finish();
    end_.drop_descriptors();
    return value;
  }

  End end_;
};

/// Ends of a channel whose messages go one way: `auto [mine, theirs] = brood::channel<void, Part>()` are a Receiver<Part> and a
/// Sender<Part>.
/// \snippet reference.cpp Sender
template <class T>
using Sender = Channel<T, void>;
/// The other end of a Sender.
/// \snippet reference.cpp Sender
template <class T>
using Receiver = Channel<void, T>;

/// A channel: an end that sends A and receives B, and one that sends B and receives A. Throws Error when there is no descriptor
/// for it. It takes two descriptors, one for each end.
/// \snippet reference.cpp Channel::receive
template <class A, class B = A>
std::pair<Channel<A, B>, Channel<B, A>> channel(ChannelOptions options = {}) {
  auto ends = detail::ChannelEnd::make_pair(options.capacity, options.max_message_bytes);
  return {Channel<A, B>(std::move(ends.first)), Channel<B, A>(std::move(ends.second))};
}

/// Its descriptor, and how large a message may be.
template <class Out, class In>
struct Serializer<Channel<Out, In>> {
  static void write(Writer& writer, const Channel<Out, In>& channel) {
    writer.number(static_cast<bool>(channel));
    if (!channel) return;
    writer.number(writer.attach(channel.descriptor()));
    writer.number(channel.end_.max_message_bytes());
    channel.end_.lend();
  }

  static Channel<Out, In> read(Reader& reader) {
    if (!reader.number<bool>()) return {};
    const auto place = reader.number<std::uint32_t>();
    const auto limit = reader.number<std::uint64_t>();
    detail::Fd socket = reader.descriptor(place);
    if (!detail::is_packet_socket(socket.get())) Reader::fail("the descriptor of a Channel is of another kind");
    return Channel<Out, In>(detail::ChannelEnd(std::move(socket), limit, reader.descriptors()->here()));
  }

  /// internal: it is in a task that runs in its caller.
  static void stay(Channel<Out, In>& channel) noexcept { channel.end_.set_inlined(); }
};

/// A copy of the host that runs a closure has no ends: they travel all the same.
template <class Out, class In>
inline constexpr bool detail::always_travels<Channel<Out, In>> = true;

}  // namespace brood
