// SPDX-License-Identifier: MIT
// internal
// Dispatcher: how a worker ends. On an end: drain, classify, resolve, replace.
#pragma once

#include <algorithm>

#include <brood/pool/dispatcher.hpp>

namespace brood::detail {

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

}  // namespace brood::detail
