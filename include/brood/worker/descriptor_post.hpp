// SPDX-License-Identifier: MIT
// internal
// How a worker gets the descriptors of its task and sends those of its result. The pipes carry none, and a connection that each
// worker had would cost all that need none. So it is made when a task asks for a first descriptor, and closed when it has
// answered: what the host has sent for one task can't get into another, and nothing stays open behind it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <brood/os/descriptor_socket.hpp>
#include <brood/os/foreign_memory.hpp>
#include <brood/wire/descriptors.hpp>
#include <brood/wire/frame.hpp>
#include <brood/wire/status_page.hpp>
#include <brood/worker/item_log.hpp>
#include <brood/worker/leave.hpp>

namespace brood::inline v0_1::detail {

class DescriptorPost final : public DescriptorSource, public ItemDescriptors {
 public:
  DescriptorPost(StatusPage& page, int results, const PipeIdentity& identity) noexcept
      : page_(page), results_(results), identity_(identity) {}

  /// Closes all that nobody took.
  void end() noexcept {
    connection_.reset();
    connected_ = false;
    lost_ = EPROTO;
    incoming_.clear();
    outgoing_.clear();
    sent_ = 0;
  }

  Fd take(std::uint32_t number) override {
    connect();
    if (number >= incoming_.size()) no_such_descriptor(number, incoming_.size());
    if (!incoming_[number]) throw SerializationError("bytes can't be decoded: they name a descriptor twice");
    return std::move(incoming_[number]);
  }

  std::vector<Fd>* outgoing() noexcept { return &outgoing_; }

  /// Sends what the result has: before the answer. Returns how many that were.
  std::uint32_t send() override {
    if (outgoing_.empty()) return sent_;
    connect();
    try {
      if (!connection_) refused(lost_);
      send_descriptors(connection_.get(), 0, outgoing_);
    } catch (const SystemError& error) {
      lost_ = error.code().value();
      if (outgoing_.size() > descriptors_per_packet) connection_.reset();  // a part was sent: no further item's may follow it
      if (lost_ == EPIPE) lost_ = EMFILE;  // the host has closed its end, which it does for want of numbers
      throw SerializationError(std::string("the descriptors of a result can't be sent to the host: ") + error.what() +
                               (lost_ == EMFILE ? "; it has reached its limit of open files (ulimit -n)" : ""));
    }
    sent_ = static_cast<std::uint32_t>(outgoing_.size());
    outgoing_.clear();
    return sent_;
  }

  void announce() noexcept override {
    page_.post.store(static_cast<std::uint32_t>(Post::sent), std::memory_order_relaxed);  // the frame that follows says so
  }

  void wait_until_taken() noexcept override {
    constexpr auto announced = static_cast<std::uint32_t>(Post::sent);
    while (page_.post.load(std::memory_order_acquire) == announced) wait_for_change(page_.post, announced);
  }

 private:
  using Post = StatusPage::Post;
  static constexpr auto asked = static_cast<std::uint32_t>(Post::asked);

  void connect() {
    if (connected_) return;
    connected_ = true;  // one try: the host answers no further one
    const std::uint64_t secret = make_secret();
    page_.post_secret.store(secret, std::memory_order_relaxed);
    try {
      auto [mine, hosts] = make_packet_pair();
      page_.post_end.store(hosts.get(), std::memory_order_relaxed);
      if (ask() == Post::taken) {
        if (!try_receive(std::move(mine), secret)) refused(EPROTO);
        return;
      }
      mine.reset();
      hosts.reset();
      const Fd listener = make_packet_socket();
      page_.post_name.store(SocketName::listen(listener.get()).word(), std::memory_order_relaxed);
      ask();
      page_.post_name.store(0, std::memory_order_relaxed);
      accept(listener, secret);
    } catch (const SystemError& error) {
      refused(lost_ = error.code().value());
    }
  }

  /// Throws SystemError when the host refuses.
  Post ask() {
    page_.post.store(asked, std::memory_order_release);
    FrameHeader header;
    header.type = FrameType::post;
    header.task = page_.task.load(std::memory_order_relaxed);
    identity_.require();
    if (!write_all(results_, std::as_bytes(std::span(&header, 1)))) leave(0);
    std::uint32_t answer = asked;
    while ((answer = page_.post.load(std::memory_order_acquire)) == asked) wait_for_change(page_.post, asked);
    if ((answer & StatusPage::post_refused) == 0) return static_cast<Post>(answer);
    throw SystemError("connect", static_cast<int>(answer & (StatusPage::post_refused - 1)));
  }

  /// Anybody may connect to a name: only the host knows the secret.
  void accept(const Fd& listener, std::uint64_t secret) {
    for (;;) {
      const int fd = retried("accept4", [&] {
        return ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      });
      if (fd < 0 && errno != ECONNABORTED) throw SystemError("accept4", errno);
      if (fd >= 0 && try_receive(own("accept4", fd), secret)) return;
    }
  }

  bool try_receive(Fd connection, std::uint64_t secret) {
    auto all = receive_descriptors(connection.get(), secret);
    if (!all) return false;
    incoming_ = std::move(*all);
    connection_ = std::move(connection);
    return true;
  }

  [[noreturn]] static void refused(int error) {
    throw SerializationError("the descriptors of a task or of its result can't travel between host and worker: " +
                             std::generic_category().message(error) +
                             (error == EMFILE || error == ENFILE || error == ETOOMANYREFS
                                  ? "; raise the limit of open files (ulimit -n), or send fewer at a time"
                                  : "; the host takes one end of a pair of sockets by pidfd_getfd(2), or connects to a name "
                                    "of the worker's, which needs a network namespace in common: both were refused"));
  }

  StatusPage& page_;
  int results_;
  const PipeIdentity& identity_;
  Fd connection_;
  bool connected_ = false;  ///< or was tried
  int lost_ = EPROTO;       ///< why there is no connection after all
  std::vector<Fd> incoming_;
  std::vector<Fd> outgoing_;
  std::uint32_t sent_ = 0;
};

}  // namespace brood::detail
