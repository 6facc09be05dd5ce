// SPDX-License-Identifier: MIT
// internal
// Dispatcher: work for idle workers, starting workers, and starts that fail.
#pragma once

#include <algorithm>

#include <brood/pool/dispatcher.hpp>
#include <brood/worker/worker_loop.hpp>

namespace brood::detail {

inline void Dispatcher::supervise_source(Source& source) {
  if (source.snapshot) {
    if (source.released && source.outstanding == 0) {
      if (source.state == Source::State::ended) return;
      for (const auto& slot : slots_) {
        if (slot->source == source.id && slot->idle()) retire(*slot);
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
      const TaskPtr task = next_queued(queue_);
      if (!task) {
        idle_.push_back(slot.index);
        slot.listed_idle = true;
        break;
      }
      give(slot, task);
    }
  }
  if (source.state != Source::State::ready) return;
  std::deque<TaskPtr>& queue = source.snapshot ? source.queue : queue_;
  while (!queue.empty()) {
    const TaskPtr task = next_queued(queue);
    if (!task) return;
    if (source.snapshot) {
      const auto idle = std::find_if(slots_.begin(), slots_.end(),
                                     [&](const auto& slot) { return slot->source == source.id && slot->idle(); });
      if (idle != slots_.end()) {
        give(**idle, task);
        continue;
      }
    }
    queue.push_front(task);  // where it stays should the start fail
    Slot* const slot = Clock::now() >= retry_at_ ? start_worker(source) : nullptr;
    if (slot == nullptr) return;
    queue.pop_front();
    give(*slot, task);
  }
  // work that was handed out ahead of time to a worker that is stuck, while a place is free
  while (!source.snapshot && prefetched_ != 0 && source.live < target_ + leaving_.size() && Clock::now() >= retry_at_) {
    const TaskPtr task = take_back_one(source.id);
    if (!task) return;
    queue.push_front(task);
    Slot* const slot = start_worker(source);
    if (slot == nullptr) return;
    queue.pop_front();
    give(*slot, task);
  }
}

/// The next task that has not been cancelled; null when there is none.
inline TaskPtr Dispatcher::next_queued(std::deque<TaskPtr>& queue) {
  while (!queue.empty()) {
    TaskPtr task = std::move(queue.front());
    queue.pop_front();
    if (task->state == Task::State::queued) return task;
  }
  return nullptr;
}

/// A vacant place: one of the pool's own, or, for a worker of a snapshot, one behind them. At most worker_count()
/// snapshot workers exist at a time.
inline Slot* Dispatcher::vacant_slot(const Source& source) {
  const std::size_t first = source.snapshot ? target_ : 0;
  const std::size_t end = first + target_;
  for (std::size_t at = first; at < end; ++at) {
    while (slots_.size() <= at) {
      const auto index = static_cast<std::uint32_t>(slots_.size());
      slots_.push_back(std::make_unique<Slot>(index));
    }
    if (slots_[at]->state() == SlotState::vacant) return slots_[at].get();
  }
  for (std::size_t at = first; source.snapshot && at < end; ++at) {  // one that another snapshot has no work for
    if (!slots_[at]->idle() || slots_[at]->source == source.id) continue;
    recycle(*slots_[at]);
    return slots_[at].get();
  }
  return nullptr;
}

inline Slot* Dispatcher::start_worker(Source& source) {
  if (leaving_.size() > target_) return nullptr;  // no more processes than twice the workers
  Slot* const slot = vacant_slot(source);
  if (slot == nullptr) return nullptr;
  ++slot->generation;
  std::optional<WorkerEnds> ends;
  std::shared_ptr<const Bytes> setup;
  try {
    setup = make_setup(slot->index);
    ends = source.impl->start(slot->ticket());
    if (!ends) {
      retry_at_ = std::max(retry_at_, Clock::now() + std::chrono::milliseconds(5));  // no event may follow
      return nullptr;
    }
    poller_.add(ends->results.get(), EPOLLIN, tag(Tag::results, slot->index, slot->generation));
    if (ends->output) poller_.add(ends->output.get(), EPOLLIN, tag(Tag::output, slot->index, slot->generation));
  } catch (const SystemError& error) {
    start_failed(source, std::make_exception_ptr(LaunchError(
                             std::string("no worker could be started: ") + error.what() + advice_for(error.code().value()),
                             error.call(), error.code().value())));
    return nullptr;
  } catch (const std::exception& error) {
    start_failed(source, std::make_exception_ptr(LaunchError(
                             std::string("no worker could be started: ") + error.what(), "worker setup", 0)));
    return nullptr;
  }
  slot->begin(std::move(*ends), source.id, time_after(options_.start_timeout));
  ++source.live;
  if (slot->deadline != Clock::time_point::max()) slot_timers_.emplace(slot->deadline, slot->index, slot->generation);
  FrameHeader header;
  header.type = FrameType::setup;
  slot->post(header, std::move(setup));
  return slot;
}

/// What a worker is told before its first task.
inline std::shared_ptr<const Bytes> Dispatcher::make_setup(std::uint32_t index) const {
  WorkerSetup setup;
  setup.index = index % target_;
  setup.max_message_bytes = options_.max_message_bytes;
  setup.name = options_.name;
  setup.on_start = options_.on_worker_start;
  setup.limits = options_.limits;
  setup.memory_limit = options_.memory_per_worker;
  setup.leads_group = options_.kill_tree;
  setup.backtraces = options_.backtraces;
  setup.discards_output = options_.output == Output::discard;
  Writer out;
  setup.write(out);
  return std::make_shared<const Bytes>(std::move(out).take());
}

/// A worker did not come up. The next try waits a little, longer each time. When nothing is up and the tries are used up
/// the pool is broken: the work that waits fails with the cause. Later work has one more try, which mends the pool when
/// it succeeds.
inline void Dispatcher::start_failed(Source& source, const std::exception_ptr& cause) {
  ++start_failures_;
  retry_at_ = Clock::now() + std::chrono::milliseconds(2) * (1 << std::min(start_failures_, 8U));
  const bool some_up = std::any_of(slots_.begin(), slots_.end(), [&](const auto& slot) {
    return slot->source == source.id && slot->state() == SlotState::ready;
  });
  if (some_up || start_failures_ < max_start_failures) return;
  if (source.snapshot) {
    start_failures_ = 0;
    retry_at_ = {};
    return fail_queue(source.queue, cause);
  }
  broken_ = cause;  // start_failures_ stays: later work has one try
  fail_queue(queue_, told_as_broken(cause));
}

/// Why a pool is broken, for the calls that fail with it.
inline std::exception_ptr Dispatcher::told_as_broken(const std::exception_ptr& cause) {
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

inline std::string Dispatcher::text_of(const std::exception_ptr& cause) {
  try {
    std::rethrow_exception(cause);
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "unknown cause";
  }
}

inline void Dispatcher::fail_queue(std::deque<TaskPtr>& queue, const std::exception_ptr& cause) {
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
  std::deque<TaskPtr> failing;
  failing.swap(queue);
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
