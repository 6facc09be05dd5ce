// SPDX-License-Identifier: MIT
// internal
// Dispatcher: what workers print.
#pragma once

#include <string>

#include <brood/core/config.hpp>
#include <brood/pool/dispatcher.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

/// Reads what a worker has printed. A read that is refused is tried once more; then something may be lost, and the output says
/// so, once in a row. Whoever comes next tries again: a pipe that nobody reads would stop the worker in its next print.
BROOD_INLINE void Dispatcher::read_output(Slot& slot) {
  if (!slot.ends.output) return;
  for (const bool last : {false, true}) {
    try {
      if (slot.receive_output()) poller_.remove(slot.ends.output.get());
      return;
    } catch (const SystemError& error) {
      if (last) slot.output.append_once(std::string("[brood could not read here: ") + error.what() + "]\n");
    }
  }
}

/// The same between tasks or in one. What comes between two tasks is nobody's; what comes before the first one is the start
/// hook's.
BROOD_INLINE void Dispatcher::hear_output(Slot& slot) {
  read_output(slot);
  if (slot.greeted && slot.assigned.empty()) slot.output.clear();
}

/// The task has come to its end: what it has printed is in the pipe by now, for a worker flushes before it answers, and gets
/// its next task after that.
BROOD_INLINE void Dispatcher::take_output(Slot& slot, Task& task) {
  if (!slot.ends.output) return;
  read_output(slot);
  task.output = slot.output.take();
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
