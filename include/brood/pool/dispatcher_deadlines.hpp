// SPDX-License-Identifier: MIT
// internal
// Dispatcher: tasks that run for too long, and tasks that their worker does not start.
#pragma once

#include <brood/core/config.hpp>
#include <brood/pool/dispatcher.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

/// Sees to it that the first task is looked at when its deadline has come. One that has not started can't be late before
/// its whole time has passed from now.
BROOD_INLINE void Dispatcher::watch_deadline(Slot& slot) {
  if (slot.assigned.empty() || slot.assigned.front()->timeout.count() == 0) return;
  const Task& task = *slot.assigned.front();
  const Clock::time_point due = (slot.has_started(task) ? slot.start_of(task) : Clock::now()) + task.timeout;
  if (slot.task_check > due) set_timer(slot, &Slot::task_check, due);
}

/// Kills the worker if the task, or the item, that it runs has passed its deadline. What is behind it is taken back, and
/// a chunk is halted, before that is decided: the kill can't hit anything else.
BROOD_INLINE void Dispatcher::check_deadline(Slot& slot) {
  set_timer(slot, &Slot::task_check, Clock::time_point::max());
  if (slot.has_output() && !slot.watching_out) flush(slot);
  if (slot.state() != SlotState::starting && slot.state() != SlotState::ready) return;
  const auto late = [&] {
    if (slot.assigned.empty()) return false;
    const Task& task = *slot.assigned.front();
    return task.timeout.count() != 0 && slot.has_started(task) && slot.start_of(task) + task.timeout <= Clock::now();
  };
  if (late()) {
    revoke_unstarted(slot);
    Task& task = *slot.assigned.front();
    if (task.items != 0 && slot.assigned.size() == 1) {  // one behind it that has started would be halted in its place
      task.halted = true;
      slot.ends.status.page().halt_items();
    }
    drain(slot);
    if (slot.state() == SlotState::doomed) return;
    if (late()) {
      slot.assigned.front()->timed_out = true;
      return doom(slot, Doom::timed_out);
    }
  }
  watch_deadline(slot);
  after_answers(slot);
}

/// Looks, once in a while, for tasks that wait for a worker that does not take them: it is stopped, or a task has left it
/// in a state in which it takes none. They run elsewhere, and it is replaced. A call that is still being sent is no such.
BROOD_INLINE void Dispatcher::patrol() {
  for (std::size_t at = 0; at < slots_.size(); ++at) {
    Slot& slot = *slots_[at];
    if (slot.state() != SlotState::ready || slot.assigned.empty() || slot.has_started(*slot.assigned.front())) {
      slot.looks_at_unstarted = 0;
      continue;
    }
    const std::pair seen(slot.assigned.front()->number, slot.bytes_sent());
    if (std::exchange(slot.unstarted, seen) != seen) slot.looks_at_unstarted = 0;
    if (++slot.looks_at_unstarted <= max_looks) continue;
    revoke_unstarted(slot, 0);
    if (slot.assigned.empty()) {
      doom(slot, Doom::stuck);
    } else if (!slot.has_started(*slot.assigned.front())) {  // neither started nor to be taken back
      violated(slot, FailureKind::protocol, "that a task was taken back which was not");
    }
  }
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
