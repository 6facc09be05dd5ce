// SPDX-License-Identifier: MIT
// internal
// Dispatcher: how far tasks have come, what is logged and traced.
#pragma once

#include <algorithm>

#include <brood/core/config.hpp>
#include <brood/pool/dispatcher.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

BROOD_INLINE TaskProgress Dispatcher::progress_of(Task& task) {
  const Lock lock(mutex_);
  if (task.state == Task::State::assigned) slots_[task.slot]->look_at_progress(task);
  return task.progress;
}

/// Items that their worker has finished count before it has sent them: its log has their results, whatever becomes of it.
BROOD_INLINE void Dispatcher::add_progress(std::span<const TaskPtr> chunks, Progress& progress) {
  const Lock lock(mutex_);
  for (const TaskPtr& task : chunks) {
    std::uint64_t done = task->items_done;
    if (task->state == Task::State::assigned) {
      const Slot& slot = *slots_[task->slot];
      done = slot.items_done_of(*task);
      const auto told = slot.ends.status.page().progress.of(task->number);
      if (told && done < task->items) progress.running += told->share();
    }
    progress.done += done;
  }
}

BROOD_INLINE void Dispatcher::wait_all(const ProgressCallback& progress) {
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

// ---- stats -----------------------------------------------------------------------------------------------------------

/// What of its life a worker has spent on tasks, the one that runs among them.
BROOD_INLINE std::chrono::nanoseconds Dispatcher::busy_time(Slot& slot, Clock::time_point now) {
  std::chrono::nanoseconds busy = slot.busy_time(now);
  if (!slot.assigned.empty() && slot.has_started(*slot.assigned.front())) {
    busy += std::max(now - slot.start_of(*slot.assigned.front()), Clock::duration(0));
  }
  return std::min(busy, slot.life(now));
}

// ---- log and trace ---------------------------------------------------------------------------------------------------

/// Gives away what was noted, without the lock.
BROOD_INLINE void Dispatcher::deliver(Lock& lock) {
  while (insight_.pending()) {
    if (insight_.has_events() && !policy_.runs_inline) hand_over();  // nothing waits for the hook to return
    Insight::Batch batch = insight_.take();
    lock.unlock();
    insight_.deliver(batch);
    lock.lock();
    insight_.delivered(batch);
  }
}

BROOD_INLINE std::string Dispatcher::who(const Slot& slot) {
  const std::string kind = slot.snapshot ? "closure worker " : slot.seat == Seat::spare ? "spare worker " : "worker ";
  return kind + std::to_string(slot.place) + (slot.pid != 0 ? " (pid " + std::to_string(slot.pid) + ")" : "");
}

/// The task that a worker runs, in words; empty when it runs none.
BROOD_INLINE std::string Dispatcher::doing(const Slot& slot) {
  if (slot.assigned.empty() || !slot.has_started(*slot.assigned.front())) return {};
  return slot.assigned.front()->text();
}

/// The worker's row in the trace.
BROOD_INLINE std::uint32_t Dispatcher::row_of(const Slot& slot) {
  constexpr std::uint32_t apart = 1'000'000;  // there are no more places
  const bool spare = slot.seat == Seat::spare;
  const std::uint32_t row = (slot.snapshot ? apart : spare ? 2 * apart : 0) + slot.place + 1;
  const std::string kind = slot.snapshot ? "closure worker " : spare ? "spare worker " : "worker ";
  insight_.trace()->name_row(row, kind + std::to_string(slot.place));
  return row;
}

BROOD_INLINE void Dispatcher::note_up(const Slot& slot) noexcept try {
  const auto now = Clock::now();
  if (insight_.logs()) {
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(slot.life(now)).count();
    insight_.log(LogLevel::info, who(slot) + " is up, after " + std::to_string(us) + " us");
  }
  if (Trace* const trace = insight_.trace()) {
    trace->complete(row_of(slot), "start", "worker", slot.born, now,
                    TraceArgs().add("pid", static_cast<std::uint64_t>(slot.pid)));
  }
} catch (const std::exception&) {  // no memory: it is not noted
}

/// `ran`: the task that it ran.
BROOD_INLINE void Dispatcher::note_end(const Slot& slot, ExitStatus status, bool told_to, const std::string& ran) noexcept try {
  if (!insight_.logs() && insight_.trace() == nullptr) return;
  const auto why = [&]() -> std::string {
    switch (slot.doom) {
      case Doom::none: return "";
      case Doom::cancelled: return ", because the task was cancelled or the pool killed";
      case Doom::violated: return ", because of what it had sent";
      case Doom::stuck: return ", because it took no more tasks";
      case Doom::lost: return ", because it had closed its result pipe";
      case Doom::timed_out: return ", because the task had passed its deadline";
      case Doom::start_overdue: return ", because it was not up after PoolOptions::start_timeout";
      case Doom::stop_overdue: return ", because it did not leave within PoolOptions::stop_grace";
    }
    return "";
  }();
  const std::string how = status.describe() + why;
  const bool left = told_to && slot.doom == Doom::none;
  if (insight_.logs()) {
    insight_.log(left ? LogLevel::info : LogLevel::warning,
                 who(slot) + (left ? " has left" : " " + how + (ran.empty() ? "" : " while it ran " + ran)));
  }
  if (Trace* const trace = insight_.trace()) {
    TraceArgs args;
    args.add("pid", static_cast<std::uint64_t>(slot.pid)).add("how", how);
    trace->instant(row_of(slot), left ? "left" : "death", "worker", Clock::now(), args);
  }
} catch (const std::exception&) {
}

BROOD_INLINE void Dispatcher::note_server(LogLevel level, const char* event, const std::string& text) noexcept try {
  insight_.log(level, text);
  if (Trace* const trace = insight_.trace()) trace->instant(0, event, "server", Clock::now(), TraceArgs().add("what", text));
} catch (const std::exception&) {
}

BROOD_INLINE const char* name_of(FailureKind kind) noexcept {
  switch (kind) {
    case FailureKind::exception: return "exception";
    case FailureKind::worker_died: return "worker died";
    case FailureKind::timeout: return "timeout";
    case FailureKind::cancelled: return "cancelled";
    case FailureKind::launch: return "launch";
    case FailureKind::preload: return "preload";
    case FailureKind::closed: return "closed";
    case FailureKind::protocol: return "protocol";
    case FailureKind::serialization: return "serialization";
    case FailureKind::too_large: return "too large";
    case FailureKind::image_mismatch: return "image mismatch";
  }
  return "unknown";
}

/// A task is about to be resolved, or to be run again. `slot`: where it was assigned; null when it was not.
BROOD_INLINE void Dispatcher::note_task(const Task& task, const std::optional<Failure>& failure, const Slot* slot) noexcept try {
  Trace& trace = *insight_.trace();
  const auto now = Clock::now();
  const std::string& name = trace.name_of(task.name);
  const bool started = policy_.runs_inline || (slot != nullptr && slot->has_started(task));
  Clock::time_point start = now;
  if (policy_.runs_inline) {
    start -= std::chrono::nanoseconds(static_cast<std::int64_t>(task.run_ns));
  } else if (started) {
    const auto ns = static_cast<std::uint64_t>(now.time_since_epoch().count());
    const StatusPage& page = slot->ends.status.page();
    const std::uint64_t guess = task.run_ns != 0 ? ns - std::min(ns, task.run_ns) : std::min(ns, page.started_ns.load());
    const std::uint64_t told = std::min(ns, page.start_near(task.number, guess));
    start = std::max(slot->born, Clock::time_point(std::chrono::nanoseconds(static_cast<std::int64_t>(told))));
  }
  trace.wait(name, task.id, task.queued_at, start);
  std::uint64_t answer = task.pull ? total_size(task.pull->message().blocks) : 0;
  for (std::size_t at = 0; at < task.results.size(); ++at) answer += task.results[at].view().size();
  TraceArgs args;
  args.add("id", task.id).add("outcome", failure ? name_of(failure->kind()) : "value");
  args.add("bytes_sent", task.charged).add("bytes_received", answer);
  if (task.items != 0) args.add("items", task.items).add("items_done", task.items_done);
  if (slot != nullptr) args.add("pid", static_cast<std::uint64_t>(slot->pid));
  if (failure) args.add("message", failure->message());
  if (!started) return trace.instant(0, name, "task", now, args);
  const auto run = std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(task.run_ns, ~std::uint64_t{0} >> 1)));
  const auto end = task.run_ns != 0 ? std::min(now, start + std::min<std::chrono::nanoseconds>(run, now - start)) : now;
  if (policy_.runs_inline) trace.name_row(1, "callers");
  trace.complete(policy_.runs_inline ? 1 : row_of(*slot), name, task.items != 0 ? "map" : "task", start, end, args);
} catch (const std::exception&) {
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
