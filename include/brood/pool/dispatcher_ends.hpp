// SPDX-License-Identifier: MIT
// internal
// Dispatcher: how a worker ends, and how a task is given up. On an end: drain, classify, resolve, replace.
#pragma once

#include <algorithm>

#include <brood/pool/dispatcher.hpp>
#include <brood/wire/reader.hpp>

namespace brood::detail {

// ---- ends ----------------------------------------------------------------------------------------------------------

inline void Dispatcher::retire(Slot& slot) {
  slot.move_to(SlotState::retiring);
  slot.deadline = time_after(options_.stop_grace);
  slot_timers_.emplace(slot.deadline, slot.index, slot.generation);
  FrameHeader header;
  header.type = FrameType::stop;
  slot.post(header, nullptr);
  flush(slot);
}

/// Lets a worker go that has run its share of tasks. Its place is free at once: the next one starts while it leaves.
inline void Dispatcher::recycle(Slot& slot) {
  const std::uint32_t place = slot.index;
  const std::uint64_t generation = slot.generation;
  retire(slot);
  leaving_.reserve(leaving_.size() + 1);
  auto fresh = std::make_unique<Slot>(place);
  fresh->generation = generation;
  leaving_.push_back(std::exchange(slots_[place], std::move(fresh)));
}

/// Kills a worker. What becomes of its task is decided when it has ended.
inline void Dispatcher::doom(Slot& slot, Doom why) {
  slot.move_to(SlotState::doomed);
  slot.doom = why;
  slot.deadline = Clock::now() + end_patience;
  slot_timers_.emplace(slot.deadline, slot.index, slot.generation);
  kill_process(slot);
}

inline void Dispatcher::kill_process(Slot& slot) {
  if (!slot.announced) return;  // as soon as it is
  if (slot.pidfd && !std::exchange(slot.watching_end, true)) {
    poller_.add(slot.pidfd.get(), EPOLLIN, tag(Tag::pidfd, slot.index, slot.generation));
  }
  if (slot.pidfd && signal_pidfd(slot.pidfd.get(), SIGKILL)) return;
  if (Source* const source = find_source(slot.source)) source->impl->kill(slot.ticket());
}

/// A time has passed: of a start, of leaving, or of ending after a kill.
inline void Dispatcher::overdue(Slot& slot) {
  switch (slot.state()) {
    case SlotState::starting:
      if (slot.lost) return doom(slot, Doom::lost);
      slot.start_cause = std::make_exception_ptr(LaunchError(
          "a worker (pid " + std::to_string(slot.pid) + ") was not up after " +
              std::to_string(options_.start_timeout.count()) +
              " ms (PoolOptions::start_timeout) and was killed; what do its start hook and its static constructors do?",
          "worker start", ETIMEDOUT));
      return doom(slot, Doom::start_overdue);
    case SlotState::retiring: return doom(slot, Doom::stop_overdue);
    case SlotState::doomed: {
      if (slot.announced && (slot.pidfd || ++slot.looks < max_looks)) {  // the kernel is still at work on it
        slot.deadline = Clock::now() + end_patience;
        slot_timers_.emplace(slot.deadline, slot.index, slot.generation);
        return;
      }
      // its server has not even said that it exists: a server that hangs is as good as dead
      const ExitStatus status = slot.pidfd ? status_from_pidfd(slot.pidfd.get()) : ExitStatus();
      Source* const source = find_source(slot.source);
      worker_ended(slot, status, 0);
      if (source != nullptr && source->state == Source::State::ready) {
        end_source(*source, std::make_exception_ptr(LaunchError("the server does not answer", "server", ETIMEDOUT)));
      }
      return;
    }
    case SlotState::ready:
      if (slot.lost) doom(slot, Doom::lost);
      return;
    case SlotState::vacant: return;
  }
}

/// Forgets a worker.
inline void Dispatcher::release_slot(Slot& slot) {
  while (!slot.assigned.empty()) remove_assigned(slot, slot.assigned.size() - 1);
  poller_.remove(slot.ends.results.get());
  if (slot.watching_out) poller_.remove(slot.ends.tasks.get());
  if (slot.pidfd) poller_.remove(slot.pidfd.get());
  Source* const source = find_source(slot.source);
  slot.clear();
  if (source != nullptr) --source->live;
}

inline void Dispatcher::worker_ended(Slot& slot, ExitStatus status, long peak_rss_kib) {
  drain(slot);
  const bool told_to = slot.state() == SlotState::retiring || slot.doom == Doom::stop_overdue;
  const bool cancelled = slot.doom == Doom::cancelled || slot.doom == Doom::timed_out;
  bool had_started = slot.tasks_done != 0 || slot.doom == Doom::violated;
  const std::deque<TaskPtr> left = slot.assigned;
  for (auto each = left.rbegin(); each != left.rend(); ++each) {
    if (slot.has_started(**each)) {
      had_started = true;
      resolve_dead(slot, *each, status, peak_rss_kib);
    } else if ((*each)->cancel_wanted) {
      resolve(*each, make_failure(FailureKind::cancelled, **each, "it was cancelled before it started"));
    } else {
      requeue(*each);
    }
  }
  const std::string who = slot.pid != 0 ? " (pid " + std::to_string(slot.pid) + ")" : "";
  std::exception_ptr cause = slot.start_cause;
  if (!cause) {
    cause = std::make_exception_ptr(
        LaunchError("a worker" + who + " " + status.describe() +
                        (slot.greeted ? " before it had run a task" : " before it was up; what do its start hook and, under "
                                                                      "SpawnPolicy, its static constructors do?"),
                    "worker start", 0));
  }
  const std::uint32_t source_id = slot.source;
  release_slot(slot);
  if (told_to) return;
  ++workers_died_;
  Source* const source = find_source(source_id);
  if (had_started || cancelled || source == nullptr || source->state == Source::State::ended) return;
  start_failed(*source, cause);
}

/// The results of a chunk's items that the worker had finished but not sent are in its log.
inline void Dispatcher::salvage_items(const Slot& slot, Task& task) {
  StatusPage& page = slot.ends.status.page();
  const std::uint64_t word = page.items_done.load(std::memory_order_acquire);
  const std::uint64_t done = word >> 32;
  const std::size_t used = word & 0xffffffff;
  if (used == 0 || used > StatusPage::log_capacity || done > task.items || done <= task.items_done) return;
  ResultBytes salvaged;
  salvaged.bytes.append(page.log(), used);
  // the log holds whole results, the last of them that of item done - 1: count them, then pass over those that were sent
  std::uint64_t count = 0;
  for (int pass = 0; pass < 2; ++pass) {
    Reader in(salvaged.bytes.view());
    try {
      const std::uint64_t skip = pass == 0 ? ~std::uint64_t{0} : task.items_done - (done - count);
      std::uint64_t seen = 0;
      while (in.remaining() != 0 && seen < skip) {
        in.raw(in.number<std::uint64_t>() >> 1);
        ++seen;
      }
      if (pass == 0) count = seen;
    } catch (const SerializationError&) {
      return;  // the worker has written over its log
    }
    if (count > done || done - count > task.items_done) return;
    salvaged.offset = salvaged.bytes.size() - in.remaining();
  }
  salvaged.first = task.items_done;
  salvaged.pid = slot.pid;
  salvaged.count = static_cast<std::uint32_t>(done) - task.items_done;
  task.items_done = static_cast<std::uint32_t>(done);
  task.results.push_back(std::move(salvaged));
}

/// A task whose worker ended under it.
inline void Dispatcher::resolve_dead(Slot& slot, const TaskPtr& task, ExitStatus status, long peak_rss_kib) {
  if (task->items != 0) {
    salvage_items(slot, *task);
    const std::uint64_t started = slot.ends.status.page().halt_items();
    if (task->items_done == task->items && !task->cancel_wanted) return resolve(task, std::nullopt);
    // between two items nothing was running: all that is left can run elsewhere. Before the first one the callable was
    // read; that may be what killed the worker, so it counts as the first item's
    if (task->items_done != 0 && started <= task->items_done && !task->cancel_wanted) return resolve(task, std::nullopt);
    task->item_failed = !task->cancel_wanted;
  }
  const bool killed = !status.known() || (status.signaled() && status.signal() == SIGKILL);
  const std::string item = task->items != 0 ? ", at item " + std::to_string(task->first_item + task->items_done) : "";
  FailureRecord record;
  record.task = task->id;
  record.pid = slot.pid;
  record.status = status;
  record.peak_rss_kib = peak_rss_kib;
  record.where = where(*task, &slot);
  if (task->cancel_wanted) {
    record.kind = FailureKind::cancelled;
    record.message = record.where + " was cancelled while it ran; its worker was killed";
  } else if (task->timed_out && killed) {
    record.kind = FailureKind::timeout;
    record.message = record.where + ": it ran longer than " + std::to_string(task->timeout / std::chrono::milliseconds(1)) +
                     " ms (TaskOptions::timeout, MapOptions::timeout or PoolOptions::task_timeout)" + item +
                     ", and was killed with its worker; only this task fails";
  } else {
    record.kind = FailureKind::worker_died;
    record.message = record.where + ": the worker " +
                     (slot.doom == Doom::lost && killed
                          ? std::string("closed its result pipe, or became another program, and was killed")
                                              : status.describe()) +
                     " while it ran the task" + item + "; only this task fails, the worker is replaced";
  }
  task->failure.emplace(std::move(record));
  if (task->retry_due() && task->items == 0) return run_again(task);
  resolve(task, std::exchange(task->failure, std::nullopt));
}

/// A single call whose worker died goes to the end of the queue.
inline void Dispatcher::run_again(const TaskPtr& task) {
  --task->retries;
  task->failure.reset();
  task->results.clear();
  task->state = Task::State::queued;
  Source* const source = task->source != 0 ? find_source(task->source) : nullptr;
  (source != nullptr ? source->queue : queue_).push_back(task);
}

// ---- what the pool asks for ----------------------------------------------------------------------------------------

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
