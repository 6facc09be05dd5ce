// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <condition_variable>

namespace brood::inline v0_1::detail {

/// The driver's place of a pool, for as long as it lives. Made and destroyed with the pool's lock held.
class DriverSeat {
 public:
  DriverSeat(bool& taken, const unsigned& followers, std::condition_variable& followers_cv) noexcept
      : taken_(taken), followers_(followers), followers_cv_(followers_cv) {
    taken_ = true;
  }
  DriverSeat(const DriverSeat&) = delete;
  DriverSeat& operator=(const DriverSeat&) = delete;
  ~DriverSeat() {
    taken_ = false;
    if (followers_ != 0) followers_cv_.notify_all();
  }

 private:
  bool& taken_;
  const unsigned& followers_;
  std::condition_variable& followers_cv_;
};

}  // namespace brood::detail
