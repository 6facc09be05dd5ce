// SPDX-License-Identifier: MIT
// internal
// Dispatcher: what the pool asks for besides work.
#pragma once

#include <algorithm>

#include <brood/pool/dispatcher.hpp>

namespace brood::detail {

inline bool Dispatcher::cancel(const TaskPtr& task) {
  if (task->resolved.load(std::memory_order_acquire)) return false;
  check_process("Future::cancel");
  Lock lock(mutex_);
  const bool done = cancel_locked(task);
  wake();
  run_callbacks(lock);
  return done;
}

inline void Dispatcher::cancel_unstarted(const TaskPtr& task) {
  Lock lock(mutex_);
  cancel_unstarted_locked(task);
  wake();
  run_callbacks(lock);
}

inline bool Dispatcher::cancel_unstarted_locked(const TaskPtr& task) {
  if (task->state == Task::State::resolved) return false;
  if (task->state == Task::State::assigned) {
    Slot& slot = *slots_[task->slot];
    if (!slot.revoke(*task)) return false;
    remove_assigned(slot, static_cast<std::size_t>(std::find(slot.assigned.begin(), slot.assigned.end(), task) -
                                                   slot.assigned.begin()));
    resolve(task, make_failure(FailureKind::cancelled, *task, "it was cancelled before it started"));
    after_answers(slot);
    return true;
  }
  resolve(task, make_failure(FailureKind::cancelled, *task, "it was cancelled before it started"));
  if (++tombstones_ > 64 && tombstones_ > queue_.size() / 2) {
    std::erase_if(queue_, [](const TaskPtr& each) { return each->state == Task::State::resolved; });
    tombstones_ = 0;
  }
  return true;
}

inline bool Dispatcher::cancel_locked(const TaskPtr& task) {
  if (cancel_unstarted_locked(task)) return true;
  if (task->state == Task::State::resolved) return false;
  Slot& slot = *slots_[task->slot];
  // it runs, or has run: take back what is behind it, so that the kill can't hit another task
  revoke_unstarted(slot);
  drain(slot);
  if (task->state == Task::State::resolved || slot.assigned.empty() || slot.assigned.front() != task) {
    after_answers(slot);
    return false;
  }
  task->cancel_wanted = true;
  if (slot.state() != SlotState::doomed) doom(slot, Doom::cancelled);
  return true;
}

inline void Dispatcher::close() {
  const Lock lock(mutex_);
  closed_ = true;
}

inline void Dispatcher::cancel_pending() {
  Lock lock(mutex_);
  cancel_queued();
  wake();
  run_callbacks(lock);
}

inline void Dispatcher::cancel_queued() {
  std::vector<TaskPtr> waiting(queue_.begin(), queue_.end());
  for (const auto& source : sources_) waiting.insert(waiting.end(), source->queue.begin(), source->queue.end());
  for (const auto& slot : slots_) waiting.insert(waiting.end(), slot->assigned.begin(), slot->assigned.end());
  for (const TaskPtr& task : waiting) cancel_unstarted_locked(task);
}

inline void Dispatcher::kill() {
  Lock lock(mutex_);
  closed_ = true;
  cancel_queued();
  each_slot([&](Slot& slot) {
    drain(slot);  // a result that was written whole wins
    while (!slot.assigned.empty()) {
      const TaskPtr task = slot.assigned.front();
      remove_assigned(slot, 0);
      resolve(task, make_failure(FailureKind::cancelled, *task, "the pool was killed while it ran", &slot));
    }
    if (slot.state() != SlotState::doomed) doom(slot, Doom::cancelled);
  });
  wake();
  run_callbacks(lock);
}

inline PoolStats Dispatcher::stats() {
  Lock lock(mutex_);
  if (!driving_ && !shut_down_ && !policy_.runs_inline) {  // hear what has happened since anybody listened
    const DriverSeat seat(*this);
    turn(lock, Clock::now());
  }
  run_callbacks(lock);
  PoolStats stats;
  if (const Source* const source = find_source(main_source_)) {
    stats.server_pid = source->impl->server_pid();
  }
  stats.preloads = preloads_;
  each_slot([&](const Slot& slot) {
    if (slot.pid == 0) return;
    WorkerStats worker;
    worker.pid = slot.pid;
    worker.index = slot.index % target_;
    worker.tasks_done = slot.tasks_done;
    switch (slot.state()) {
      case SlotState::starting: worker.state = WorkerState::starting; break;
      case SlotState::ready: worker.state = slot.assigned.empty() ? WorkerState::idle : WorkerState::busy; break;
      default: worker.state = WorkerState::stopping;
    }
    if (!slot.assigned.empty() && slot.has_started(*slot.assigned.front())) {
      worker.task = slot.assigned.front()->id;
      if (slot.state() == SlotState::starting) worker.state = WorkerState::busy;  // its hello is not read yet
      ++stats.running;
    }
    stats.workers.push_back(worker);
  });
  stats.queued = outstanding_ - stats.running;
  stats.done = done_;
  stats.failed = failed_;
  stats.workers_started = workers_started_;
  stats.workers_died = workers_died_;
  return stats;
}

}  // namespace brood::detail
