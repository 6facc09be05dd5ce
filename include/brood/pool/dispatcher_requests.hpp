// SPDX-License-Identifier: MIT
// internal
// Dispatcher: what the pool asks for besides work.
#pragma once

#include <algorithm>

#include <brood/core/config.hpp>
#include <brood/core/loops.hpp>
#include <brood/pool/dispatcher.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

BROOD_INLINE bool Dispatcher::cancel(const TaskPtr& task) {
  if (task->resolved.load(std::memory_order_acquire)) return false;
  check_process("Future::cancel");
  Lock lock(mutex_);
  const bool done = cancel_locked(task);
  wake();
  run_callbacks(lock);
  return done;
}

BROOD_INLINE void Dispatcher::cancel_unstarted(const TaskPtr& task) {
  Lock lock(mutex_);
  const bool assigned = task->state == Task::State::assigned;
  if (cancel_unstarted_locked(task, "it was cancelled before it started") && assigned) after_answers(*slots_[task->slot]);
  wake();
  run_callbacks(lock);
}

/// The worker that had it, if any, is to be seen to with after_answers.
BROOD_INLINE bool Dispatcher::cancel_unstarted_locked(const TaskPtr& task, const std::string& why) {
  if (task->state == Task::State::resolved) return false;
  if (task->state == Task::State::assigned) {
    Slot& slot = *slots_[task->slot];
    if (!slot.revoke(*task)) return false;
    remove_assigned(slot, static_cast<std::size_t>(std::find(slot.assigned.begin(), slot.assigned.end(), task) -
                                                   slot.assigned.begin()));
    resolve(task, make_failure(FailureKind::cancelled, *task, why));
    return true;
  }
  resolve(task, make_failure(FailureKind::cancelled, *task, why));
  if (task->source == 0 && !task->delayed && ++tombstones_ > 64 && tombstones_ > queue_.size() / 2) {
    queue_.drop_resolved();
    tombstones_ = 0;
  }
  return true;
}

BROOD_INLINE bool Dispatcher::cancel_locked(const TaskPtr& task) {
  const bool assigned = task->state == Task::State::assigned;
  if (cancel_unstarted_locked(task, "it was cancelled before it started")) {
    if (assigned) after_answers(*slots_[task->slot]);
    return true;
  }
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

BROOD_INLINE void Dispatcher::end_early(std::span<const TaskPtr> chunks, std::chrono::milliseconds grace) {
  Lock lock(mutex_);
  const auto halt = [&](const TaskPtr& chunk) {  // no further item starts; the one that runs goes on
    if (chunk->state != Task::State::assigned) return;
    Slot& slot = *slots_[chunk->slot];
    drain(slot);
    if (chunk->state != Task::State::assigned || slot.assigned.empty() || slot.assigned.front() != chunk) return;
    revoke_unstarted(slot);
    if (slot.assigned.size() != 1) return;  // one behind it has started: it is at its end, and that one would be halted
    chunk->halted = true;
    slot.ends.status.page().halt_items();
  };
  for (const TaskPtr& chunk : chunks) {
    if (!cancel_unstarted_locked(chunk, "its stream was left before it had started")) halt(chunk);
  }
  for (std::size_t at = 0; at < slots_.size(); ++at) after_answers(*slots_[at]);
  const auto resolved = [](const TaskPtr& chunk) { return chunk->state == Task::State::resolved; };
  drive_until(lock, [&] { return all_of(chunks, resolved); }, time_after(grace));
  for (const TaskPtr& chunk : chunks) {
    if (!resolved(chunk)) cancel_locked(chunk);
  }
  wake();
  run_callbacks(lock);
  hand_over();
}

BROOD_INLINE void Dispatcher::close(Closing why) {
  const Lock lock(mutex_);
  closing_ = std::max(closing_, why);
}

BROOD_INLINE void Dispatcher::cancel_pending() {
  Lock lock(mutex_);
  cancel_queued("it was cancelled before it started");
  for (std::size_t at = 0; at < slots_.size(); ++at) after_answers(*slots_[at]);  // not before all are cancelled: it hands out
  wake();
  run_callbacks(lock);
}

BROOD_INLINE void Dispatcher::cancel_queued(const std::string& why) {
  std::vector<TaskPtr> waiting = queue_.all();
  for (const auto& source : sources_) {
    const std::vector<TaskPtr> its = source->queue.all();
    waiting.insert(waiting.end(), its.begin(), its.end());
  }
  for (const auto& slot : slots_) waiting.insert(waiting.end(), slot->assigned.begin(), slot->assigned.end());
  for (const auto& [due, task] : delayed_) waiting.push_back(task);
  for (const TaskPtr& task : waiting) cancel_unstarted_locked(task, why);
}

BROOD_INLINE void Dispatcher::kill() {
  Lock lock(mutex_);
  closing_ = std::max(closing_, Closing::killed);
  cancel_queued("the pool was killed before the task had started");
  each_slot([&](Slot& slot) {
    drain(slot);  // a result that was written whole wins
    if (slot.state() != SlotState::doomed) doom(slot, Doom::cancelled);
    while (!slot.assigned.empty()) {
      const TaskPtr task = slot.assigned.front();
      take_output(slot, *task);
      remove_assigned(slot, 0);
      resolve(task, make_failure(FailureKind::cancelled, *task, "the pool was killed while the task ran", &slot));
    }
  });
  if (kills_due_ != 0) hand_over();  // somebody must hear of those workers
  wake();
  run_callbacks(lock);
}

BROOD_INLINE PoolStats Dispatcher::stats() {
  poll();  // nobody may have listened
  Lock lock(mutex_);
  PoolStats stats;
  if (const Source* const source = find_source(main_source_)) {
    stats.server_pid = source->impl->server_pid();
  }
  stats.preloads = preloads_;
  stats.seed = seed_;
  stats.capacity = target_;
  const auto now = Clock::now();
  stats.bytes_sent = insight_.bytes_sent;
  stats.bytes_received = insight_.bytes_received;
  stats.worker_time = insight_.life;
  stats.busy_time = insight_.busy;
  std::vector<CallableName> callables;
  each_slot([&](Slot& slot) {
    stats.bytes_sent += slot.bytes_sent() + slot.lent_bytes;
    stats.bytes_received += slot.bytes_received;
    stats.worker_time += slot.life(now);
    const std::chrono::nanoseconds busy = busy_time(slot, now);
    stats.busy_time += busy;
    if (slot.pid == 0) return;
    WorkerStats worker;
    worker.pid = slot.pid;
    worker.index = number_of(slot);
    worker.tasks_done = slot.tasks_done;
    worker.started = slot.born;
    worker.busy = busy;
    CallableName callable;
    switch (slot.state()) {
      case SlotState::starting: worker.state = WorkerState::starting; break;
      case SlotState::ready:
        worker.state = slot.seat == Seat::spare ? WorkerState::spare : slot.assigned.empty() ? WorkerState::idle : WorkerState::busy;
        break;
      default: worker.state = WorkerState::stopping;
    }
    if (!slot.assigned.empty() && slot.has_started(*slot.assigned.front())) {
      Task& task = *slot.assigned.front();
      worker.task = task.id;
      worker.since = slot.start_of(task);
      slot.look_at_progress(task);
      worker.progress = task.progress;
      worker.items = task.items;
      worker.items_done = slot.items_done_of(task);
      callable = task.name;
      if (slot.state() == SlotState::starting) worker.state = WorkerState::busy;  // its hello is not read yet
      ++stats.running;
    }
    if (worker.state == WorkerState::spare) ++stats.spares;
    stats.workers.push_back(std::move(worker));
    callables.push_back(callable);
  });
  stats.workers_restarted = insight_.workers_restarted;
  stats.workers_recycled = insight_.workers_recycled;
  stats.servers_started = insight_.servers_started;
  stats.state = closing_ != Closing::open ? PoolState::closed : broken_ ? PoolState::broken : PoolState::running;
  if (broken_) stats.cause = text_of(broken_);
  stats.queued = outstanding_ - stats.running;
  stats.done = done_;
  stats.failed = failed_;
  stats.workers_started = workers_started_;
  stats.workers_died = workers_died_;
  lock.unlock();  // names are looked up in the program's symbols
  for (std::size_t at = 0; at < callables.size(); ++at) {
    if (stats.workers[at].task != 0) stats.workers[at].callable = callables[at].text();
  }
  std::sort(stats.workers.begin(), stats.workers.end(), [](const WorkerStats& one, const WorkerStats& other) {
    return std::pair(one.index, one.pid) < std::pair(other.index, other.pid);
  });
  return stats;
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
