// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>

#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// An epoll(7) set. The cost of a wait grows with what is ready, not with what is watched.
class Poller {
 public:
  using Event = ::epoll_event;

  Poller() : epoll_(own("epoll_create1", retried("epoll_create1", [] { return ::epoll_create1(EPOLL_CLOEXEC); }))) {}

  void add(int fd, std::uint32_t events, std::uint64_t tag) { control(EPOLL_CTL_ADD, fd, events, tag); }
  void change(int fd, std::uint32_t events, std::uint64_t tag) { control(EPOLL_CTL_MOD, fd, events, tag); }

  /// Must come before the descriptor is closed: a copy of it in another process would keep it in the set.
  void remove(int fd) noexcept {
    tried("epoll_ctl", [&] { return ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); });
  }

  /// Waits until something is ready or the time is over (negative: without end). Returns what is ready.
  std::span<Event> wait(std::span<Event> events, std::chrono::nanoseconds timeout) {
    int milliseconds = -1;
    if (timeout >= std::chrono::nanoseconds::zero()) {
      const auto rounded = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
      milliseconds = rounded > 60'000 ? 60'000 : static_cast<int>(rounded);
    }
    const int count = tried("epoll_wait", [&] {
      return ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), milliseconds);
    });
    if (count >= 0) return events.first(static_cast<std::size_t>(count));
    if (errno == EINTR) return {};
    throw SystemError("epoll_wait", errno);
  }

  int fd() const noexcept { return epoll_.get(); }

 private:
  void control(int operation, int fd, std::uint32_t events, std::uint64_t tag) {
    Event event{};
    event.events = events;
    event.data.u64 = tag;
    checked("epoll_ctl", [&] { return ::epoll_ctl(epoll_.get(), operation, fd, &event); });
  }

  Fd epoll_;
};

/// Wakes a thread that sleeps in Poller::wait. Can't fill up: rings that nobody has heard count as one.
class Bell {
 public:
  Bell() : fd_(own("eventfd", retried("eventfd", [] { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }))) {}

  void ring() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto count = retried("write", [&] { return ::write(fd_.get(), &one, sizeof one); });
  }
  void hush() noexcept {
    std::uint64_t rings;
    [[maybe_unused]] const auto count = retried("read", [&] { return ::read(fd_.get(), &rings, sizeof rings); });
  }
  int fd() const noexcept { return fd_.get(); }

 private:
  Fd fd_;
};

/// A descriptor that becomes readable at a time of the steady clock.
class Alarm {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Alarm()
      : fd_(own("timerfd_create",
                retried("timerfd_create", [] { return ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK); }))) {}

  /// Time::max(): never. Costs nothing when that is what it is set to. False when the kernel refuses.
  bool set(Time when) noexcept {
    if (when == set_) return true;
    ::itimerspec wanted{};
    if (when != Time::max()) {
      // no time at all would be never
      const auto since = std::max<std::chrono::nanoseconds>(std::chrono::nanoseconds(1), when.time_since_epoch());
      wanted.it_value.tv_sec = since / std::chrono::seconds(1);
      wanted.it_value.tv_nsec = (since % std::chrono::seconds(1)).count();
    }
    const int failed =
        retried("timerfd_settime", [&] { return ::timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &wanted, nullptr); });
    if (failed == 0) set_ = when;
    return failed == 0;
  }

  /// It has rung: it is not readable any more, and not set.
  void hush() noexcept {
    std::uint64_t times;
    [[maybe_unused]] const auto count = retried("read", [&] { return ::read(fd_.get(), &times, sizeof times); });
    if (count > 0) set_ = Time::max();
  }
  int fd() const noexcept { return fd_.get(); }

 private:
  Fd fd_;
  Time set_ = Time::max();
};

}  // namespace brood::detail
