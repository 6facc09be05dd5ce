// SPDX-License-Identifier: MIT
// Time that passes only when the target says so, and no threads: a target that includes this (in its only source file)
// runs the same way each time, waits for nothing, and a wait that nothing would end is a finding and not a hang.
// The target is linked with --wrap=epoll_wait and --wrap=poll, and defines the two functions of fuzz::world.
#pragma once

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

#include <chrono>
#include <system_error>
#include <thread>

#include "support.hpp"

namespace fuzz::world {

/// Does one thing that may end a wait. False when there is nothing left to do.
bool step();
/// Zero before the first input.
inline std::chrono::nanoseconds now{};

inline unsigned looks = 0;

inline void start() {
  now = std::chrono::hours(1);
  looks = 0;
}
inline void pass(std::chrono::nanoseconds time) { now += time; }

/// Waits by letting the world go on; when it has nothing to do any more, time passes.
template <class Look>
int wait(Look look, int timeout_ms) {
  const auto until = now + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    const int ready = look();
    require(++looks < 100'000, "the host is busy without end");
    if (ready != 0 || timeout_ms == 0) return ready;
    if (timeout_ms > 0 && now >= until) return 0;
    if (step()) continue;
    if (timeout_ms < 0) fail("a wait that nothing will end");
    now = until;
  }
}

}  // namespace fuzz::world

std::chrono::steady_clock::time_point std::chrono::steady_clock::now() noexcept {
  return time_point(fuzz::world::now);
}

/// None to be had, but for the fuzzer itself.
void std::thread::_M_start_thread(_State_ptr state, void (*)()) {
  const auto run = [](void* argument) -> void* {
    _State_ptr(static_cast<_State*>(argument))->_M_run();
    return nullptr;
  };
  if (fuzz::world::now != fuzz::world::now.zero() || ::pthread_create(&_M_id._M_thread, nullptr, run, state.get()) != 0) {
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
  }
  static_cast<void>(state.release());
}

extern "C" {
int __real_epoll_wait(int epoll, epoll_event* events, int count, int timeout);
int __real_poll(pollfd* watched, nfds_t count, int timeout);

int __wrap_epoll_wait(int epoll, epoll_event* events, int count, int timeout) {
  return fuzz::world::wait([&] { return __real_epoll_wait(epoll, events, count, 0); }, timeout);
}
int __wrap_poll(pollfd* watched, nfds_t count, int timeout) {
  return fuzz::world::wait([&] { return __real_poll(watched, count, 0); }, timeout);
}
}
