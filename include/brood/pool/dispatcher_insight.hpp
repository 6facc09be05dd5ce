// SPDX-License-Identifier: MIT
// internal
// Dispatcher: how far tasks have come.
#pragma once

#include <algorithm>

#include <brood/pool/dispatcher.hpp>

namespace brood::detail {

inline TaskProgress Dispatcher::progress_of(Task& task) {
  const Lock lock(mutex_);
  if (task.state == Task::State::assigned) slots_[task.slot]->look_at_progress(task);
  return task.progress;
}

/// Items that their worker has finished count before it has sent them: its log has their results, whatever becomes of it.
inline void Dispatcher::add_progress(std::span<const TaskPtr> chunks, Progress& progress) {
  const Lock lock(mutex_);
  for (const TaskPtr& task : chunks) {
    std::uint64_t done = task->items_done;
    if (task->state == Task::State::assigned) {
      const StatusPage& page = slots_[task->slot]->ends.status.page();
      const std::uint64_t finished = page.items_done.load(std::memory_order_acquire) >> 32;
      if (const auto told = page.progress.of(task->number)) {
        done = std::clamp<std::uint64_t>(finished, done, task->items);
        if (done < task->items) progress.running += told->share();
      }
    }
    progress.done += done;
  }
}

inline void Dispatcher::wait_all(const ProgressCallback& progress) {
  Lock lock(mutex_);
  ProgressTicker ticker(progress);
  const std::uint64_t before = done_ + failed_;
  const std::uint64_t failed_before = failed_;
  const auto tell = [&](bool finished) {
    Progress now;
    now.done = done_ + failed_ - std::min(before, done_ + failed_);
    now.failed = failed_ - failed_before;
    now.total = now.done + outstanding_;
    now.finished = finished;
    each_slot([&](Slot& slot) {
      if (slot.assigned.empty()) return;
      Task& task = *slot.assigned.front();
      slot.look_at_progress(task);
      if (task.items == 0) now.running += task.progress.share();
    });
    lock.unlock();
    ticker.tell(now);
    lock.lock();
  };
  if (ticker) tell(false);
  while (!drive_until(lock, [&] { return outstanding_ == 0 && callbacks_.empty(); }, ticker.next())) tell(false);
  if (ticker) tell(true);
}

}  // namespace brood::detail
