// SPDX-License-Identifier: MIT
// internal
// Dispatcher: how many places there are, and workers that leave because there is nothing for them to do.
//
// A pool may be made smaller while workers are in places that are no more. They move to a place below where one is free or its
// worker is idle, for a place is also the worker's number, and numbers stay below the number of workers; the others leave, the
// idle ones at once, the busy ones behind the task that they run.
#pragma once

#include <algorithm>

#include <brood/core/config.hpp>
#include <brood/core/loops.hpp>
#include <brood/pool/check_options.hpp>
#include <brood/pool/dispatcher.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

BROOD_INLINE void Dispatcher::resize(unsigned workers) {
  check_workers("Pool::resize", workers);
  Lock lock(mutex_);
  target_ = workers != 0 ? workers : usable_cpus();
  if (policy_.runs_inline || shut_down_) return;
  for (std::size_t at = 0; at < slots_.size(); ++at) {
    Slot& slot = *slots_[at];
    if (slot.surplus && slot.place < target_) {
      slot.surplus = false;
      after_answers(slot);
    }
  }
  supervise();
  wake();  // a driver looks at its timers, a map at how many chunks it may have in flight
  hand_over();
  run_callbacks(lock);
}

BROOD_INLINE void Dispatcher::settle_places() {
  const std::size_t most = target_;
  for (Places& places : places_) {
    std::vector<Slot*>& slots = places.slots;
    for (std::size_t place = slots.size(); place-- > most;) {
      if (slots[place] != nullptr) clear_place(places, *slots[place]);
    }
    while (slots.size() > most && slots.back() == nullptr) slots.pop_back();
  }
}

/// The place of this worker is no more.
BROOD_INLINE void Dispatcher::clear_place(Places& places, Slot& slot) {
  if (slot.state() == SlotState::starting) {  // its start hook was told its number
    revoke_unstarted(slot, 0);
    slot.surplus = true;
    if (slot.assigned.empty()) recycle(slot);
    return;
  }
  if (slot.state() != SlotState::ready) return;  // its end clears it
  const auto first = places.slots.begin();
  const auto end = first + target_;
  auto below = std::find(first, end, nullptr);
  if (below == end && !slot.idle()) {
    below = find_where(first, end, [](const Slot* each) { return each->idle(); });
    if (below != end) recycle(**below);
  }
  if (below != end) {
    *below = &slot;
    places.slots[slot.place] = nullptr;
    slot.place = static_cast<std::uint32_t>(below - first);
    slot.surplus = false;
    revoke_unstarted(slot, 0);  // they were sent with its old number
    return after_answers(slot);
  }
  if (!std::exchange(slot.surplus, true)) revoke_unstarted(slot, 0);
  if (slot.assigned.empty()) recycle(slot);
}

// ---- idle workers ----------------------------------------------------------------------------------------------------

/// The worker has nothing to do from now on. Its timer is left alone as long as there is one: tasks come and go quickly.
BROOD_INLINE void Dispatcher::note_idle(Slot& slot) {
  slot.idle_since = Clock::now();
  if (slot.idle_until != Clock::time_point::max()) return;
  set_timer(slot, &Slot::idle_until, time_after(options_.idle_timeout));
  if (slot.idle_until >= next_leave_) return;
  next_leave_ = slot.idle_until;
  if (helpers_parked_ != 0) helper_cv_.notify_one();
}

/// The timer of an idle worker: it leaves if it was idle all the time.
BROOD_INLINE void Dispatcher::check_idle(Slot& slot) {
  set_timer(slot, &Slot::idle_until, Clock::time_point::max());
  if (!slot.idle()) return;  // it is noted again when it is
  const Clock::time_point due = slot.idle_since + options_.idle_timeout;
  if (due > Clock::now()) return set_timer(slot, &Slot::idle_until, due);
  recycle(slot);
}

BROOD_INLINE void Dispatcher::find_next_leave() noexcept {
  next_leave_ = Clock::time_point::max();
  for (const auto& slot : slots_) next_leave_ = std::min(next_leave_, slot->idle_until);
}

/// Whether a worker has been idle for so long, most likely, that it is to leave.
BROOD_INLINE bool Dispatcher::leave_due() const noexcept {
  return next_leave_ != Clock::time_point::max() && !shut_down_ && next_leave_ <= Clock::now();
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
