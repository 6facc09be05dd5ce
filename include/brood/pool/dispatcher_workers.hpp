// SPDX-License-Identifier: MIT
// internal
// Dispatcher: frames from and to one worker, and what it is given.
#pragma once

#include <algorithm>

#include <brood/core/config.hpp>
#include <brood/core/loops.hpp>
#include <brood/pool/dispatcher.hpp>
#include <brood/pool/dispatcher_descriptors.hpp>
#include <brood/pool/dispatcher_output.hpp>
#include <brood/pool/dispatcher_pulls.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

/// The parent's side of the protocol: which frame is legal now. A worker's bytes are a stranger's.
struct Dispatcher::FrameHandler {
  Dispatcher& dispatcher;
  Slot& slot;

  void admit(const FrameHeader& header) const {
    constexpr std::uint64_t max_failure = std::uint64_t{1} << 20;
    const std::uint64_t limit = dispatcher.options_.max_message_bytes;
    if (!slot.greeted) {
      const bool hello = header.type == FrameType::hello && header.size == 0;
      const bool sorry = header.type == FrameType::failed && header.task == 0 && header.size <= max_failure;
      if (!hello && !sorry) throw ProtocolError("a frame before its hello");
      return;
    }
    if (slot.assigned.empty()) throw ProtocolError("an answer although it has no task");
    const Task& task = *slot.assigned.front();
    if (header.task != task.id) throw ProtocolError("an answer to another task than the one it runs");
    if (!slot.has_started(task)) throw ProtocolError("an answer to a task that it has not started");
    slot.heard = task.number;
    if (task.pull) throw ProtocolError("an answer while its result is read");
    switch (header.type) {
      case FrameType::large:
        if (task.items != 0) throw ProtocolError("one result for a chunk of items");
        if (task.pull_refused) throw ProtocolError("a result that is to be read, although it was asked to send it");
        if (header.size > limit && header.size - limit > sizeof(std::uint64_t)) {  // the list is shorter than what it lists
          throw MessageTooLarge("a result of more than " + std::to_string(limit) + " bytes");
        }
        return;
      case FrameType::result:
        if (task.items != 0) throw ProtocolError("one result for a chunk of items");
        if (header.size > limit) throw MessageTooLarge("a result of " + std::to_string(header.size) + " bytes");
        return;
      case FrameType::items: {
        const std::uint32_t left = task.items - task.items_done;
        const bool last = (header.flags & FrameHeader::last) != 0;
        const bool ended_early = (header.flags & FrameHeader::full) != 0 && header.first + header.count != 0;
        const bool attached = (header.flags & FrameHeader::attached) != 0;
        if (task.items == 0 || header.first != task.items_done || header.count > left || (attached && (last || header.count != 1)) ||
            (last ? header.count != left && !task.halted && !ended_early : header.count == 0) ||
            header.count > header.size / sizeof(std::uint64_t)) {
          throw ProtocolError("results of items that it was not asked for");
        }
        if (header.size > StatusPage::log_capacity && header.size - sizeof(std::uint64_t) > limit) {
          throw MessageTooLarge("a result of " + std::to_string(header.size) + " bytes");
        }
        return;
      }
      case FrameType::post:
        if (header.size != 0 || !slot.may_ask_for_passage()) throw ProtocolError("one wish for descriptors too many");
        return;
      case FrameType::failed:
        if (header.size > std::max(limit, max_failure)) throw MessageTooLarge("an exception of that size");
        return;
      default: throw ProtocolError("a frame of an unknown type");
    }
  }

  void accept(Frame&& frame) const {
    const FrameHeader& header = frame.header;
    if (!slot.greeted) return greet(frame);
    if (slot.assigned.empty() || slot.assigned.front()->id != header.task) return;  // given up since the header was read
    const TaskPtr task = slot.assigned.front();
    if ((header.flags & FrameHeader::reported) != 0) slot.look_at_progress(*task);
    if ((header.flags & FrameHeader::full) != 0 && dispatcher.options_.memory_per_worker != 0) slot.full = true;
    switch (header.type) {
      case FrameType::items: {
        ResultBytes results{header.first, header.count, slot.pid, 0, std::move(frame.payload)};
        take_item_descriptors(slot, results, header);
        task->results.push_back(std::move(results));
        task->items_done += header.count;
        if ((header.flags & FrameHeader::last) == 0) return;
        dispatcher.take_output(slot, *task);
        return dispatcher.finish_front(slot, header.number, std::nullopt);
      }
      case FrameType::post: return answer_post(slot, *task);
      case FrameType::large:
        take_descriptors(slot, *task, header);
        return dispatcher.begin_pull(slot, *task, frame);
      case FrameType::result:
        take_descriptors(slot, *task, header);
        task->results.push_back(
            {0, 1, slot.pid, 0, task->landing ? task->landing->land(frame.payload.view()) : std::move(frame.payload)});
        dispatcher.take_output(slot, *task);
        return dispatcher.finish_front(slot, header.number, std::nullopt);
      default:
        dispatcher.take_output(slot, *task);
        return dispatcher.finish_front(slot, header.number,
                                       read_failure(frame.payload.view(), {slot.pid, task->id}, where(*task, &slot),
                                                    task->circumstances()));
    }
  }

 private:
  /// It can't read from this process: it has not started what is to be read, and gets it through the pipe.
  void take_back_lists() const {
    const auto& all = slot.assigned;
    const bool any = any_of(all, [](const TaskPtr& each) { return each->attachment != nullptr; });
    if (any) dispatcher.revoke_unstarted(slot, 0);
    dispatcher.workers_read_ = false;
  }

  void greet(const Frame& frame) const {
    if (frame.header.type == FrameType::hello) {
      dispatcher.read_output(slot);
      slot.output.clear();
      slot.greeted = true;
      slot.reads_host = (frame.header.flags & FrameHeader::reads_host) != 0;
      if (!slot.reads_host) take_back_lists();
      if (Source* const source = dispatcher.find_source(slot.source)) {
        source->useful = true;
        if (!source->snapshot) {  // a copy for one call says nothing about the pool's own workers
          dispatcher.launch_failures_ = 0;
          if (std::exchange(dispatcher.broken_, nullptr)) dispatcher.note_server(LogLevel::info, "mended", "workers come up again");
        }
      }
      if (!slot.announced) ++dispatcher.workers_started_;  // its result pipe was faster than its server
      if (slot.pid == 0) slot.pid = static_cast<pid_t>(frame.header.number);  // shown only; signals need the pidfd
      dispatcher.note_up(slot);
      if (slot.state() != SlotState::starting) return dispatcher.flush(slot);  // it was told to leave meanwhile: that was held back
      slot.move_to(SlotState::ready);
      // its end is seen by its pidfd, which its server has yet to send: that is waited for in bounded time, too
      if (slot.announced) dispatcher.set_timer(slot, &Slot::deadline, Clock::time_point::max());
      return;
    }
    const std::string hook = dispatcher.hook_that_runs(slot);
    const Failure failure = read_failure(frame.payload.view(), {slot.pid, 0},
                                         "a worker could not be started: " + (hook.empty() ? "it" : hook));
    dispatcher.read_output(slot);
    slot.start_cause =
        failure.kind() == FailureKind::image_mismatch || failure.kind() == FailureKind::launch
            ? failure.exception()
            : std::make_exception_ptr(LaunchError(failure.message() + quote_tail(slot.output.take()), "worker start", 0));
  }
};

BROOD_INLINE Slot* Dispatcher::find_slot(std::uint32_t index, std::uint64_t generation) {
  if (index >= slots_.size()) return nullptr;
  Slot& slot = *slots_[index];
  return slot.state() != SlotState::vacant && (slot.generation & 0xffffffff) == generation ? &slot : nullptr;
}

/// Every worker that has a process, also those on their way out. They may end in the visit.
template <class Visit>
void Dispatcher::each_slot(Visit visit) {
  for (const auto& slot : slots_) {
    if (slot->state() != SlotState::vacant) visit(*slot);
  }
}

// ---- frames in and out ---------------------------------------------------------------------------------------------

BROOD_INLINE void Dispatcher::receive(Slot& slot) {
  if (!slot.receiving) return;  // an event from before
  FrameHandler handler{*this, slot};
  try {
    const bool ended = slot.receive({scratch_.get(), scratch_size}, handler, 0);
    if (ended) {
      // whoever closes this pipe has ended, which its server is about to report, or can't answer any more
      poller_.remove(slot.ends.results.get());
      slot.lost = true;
      if (slot.parted && slot.state() == SlotState::ready) return recycle(slot);
      if (slot.state() == SlotState::starting || slot.state() == SlotState::ready) {
        set_timer(slot, &Slot::deadline, Clock::now() + lost_patience);
      }
      return;
    }
  } catch (...) {
    return refused(slot);
  }
  after_answers(slot);
}

/// For a catch clause: what the worker has sent was not taken.
BROOD_INLINE void Dispatcher::refused(Slot& slot) {
  try {
    throw;
  } catch (const MessageTooLarge& error) {
    violated(slot, FailureKind::too_large, error.what());
  } catch (const SystemError& error) {
    unreadable(slot, error.what());
  } catch (const std::bad_alloc&) {
    unreadable(slot, "this process has no memory for it");
  } catch (const std::exception& error) {
    violated(slot, FailureKind::protocol, error.what());
  }
}

/// The worker has sent what it may not: it is killed, and the task that it runs fails. The others run elsewhere.
BROOD_INLINE void Dispatcher::violated(Slot& slot, FailureKind kind, const std::string& what) {
  const std::string advice = kind == FailureKind::too_large
                                 ? ", more than PoolOptions::max_message_bytes; raise the limit or return less"
                                 : "; has the task written to descriptors that are not its own?";
  give_up_on(slot, kind, "its worker sent " + what + advice);
}

/// This process can't read what the worker has sent.
BROOD_INLINE void Dispatcher::unreadable(Slot& slot, const char* why) {
  give_up_on(slot, FailureKind::protocol, std::string("its worker's answer can't be read: ") + why);
}

BROOD_INLINE void Dispatcher::give_up_on(Slot& slot, FailureKind kind, const std::string& why) {
  poller_.remove(slot.ends.results.get());
  slot.receiving = false;
  const TaskPtr first = slot.assigned.empty() ? nullptr : slot.assigned.front();
  revoke_unstarted(slot, 0);
  if (slot.state() != SlotState::doomed) doom(slot, Doom::violated);
  if (first && !slot.assigned.empty() && slot.assigned.front() == first) {
    take_output(slot, *first);
    remove_assigned(slot, 0);
    resolve(first, make_failure(kind, *first, why + " (the worker was killed)", &slot));
  }
}

/// Takes everything that a worker has sent, for one that has ended or is about to be killed.
BROOD_INLINE void Dispatcher::drain(Slot& slot, bool ended) {
  if (!slot.receiving || slot.lost) return;
  FrameHandler handler{*this, slot};
  try {
    slot.receive({scratch_.get(), scratch_size}, handler, ended ? ~std::size_t{0} : pipe_capacity);
  } catch (...) {
    refused(slot);
  }
}

BROOD_INLINE void Dispatcher::finish_front(Slot& slot, std::uint64_t run_ns, std::optional<Failure> failure) {
  const TaskPtr task = slot.assigned.front();
  remove_assigned(slot, 0);
  ++slot.tasks_done;
  slot.count_busy(run_ns);
  slot.give_back(task->number);
  slot.end_passage();
  start_failures_ = 0;
  if (slot.was_spare) spare_failures_ = 0;
  if (task->number == slot.last_number) slot.parted = true;
  task->run_ns = run_ns;
  average_run_ns_ = measured_ ? average_run_ns_ - average_run_ns_ / 8 + std::min(run_ns, max_run_ns) / 8 : run_ns;
  measured_ = true;
  resolve(task, std::move(failure));
}

BROOD_INLINE void Dispatcher::remove_assigned(Slot& slot, std::size_t at) {
  if (slot.assigned.size() > 1) --prefetched_;
  --assigned_;
  slot.assigned.erase(slot.assigned.begin() + static_cast<std::ptrdiff_t>(at));
}

/// A worker has answered, or has come up: more work for it, or none.
BROOD_INLINE void Dispatcher::after_answers(Slot& slot) {
  if (slot.state() != SlotState::ready || slot.seat == Seat::spare) return;
  if (slot.full) revoke_unstarted(slot, 0);  // what it has started runs to its end
  top_up(slot);
  watch_deadline(slot);
  if (!slot.assigned.empty()) return flush(slot);
  if (used_up(slot)) return recycle(slot);
  const Source* const source = find_source(slot.source);
  if (source == nullptr) return;
  if (prefetched_ != 0) {
    if (const TaskPtr task = take_back_one(slot.source)) return give(slot, task);
  }
  if (source->snapshot) return;
  if (!std::exchange(slot.listed_idle, true)) idle_.push_back(slot.index);
  if (options_.idle_timeout.count() != 0) note_idle(slot);
}

BROOD_INLINE void Dispatcher::flush(Slot& slot) {
  try {
    slot.flush();
  } catch (const SystemError&) {
    if (slot.state() != SlotState::doomed) doom(slot, Doom::lost);
    return;
  }
  if (slot.has_output() == slot.watching_out) return;
  if (slot.watching_out) {
    poller_.remove(slot.ends.tasks.get());
    slot.watching_out = false;
    return;
  }
  try {
    poller_.add(slot.ends.tasks.get(), EPOLLOUT, tag(Tag::tasks, slot.index, slot.generation));
    slot.watching_out = true;
  } catch (const SystemError&) {  // the kernel has no memory for it: look again soon
    const auto soon = Clock::now() + std::chrono::milliseconds(10);
    if (slot.task_check > soon) set_timer(slot, &Slot::task_check, soon);
  }
}

// ---- assigning and taking back -------------------------------------------------------------------------------------

BROOD_INLINE bool Dispatcher::used_up(const Slot& slot) noexcept {
  return slot.full || slot.last_given || slot.surplus;
}

BROOD_INLINE void Dispatcher::hand(Slot& slot, const TaskPtr& task) {
  const bool had_last = slot.last_given;
  try {
    if (slot.assigned.empty()) hear_output(slot);
    slot.assign(task, number_of(slot), options_.tasks_per_worker);
  } catch (...) {  // out of memory: both are as they were, and the next turn finds them
    requeue(task);
    if (slot.idle() && !slot.snapshot && !std::exchange(slot.listed_idle, true)) idle_.push_back(slot.index);
    throw;
  }
  if (slot.last_given && !had_last && !slot.snapshot) ++ending_;
  ++assigned_;
  if (slot.assigned.size() > 1) ++prefetched_;
}

BROOD_INLINE void Dispatcher::give(Slot& slot, const TaskPtr& task) {
  hand(slot, task);
  watch_deadline(slot);
  flush(slot);
}

/// How many tasks a busy worker may have: enough that it need not wait for the host between short ones.
BROOD_INLINE std::size_t Dispatcher::prefetch_depth() const noexcept {
  constexpr std::uint64_t worth_ns = 500'000;
  if (options_.output == Output::capture) return 1;  // what two tasks print would be one stream
  if (!measured_ || average_run_ns_ >= worth_ns) return 1;
  return 1 + std::min<std::size_t>(max_prefetch, worth_ns / (average_run_ns_ + 1'000));
}

BROOD_INLINE void Dispatcher::top_up(Slot& slot) {
  const Source* const source = find_source(slot.source);
  if (source == nullptr || source->state == Source::State::ended) return;
  TaskQueue& queue = source->snapshot ? const_cast<Source*>(source)->queue : queue_;
  const std::size_t depth = queue.mixed() ? 1 : prefetch_depth();  // what waits ahead of time could wait behind lower ones
  while (slot.assigned.size() < depth && !used_up(slot) && slot.has_claim_room()) {
    const TaskPtr task = queue.next();
    if (!task) return;
    if (task->limited && !slot.assigned.empty()) return queue.push_front(task);
    hand(slot, task);
  }
}

/// The last task that was handed to a busy worker ahead of time, for a worker that has nothing to do.
BROOD_INLINE TaskPtr Dispatcher::take_back_one(std::uint32_t source) {
  for (const auto& slot : slots_) {
    if (slot->state() != SlotState::ready || slot->assigned.size() < 2 || slot->source != source) continue;
    const TaskPtr task = slot->assigned.back();
    if (!slot->revoke(*task)) continue;
    remove_assigned(*slot, slot->assigned.size() - 1);
    task->state = Task::State::queued;
    return task;
  }
  return nullptr;
}

BROOD_INLINE void Dispatcher::requeue(const TaskPtr& task) {
  task->state = Task::State::queued;
  drop_pull(*task);
  Source* const source = task->source != 0 ? find_source(task->source) : nullptr;
  (source != nullptr ? source->queue : queue_).push_front(task);
}

/// One of a slot's times. There are no entries for times that have been changed since.
BROOD_INLINE void Dispatcher::set_timer(Slot& slot, Clock::time_point Slot::* which, Clock::time_point when) {
  const Clock::time_point before = std::exchange(slot.*which, when);
  if (before != slot.deadline && before != slot.task_check && before != slot.idle_until) {
    slot_timers_.remove({before, slot.index, slot.generation});
  }
  if (when != Clock::time_point::max()) slot_timers_.add({when, slot.index, slot.generation});
}

/// Takes back what the worker has not started, except for the first `keep`.
BROOD_INLINE void Dispatcher::revoke_unstarted(Slot& slot, std::size_t keep) {
  for (std::size_t at = slot.assigned.size(); at-- > keep;) {
    const TaskPtr task = slot.assigned[at];
    if (!slot.revoke(*task)) continue;
    requeue(task);
    remove_assigned(slot, at);
  }
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
