// SPDX-License-Identifier: MIT
// internal
// Dispatcher: work for idle workers, starting workers, and starts that fail.
#pragma once

#include <algorithm>

#include <brood/core/config.hpp>
#include <brood/core/loops.hpp>
#include <brood/pool/dispatcher.hpp>
#include <brood/worker/worker_loop.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

BROOD_INLINE void Dispatcher::supervise_source(Source& source) {
  if (source.snapshot) {
    if (source.released && source.outstanding == 0) {
      if (source.state == Source::State::ended) return;
      for (Slot* const slot : places_[1].slots) {
        if (slot != nullptr && slot->source == source.id && slot->idle()) retire(*slot);
      }
      if (source.live == 0 && !std::exchange(source.stopping, true)) source.impl->stop();
      return;
    }
    if (source.state == Source::State::ended) return fail_queue(source.queue, source.cause);
  } else {
    if (source.state == Source::State::ended) return;  // the idle ones are its successor's
    while (!queue_.empty() && !idle_.empty()) {
      Slot& slot = *slots_[idle_.back()];
      idle_.pop_back();
      slot.listed_idle = false;
      if (!slot.idle() || slot.source != source.id) continue;
      const TaskPtr task = queue_.next();
      if (!task) {
        idle_.push_back(slot.index);
        slot.listed_idle = true;
        break;
      }
      give(slot, task);
    }
  }
  if (source.state != Source::State::ready) return;
  TaskQueue& queue = source.snapshot ? source.queue : queue_;
  while (!queue.empty()) {
    const TaskPtr task = queue.next();
    if (!task) return;
    if (source.snapshot) {
      const std::vector<Slot*>& slots = places_[1].slots;
      const auto idle = find_where(slots.begin(), slots.end(), [&](const Slot* slot) {
        return slot != nullptr && slot->source == source.id && slot->idle();
      });
      if (idle != slots.end()) {
        give(**idle, task);
        continue;
      }
    }
    queue.push_front(task);  // where it stays should the start fail
    Slot* const slot = fill_place(source);
    if (slot == nullptr) return;
    queue.remove_front(task);
    give(*slot, task);
  }
  // work that was handed out ahead of time to a worker that is stuck, while a place is free
  while (!source.snapshot && prefetched_ != 0 && places_[0].taken < target_ && Clock::now() >= retry_at_) {
    const TaskPtr task = take_back_one(source.id);
    if (!task) return;
    queue.push_front(task);
    Slot* const slot = fill_place(source);
    if (slot == nullptr) return;
    queue.remove_front(task);
    give(*slot, task);
  }
}

/// A task that waits must not wait behind lower ones that have not started: those are taken back.
BROOD_INLINE void Dispatcher::take_back_lower(const Task& task) {
  if (prefetched_ == 0 || task.state != Task::State::queued || task.delayed) return;
  const Source* const source = find_source(task.source != 0 ? task.source : main_source_);
  if (source == nullptr || !(source->snapshot ? source->queue : queue_).ranked()) return;
  for (const auto& slot : slots_) {
    if (slot->state() == SlotState::vacant || slot->source != source->id) continue;
    while (slot->assigned.size() > 1 && slot->assigned.back()->priority < task.priority) {
      const TaskPtr lower = slot->assigned.back();
      if (!slot->revoke(*lower)) break;
      remove_assigned(*slot, slot->assigned.size() - 1);
      requeue(lower);
    }
  }
}

// ---- seats ---------------------------------------------------------------------------------------------------------

BROOD_INLINE void Dispatcher::take_seat(Slot& slot, Seat seat, std::uint32_t place) {
  if (seat == Seat::spare) {
    spares_.push_back(&slot);
  } else {
    Places& places = places_[slot.snapshot ? 1 : 0];
    places.slots[place] = &slot;
    ++places.taken;
    if (place < places.ever && !slot.snapshot) ++insight_.workers_restarted;
    places.ever = std::max<std::size_t>(places.ever, place + std::size_t{1});
  }
  slot.was_spare = slot.was_spare || seat == Seat::spare;
  slot.seat = seat;
  slot.place = place;
}

BROOD_INLINE void Dispatcher::leave_seat(Slot& slot) noexcept {
  if (slot.seat == Seat::spare) {
    std::erase(spares_, &slot);
  } else if (slot.seat == Seat::place) {
    Places& places = places_[slot.snapshot ? 1 : 0];
    places.slots[slot.place] = nullptr;
    --places.taken;
    if (slot.last_given && !slot.snapshot) --ending_;
  }
  slot.seat = Seat::none;
}

/// A place that is free: one of the pool's own, or one for a worker of a snapshot, of which there are as many.
BROOD_INLINE std::optional<std::uint32_t> Dispatcher::free_place_of(const Source& source) {
  Places& places = places_[source.snapshot ? 1 : 0];
  std::vector<Slot*>& slots = places.slots;
  const std::size_t most = target_;
  if (places.taken == slots.size() && slots.size() < most) slots.push_back(nullptr);
  const auto end = slots.begin() + static_cast<std::ptrdiff_t>(std::min(slots.size(), most));
  auto place = std::find(slots.begin(), end, nullptr);
  if (place == end) {
    place = find_where(slots.begin(), end, [&](const Slot* slot) {  // another snapshot has no work for it
      return source.snapshot && slot->idle() && slot->source != source.id;
    });
    if (place == end) return std::nullopt;
    recycle(**place);
  }
  return static_cast<std::uint32_t>(place - slots.begin());
}

/// Puts a worker in a free place: a spare one where there is one, else one that is started. Null when there is none to be
/// had now.
BROOD_INLINE Slot* Dispatcher::fill_place(Source& source) {
  if (places_[source.snapshot ? 1 : 0].taken >= target_ && !source.snapshot) return nullptr;
  Slot* const spare = best_spare(source);
  if (spare == nullptr && (leaving_ > target_ || Clock::now() < retry_at_)) return nullptr;  // at most twice the workers
  const std::optional<std::uint32_t> place = free_place_of(source);
  if (!place) return nullptr;
  if (spare == nullptr) return start_worker(source, Seat::place, *place);
  if (queue_.size() <= 1) spare_retry_at_ = std::max(spare_retry_at_, Clock::now() + spare_patience);
  leave_seat(*spare);
  take_seat(*spare, Seat::place, *place);
  return spare;
}

/// A spare worker that is up, or else one that will be, most likely.
BROOD_INLINE Slot* Dispatcher::best_spare(const Source& source) const noexcept {
  Slot* best = nullptr;
  const bool failing = start_failures_ + spare_failures_ != 0;
  for (Slot* const each : spares_) {
    if (source.snapshot || each->source != source.id || !each->fit()) continue;
    if (each->state() == SlotState::ready) return each;
    if (best == nullptr && !failing) best = each;
  }
  return best;
}

/// What this_worker::index() is: the place, or, of a spare one, which has none yet, a number behind them.
BROOD_INLINE std::uint32_t Dispatcher::number_of(const Slot& slot) const noexcept {
  return slot.seat == Seat::spare ? target_ + slot.place : slot.place;
}

BROOD_INLINE Slot& Dispatcher::vacant_slot() {
  if (vacant_.empty()) {
    vacant_.reserve(slots_.size() + 1);  // there is room for all of them
    slot_timers_.reserve(3);
    slots_.push_back(std::make_unique<Slot>(static_cast<std::uint32_t>(slots_.size())));
    vacant_.push_back(slots_.back()->index);
  }
  return *slots_[vacant_.back()];
}

BROOD_INLINE Slot* Dispatcher::start_worker(Source& source, Seat seat, std::uint32_t place) {
  if (copying_host_ != 0) {  // launch_snapshot supervises when that is done
    if (seat == Seat::spare) spare_retry_at_ = std::max(spare_retry_at_, Clock::now() + std::chrono::milliseconds(5));
    return nullptr;
  }
  Slot& slot = vacant_slot();
  ++slot.generation;
  std::optional<WorkerEnds> ends;
  std::shared_ptr<const Bytes> told;
  try {
    if (seat == Seat::spare) spares_.reserve(spares_.size() + 1);
    told = setup();
    ends = source.impl->start(slot.ticket());
    if (!ends) {
      Clock::time_point& again = seat == Seat::spare ? spare_retry_at_ : retry_at_;
      again = std::max(again, Clock::now() + std::chrono::milliseconds(5));  // no event may follow
      return nullptr;
    }
    poller_.add(ends->results.get(), EPOLLIN, tag(Tag::results, slot.index, slot.generation));
    if (ends->output) poller_.add(ends->output.get(), EPOLLIN, tag(Tag::output, slot.index, slot.generation));
  } catch (const SystemError& error) {
    start_failed(source, seat, std::make_exception_ptr(LaunchError(
                                   std::string("no worker could be started: ") + error.what() + advice_for(error.code().value()),
                                   error.call(), error.code().value())));
    return nullptr;
  } catch (const std::exception& error) {
    start_failed(source, seat, std::make_exception_ptr(LaunchError(
                                   std::string("no worker could be started: ") + error.what(), "worker setup", 0)));
    return nullptr;
  }
  vacant_.pop_back();
  slot.begin(std::move(*ends), source.id, time_after(options_.start_timeout));
  slot.snapshot = source.snapshot;
  slot.tree = options_.kill_tree;
  take_seat(slot, seat, place);
  slot.reads_host = workers_read_;
  ++source.live;
  if (slot.deadline != Clock::time_point::max()) slot_timers_.add({slot.deadline, slot.index, slot.generation});
  FrameHeader header;
  header.type = FrameType::setup;
  header.first = number_of(slot);
  if (seat == Seat::spare) header.flags = FrameHeader::spare;
  slot.post(header, std::move(told));
  return &slot;
}

// ---- spare workers -------------------------------------------------------------------------------------------------

/// How many there should be now. Beside those that the user wants these are successors of workers that run their last task,
/// while work waits for them: where tasks are short a pool would do little but wait for starts.
BROOD_INLINE std::size_t Dispatcher::spares_wanted() const noexcept {
  const bool no_more_work = closing_ != Closing::open && queue_.empty() && delayed_.empty();
  if (no_more_work || broken_ || shut_down_) return 0;
  const bool ahead = ending_ != 0 && measured_ && average_run_ns_ < short_run_ns;
  return options_.spares + (ahead ? std::min(ending_, queue_.size()) : 0);
}

/// Whether some are to be started, now or later. Without a server that waits for the next call.
BROOD_INLINE bool Dispatcher::spares_missing() const noexcept {
  if (spares_.size() >= spares_wanted()) return false;
  return any_of(sources_, [&](const auto& source) {
    return source->id == main_source_ && source->state == Source::State::ready;
  });
}

/// Starts spare workers that are missing, `most` of them. Returns how many were started. Nobody waits for them: one that
/// can't be started is tried again later, and later each time, and fails nothing.
BROOD_INLINE std::size_t Dispatcher::keep_spares(std::size_t most) {
  const std::size_t wanted = spares_wanted();
  if (spares_.size() == wanted) return 0;
  Source* const source = find_source(main_source_);
  if (source == nullptr || source->state != Source::State::ready) return 0;
  while (spares_.size() > std::max<std::size_t>(wanted, options_.spares)) {  // a successor whose task has gone elsewhere
    if (places_[0].taken >= target_ || best_spare(*source) == nullptr) return 0;
    after_answers(*fill_place(*source));
  }
  std::size_t started = 0;
  std::vector<bool> taken(wanted);
  for (const Slot* const each : spares_) {
    if (each->place < wanted) taken[each->place] = true;
  }
  for (; started < most && spares_.size() < wanted && leaving_ <= target_; ++started) {
    if (Clock::now() < std::max(retry_at_, spare_retry_at_)) break;
    const auto number = std::find(taken.begin(), taken.end(), false);
    Slot* const slot = start_worker(*source, Seat::spare, static_cast<std::uint32_t>(number - taken.begin()));
    if (slot == nullptr) break;
    *number = true;
    flush(*slot);
  }
  return started;
}

BROOD_INLINE void Dispatcher::spare_failed() noexcept {
  ++spare_failures_;
  spare_retry_at_ = Clock::now() + std::chrono::milliseconds(2) * (1 << std::min(spare_failures_, 12U));
}

// ---- what a worker is told, and starts that fail -----------------------------------------------------------------------

/// What a worker is told before its first task; its place travels in the header.
BROOD_INLINE const std::shared_ptr<const Bytes>& Dispatcher::setup() {
  const std::uint64_t changes = ExceptionRegistry::instance().changes();
  if (setup_ && setup_exceptions_ == changes) return setup_;
  WorkerSetup setup;
  setup.host = pid_;
  setup.word_address = reinterpret_cast<std::uintptr_t>(&word_);
  setup.word = word_;
  setup.max_message_bytes = options_.max_message_bytes;
  setup.name = options_.name;
  setup.seed = seed_;
  setup.start_hook = options_.on_worker_start.call();
  setup.stop_hook = options_.on_worker_stop.call();
  setup.limits = options_.limits;
  setup.memory_limit = options_.memory_per_worker;
  setup.leads_group = options_.kill_tree;
  setup.backtraces = options_.backtraces;
  setup.discards_output = options_.output == Output::discard;
  Writer out;
  setup.write(out);
  setup_ = std::make_shared<const Bytes>(std::move(out).take());
  setup_exceptions_ = changes;
  return setup_;
}

/// After the `failures`th in a row: the next start waits, longer each time.
BROOD_INLINE void Dispatcher::pause_starts(unsigned failures) noexcept {
  retry_at_ = Clock::now() + std::chrono::milliseconds(2) * (1 << std::min(failures, 8U));
}

/// A worker did not come up, or has not run anything. When nothing is up and the tries are used up the pool is broken: the work
/// that waits fails with the cause. Later work has one more try, which mends the pool when it succeeds.
BROOD_INLINE void Dispatcher::start_failed(Source& source, Seat seat, const std::exception_ptr& cause, unsigned weight) {
  if (seat == Seat::spare) return spare_failed();
  if (weight == 0) return;  // it has shown that workers can be started, and nobody has suffered
  start_failures_ += weight;
  pause_starts((start_failures_ + own_start_failure - 1) / own_start_failure);
  const bool some_up =
      any_of(slots_, [&](const auto& slot) { return slot->source == source.id && slot->state() == SlotState::ready; });
  if (some_up || start_failures_ < max_start_failures) return;
  if (source.snapshot) {
    start_failures_ = 0;
    retry_at_ = {};
    return fail_queue(source.queue, cause);
  }
  if (!broken_) note_server(LogLevel::error, "broken", "the pool is broken: " + text_of(cause));
  broken_ = cause;  // start_failures_ stays: later work has one try
  fail_queue(queue_, told_as_broken(cause));
}

/// Why a pool is broken, for the calls that fail with it.
BROOD_INLINE std::exception_ptr Dispatcher::told_as_broken(const std::exception_ptr& cause) {
  const std::string advice = "; the pool is broken (PoolStats::state): all that waited fails, and the next call has one more try, "
                             "which mends it if it works";
  try {
    std::rethrow_exception(cause);
  } catch (const LaunchError& error) {
    return std::make_exception_ptr(LaunchError(error.what() + advice, error.stage(), error.error()));
  } catch (const PreloadError& error) {
    return std::make_exception_ptr(PreloadError(error.what() + advice, error.preload()));
  } catch (const ImageMismatch& error) {
    return std::make_exception_ptr(ImageMismatch(error.what() + advice));
  } catch (...) {
    return cause;
  }
}

BROOD_INLINE std::string Dispatcher::text_of(const std::exception_ptr& cause) {
  try {
    std::rethrow_exception(cause);
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "unknown cause";
  }
}

BROOD_INLINE void Dispatcher::fail_queue(TaskQueue& queue, const std::exception_ptr& cause) {
  const std::string text = text_of(cause);
  FailureKind kind = FailureKind::launch;
  try {
    std::rethrow_exception(cause);
  } catch (const PreloadError&) {
    kind = FailureKind::preload;
  } catch (const ImageMismatch&) {
    kind = FailureKind::image_mismatch;
  } catch (...) {
  }
  const std::vector<TaskPtr> failing = queue.all();
  queue.clear();
  for (const TaskPtr& task : failing) {
    if (task->state != Task::State::queued) continue;
    FailureRecord record;
    record.kind = kind;
    record.task = task->id;
    record.where = task->text();
    record.known = task->circumstances();
    record.message = record.where + " was not started: " + text;
    record.cause = cause;
    resolve(task, Failure(std::move(record)));
  }
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
