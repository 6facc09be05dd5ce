// SPDX-License-Identifier: MIT
// internal
// Dispatcher: for those who drive it from outside. They see its descriptor, the poller's, which is readable when
// - a worker or a server has something to say: level-triggered, the kernel's affair;
// - a timer is due: `alarm_` is set to the next one whenever the driver's place has been given up, and after each call that may
//   have changed it;
// - something is to be done that no descriptor tells of (a large result is half read, spare workers are missing): the bell rings.
#pragma once

#include <brood/core/config.hpp>
#include <brood/pool/dispatcher.hpp>

namespace brood::inline v0_1::detail {

template <class Done>
bool Dispatcher::drive(Done done, Clock::time_point deadline) {
  check_process("wait");
  Lock lock(mutex_);
  return drive_until(lock, done, deadline);
}

template <class Done>
bool Dispatcher::drive_until(Lock& lock, Done done, Clock::time_point deadline) {
  bool in_time = true;
  while (!done()) {
    if (deadline != Clock::time_point::max() && Clock::now() >= deadline) {
      in_time = false;
      break;
    }
    if (!driving_) {
      try {
        const DriverSeat seat(driving_, followers_, followers_cv_);
        turn(lock, deadline);
      } catch (...) {
        hand_over();
        throw;
      }
    } else {
      if (helper_drives_) bell_.ring();
      ++followers_;
      if (deadline == Clock::time_point::max()) {
        followers_cv_.wait(lock);
      } else {
        followers_cv_.wait_until(lock, deadline);
      }
      --followers_;
    }
    run_callbacks(lock);
  }
  hand_over();
  return in_time;
}

#if BROOD_BODIES

BROOD_INLINE void Dispatcher::kick() noexcept {
  const Lock lock(mutex_);
  wake();
}

BROOD_INLINE int Dispatcher::descriptor() const {
  check_process("Pool::descriptor");
  if (alarm_) return poller_.fd();
  throw Error("Pool::descriptor: this pool is driven by a thread of its own; make it with PoolOptions::helper_thread = false");
}

/// One turn that does not wait.
BROOD_INLINE std::size_t Dispatcher::poll() {
  Lock lock(mutex_);
  const std::uint64_t before = resolutions_;
  if (!driving_ && !shut_down_ && !policy_.runs_inline) {
    try {
      const DriverSeat seat(driving_, followers_, followers_cv_);
      turn(lock, Clock::now());
    } catch (...) {
      hand_over();
      throw;
    }
  }
  run_callbacks(lock);
  hand_over();
  return resolutions_ - before;
}

/// Without a helper thread: sees to it that the descriptor tells of what is to be done. A driver does so when it leaves.
BROOD_INLINE void Dispatcher::arm() noexcept {
  if (!alarm_ || driving_) return;
  const bool spares_due = spares_missing() && leaving_ <= target_ && std::max(retry_at_, spare_retry_at_) <= Clock::now();
  const bool due = spares_due || !pulls_.empty() || !callbacks_.empty();
  if (!alarm_->set(next_timer()) || due) bell_.ring();
}

#endif  // BROOD_BODIES

}  // namespace brood::detail
