// SPDX-License-Identifier: MIT
// internal
// Dispatcher: how a worker ends. On an end: drain, classify, resolve, replace.
//
// An end is seen by the worker's pidfd, or by the end of its result pipe; how it came about is known when its server
// reports it. A server that is stopped or slow must not keep a task from being resolved, so each of these steps is
// waited for in bounded time, and without the report the cause is unknown.
#pragma once

#include <algorithm>

#include <brood/core/config.hpp>
#include <brood/pool/dispatcher.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

BROOD_INLINE void Dispatcher::retire(Slot& slot) {
  slot.move_to(SlotState::retiring);
  slot.told_to_leave = true;
  set_timer(slot, &Slot::deadline, time_after(options_.stop_grace));
  if (slot.parted && !options_.on_worker_stop) return;  // its hook waits for the word: what that prints is not its last task's
  FrameHeader header;
  header.type = FrameType::stop;
  slot.post(header, nullptr);
  flush(slot);
}

/// Lets a worker go that has run its share of tasks, or is not needed any more. Its place is free at once: the next one starts
/// while it leaves.
BROOD_INLINE void Dispatcher::recycle(Slot& slot) {
  if (used_up(slot)) {
    ++insight_.workers_recycled;
    if (insight_.logs()) {
      insight_.log(LogLevel::info, who(slot) + " is replaced, after " + std::to_string(slot.tasks_done) + " tasks: " +
                                       (slot.full ? "it has more memory than PoolOptions::memory_per_worker"
                                                  : "it has had its share (PoolOptions::tasks_per_worker, TaskOptions::limits)"));
    }
  }
  retire(slot);
  free_place(slot);
}

/// The worker is on its way out: its seat is another's from now on.
BROOD_INLINE void Dispatcher::free_place(Slot& slot) {
  if (slot.seat == Seat::none) return;
  leave_seat(slot);
  ++leaving_;
}

/// Kills a worker. What becomes of its task is decided when it has ended.
BROOD_INLINE void Dispatcher::doom(Slot& slot, Doom why) {
  slot.move_to(SlotState::doomed);
  slot.doom = why;
  const bool outcome_known = why == Doom::cancelled || why == Doom::timed_out;
  set_timer(slot, &Slot::deadline, Clock::now() + (outcome_known ? kill_patience : end_patience));
  if (!slot.announced) ++kills_due_;
  kill_process(slot);
}

/// Precondition: it has a pidfd. The server kills the group too when it reaps the worker; but the server may be gone.
BROOD_INLINE bool Dispatcher::signal_kill(const Slot& slot) const noexcept {
  if (options_.kill_tree) signal_group_of_pidfd(slot.pidfd.get(), SIGKILL);
  return signal_pidfd(slot.pidfd.get(), SIGKILL);
}

BROOD_INLINE void Dispatcher::kill_process(Slot& slot) {
  if (!slot.announced) return;  // as soon as it is
  if (slot.pidfd && signal_kill(slot)) return;
  if (Source* const source = find_source(slot.source)) source->impl->kill(slot.ticket());
}

/// The process of a worker has ended. Its server tells how, if it lives.
BROOD_INLINE void Dispatcher::end_seen(Slot& slot) {
  if (slot.gone) return;
  slot.gone = true;
  poller_.remove(slot.pidfd.get());
  if (slot.last_given) drain(slot, true);
  if (slot.parted && slot.state() == SlotState::ready) recycle(slot);  // it has left as it should
  const Source* const source = find_source(slot.source);
  if (source == nullptr || source->state == Source::State::ended) {
    signal_kill(slot);  // what it has started
    return worker_ended(slot, seen_status(slot), 0);
  }
  if (slot.state() != SlotState::doomed) slot.move_to(SlotState::doomed);
  set_timer(slot, &Slot::deadline, Clock::now() + report_patience);
}

/// How a worker ended of which no server can tell any more.
BROOD_INLINE ExitStatus Dispatcher::seen_status(const Slot& slot) noexcept {
  if (!slot.pidfd) return {};
  const ExitStatus status = reap_adopted(slot.pidfd.get());
  return status.known() ? status : status_from_pidfd(slot.pidfd.get());
}

/// A time has passed: of a start, of leaving, or of ending after a kill.
BROOD_INLINE void Dispatcher::overdue(Slot& slot) {
  set_timer(slot, &Slot::deadline, Clock::time_point::max());
  switch (slot.state()) {
    case SlotState::starting: {
      receive(slot);  // nobody may have listened since it came up
      if (slot.state() != SlotState::starting) return;
      if (slot.lost) return doom(slot, Doom::lost);
      const std::string hook = hook_that_runs(slot);
      slot.start_cause = std::make_exception_ptr(LaunchError(
          "a worker (pid " + std::to_string(slot.pid) + ") was not up after " +
              std::to_string(options_.start_timeout.count()) +
              " ms (PoolOptions::start_timeout) and was killed" +
              (hook.empty() ? "; what do its static constructors do?" : " in " + hook),
          "worker start", ETIMEDOUT));
      return doom(slot, Doom::start_overdue);
    }
    case SlotState::retiring: return doom(slot, Doom::stop_overdue);
    case SlotState::ready:
      if (slot.lost) return doom(slot, Doom::lost);
      if (slot.announced) return;
      // it works, but its server hangs in the middle of its start: without a pidfd nobody would see it end
      if (++slot.looks < max_looks) return set_timer(slot, &Slot::deadline, Clock::now() + end_patience);
      slot.looks = 0;
      slot.start_cause = std::make_exception_ptr(LaunchError(
          "the server did not tell of a worker (pid " + std::to_string(slot.pid) + ") that it had started", "server", ETIMEDOUT));
      return doom(slot, Doom::start_overdue);
    case SlotState::doomed: return end_overdue(slot);
    case SlotState::vacant: return;
  }
}

/// A worker that should have ended has not, or its server has not said so.
BROOD_INLINE void Dispatcher::end_overdue(Slot& slot) {
  if (slot.gone) return worker_ended(slot, seen_status(slot), 0);
  if (slot.pidfd && has_ended(slot.pidfd.get())) return end_seen(slot);  // the watch on it was refused
  const bool outcome_known = slot.doom == Doom::cancelled || slot.doom == Doom::timed_out;
  if (outcome_known || slot.looks != 0) abandon(slot);
  ++slot.looks;
  const bool waited = slot.doom == Doom::start_overdue && !slot.announced;  // for a whole start_timeout already
  if (slot.pidfd || (!waited && slot.looks < max_looks)) {  // the kernel is still at work on it, or the server
    return set_timer(slot, &Slot::deadline, Clock::now() + end_patience);
  }
  // its server does not say that it exists, or does not kill it: a server that hangs is as good as dead
  Source* const source = find_source(slot.source);
  worker_ended(slot, {}, 0);
  if (source != nullptr && source->state == Source::State::ready) {
    end_source(*source, std::make_exception_ptr(LaunchError("the server does not answer", "server", ETIMEDOUT)));
  }
}

/// Gives up on a worker that does not end although it was killed: its tasks are resolved as those of a dead one, and its
/// place is free. The worker itself is waited for.
BROOD_INLINE void Dispatcher::abandon(Slot& slot) {
  if (std::exchange(slot.abandoned, true)) return;
  settle(slot, {}, 0);
  slot.receiving = false;
  poller_.remove(slot.ends.results.get());
  free_place(slot);
}

/// Forgets a worker.
BROOD_INLINE void Dispatcher::release_slot(Slot& slot) {
  while (!slot.assigned.empty()) remove_assigned(slot, slot.assigned.size() - 1);
  set_timer(slot, &Slot::deadline, Clock::time_point::max());
  set_timer(slot, &Slot::task_check, Clock::time_point::max());
  set_timer(slot, &Slot::idle_until, Clock::time_point::max());
  if (!slot.lost) poller_.remove(slot.ends.results.get());
  if (slot.ends.output) poller_.remove(slot.ends.output.get());
  if (slot.watching_out) poller_.remove(slot.ends.tasks.get());
  if (slot.pidfd && !slot.gone) poller_.remove(slot.pidfd.get());
  if (options_.kill_tree && slot.pidfd) signal_group_of_pidfd(slot.pidfd.get(), SIGKILL);  // also without its server
  if (slot.doom != Doom::none && !slot.announced) --kills_due_;
  insight_.count_ended(slot, Clock::now());
  Source* const source = find_source(slot.source);
  if (slot.seat == Seat::none) --leaving_;
  leave_seat(slot);
  slot.clear();
  vacant_.push_back(slot.index);
  if (source != nullptr) --source->live;
}

/// The user's code that a worker runs, or ran when it ended, on its way up; empty when none.
BROOD_INLINE std::string Dispatcher::hook_that_runs(const Slot& slot) {
  if (slot.greeted || !slot.ends.status) return {};
  const std::uint64_t step = slot.ends.status.page().start_step.load(std::memory_order_relaxed);
  if (step == StatusPage::in_start_hook) return "PoolOptions::on_worker_start";
  Source* const source = find_source(slot.source);
  if (step == 0 || source == nullptr) return {};
  const std::vector<PreloadStats> preloads = source->impl->preloads();
  return step <= preloads.size() ? "after_fork of the Preload " + preloads[step - 1].type : "";
}

/// Resolves a task of a worker that has ended, its `first` or one behind that, or puts it back. Returns whether it had started.
BROOD_INLINE bool Dispatcher::settle_one(Slot& slot, const TaskPtr& task, bool first, ExitStatus status, long peak_rss_kib) {
  const bool started = !slot.revoke(*task) && (first || slot.has_started(*task));
  if (!started && task->cancel_wanted) {
    resolve(task, make_failure(FailureKind::cancelled, *task, "it was cancelled before it started"));
    return false;
  }
  if (!started && first && slot.greeted) ++task->unstarted_deaths;
  // one that says that it has not, again and again, may deny it, or be more than a worker can take in
  const bool fatal = first && slot.greeted && task->unstarted_deaths > max_unstarted_deaths;
  if (started || fatal) {
    resolve_dead(slot, task, status, peak_rss_kib);
    return true;
  }
  requeue(task);
  return false;
}

/// Resolves the tasks of a worker that has ended, or puts them back. Returns whether one of them had started.
BROOD_INLINE bool Dispatcher::settle(Slot& slot, ExitStatus status, long peak_rss_kib) {
  drain(slot, true);
  bool had_started = false;
  const std::deque<TaskPtr> left = slot.assigned;
  while (!slot.assigned.empty()) remove_assigned(slot, slot.assigned.size() - 1);
  for (auto each = left.rbegin(); each != left.rend(); ++each) {
    try {
      had_started = settle_one(slot, *each, std::next(each) == left.rend(), status, peak_rss_kib) || had_started;
    } catch (const std::bad_alloc&) {
      if ((*each)->state != Task::State::resolved) resolve(*each, no_memory_);
    }
  }
  return had_started;
}

BROOD_INLINE void Dispatcher::worker_ended(Slot& slot, ExitStatus status, long peak_rss_kib) {
  const std::string ran = insight_.logs() || insight_.trace() != nullptr ? doing(slot) : std::string();
  const bool in_use = !slot.assigned.empty();
  const bool started = settle(slot, status, peak_rss_kib);
  const bool told_to = slot.told_to_leave || slot.parted;
  note_end(slot, status, told_to, ran);
  const bool says_nothing = started || slot.tasks_done != 0 || slot.abandoned || slot.doom == Doom::violated ||
                            slot.doom == Doom::cancelled || slot.doom == Doom::timed_out;
  const std::string who = slot.pid != 0 ? " (pid " + std::to_string(slot.pid) + ")" : "";
  std::exception_ptr cause = slot.start_cause;
  if (!cause) {
    read_output(slot);
    const std::string hook = hook_that_runs(slot);
    const std::string when = slot.greeted   ? " before it had run a task"
                             : hook.empty() ? " before it was up; what do, under SpawnPolicy, its static constructors do?"
                                            : " before it was up, in " + hook;
    cause = std::make_exception_ptr(LaunchError("a worker" + who + " " + status.describe() + when +
                                                        (slot.greeted ? "" : quote_tail(slot.output.take())),
                                                    "worker start", 0));
  }
  const std::uint32_t source_id = slot.source;
  const Seat seat = slot.seat;
  const bool killed = slot.doom != Doom::start_overdue && status.signaled() && status.signal() == SIGKILL;  // by somebody
  const unsigned weight = !slot.greeted ? (killed ? 1 : own_start_failure) : in_use ? 1 : 0;
  release_slot(slot);
  if (told_to) return;
  ++workers_died_;
  Source* const source = find_source(source_id);
  if (says_nothing || source == nullptr || source->state == Source::State::ended) return;
  start_failed(*source, seat, cause, weight);
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
