// SPDX-License-Identifier: MIT
// internal
// Dispatcher: accepting and resolving tasks.
#pragma once

#include <brood/core/config.hpp>
#include <brood/pool/backtrace.hpp>
#include <brood/pool/dispatcher.hpp>
#include <brood/pool/dispatcher_pulls.hpp>
#include <brood/pool/inline_call.hpp>
#include <brood/pool/items_log.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

BROOD_INLINE TaskPtr Dispatcher::make_task() {
  auto task = std::make_shared<Task>();
  task->dispatcher = shared_from_this();
  return task;
}

BROOD_INLINE std::uint64_t Dispatcher::number_call() {
  const Lock lock(mutex_);
  return next_call_++;
}

BROOD_INLINE void Dispatcher::require_open() const {
  if (closing_ == Closing::open) return;
  throw PoolClosed("the pool " + options_.name + (options_.name.empty() ? "" : " ") + "takes no more work: " +
                   (closing_ == Closing::closed   ? "it was closed"
                    : closing_ == Closing::killed ? "it was killed"
                                                  : "it is being destroyed"));
}

BROOD_INLINE std::uint64_t size_of_call(const Task& task) noexcept {
  return (task.payload ? task.payload->size() : 0) + (task.attachment ? task.attachment->size : 0);
}

BROOD_INLINE void Dispatcher::require_room(const Task& task, Caller caller) const {
  require_open();
  const std::uint64_t size = size_of_call(task);
  const std::uint64_t limit = options_.max_pending_bytes;
  if (limit != 0 && caller == Caller::leaves && (size > limit || pending_bytes_ > limit - size)) {
    throw QueueFull("the call of " + task.name.text() + " is " + std::to_string(size) + " bytes long, and " +
                    std::to_string(pending_bytes_) + " bytes of calls are pending already; together that is more than " +
                    "PoolOptions::max_pending_bytes (" + std::to_string(limit) + "). " +
                    (size > limit ? "Raise the limit" : "Wait for a result, then submit again"));
  }
}

BROOD_INLINE void Dispatcher::accept(const TaskPtr& task) noexcept {
  task->id = next_task_++;
  if (task->items == 0) task->call = next_call_++;
  task->charged = size_of_call(*task);
  if (insight_.trace() != nullptr) task->queued_at = Clock::now();
  pending_bytes_ += task->charged;
  ++outstanding_;
}

BROOD_INLINE void Dispatcher::enqueue(const TaskPtr& task, Caller caller, const void* state) {
  Lock lock(mutex_);
  require_room(*task, caller);
  if (policy_.runs_inline) {
    accept(task);
    lock.unlock();
    return run_inline(task, state);
  }
  const auto put_into = [&](TaskQueue& queue) {
    if (task->deaths != 0) return delay(task);
    queue.push_back(task);
  };
  if (task->source == 0) {
    put_into(queue_);
    accept(task);
  } else if (Source* const source = find_source(task->source)) {
    put_into(source->queue);
    accept(task);
    ++source->outstanding;
  } else {
    accept(task);
    resolve(task, make_failure(FailureKind::launch, *task, "its snapshot of the host has ended"));
  }
  bool supervised = false;
  try {
    supervise();
    take_back_lower(*task);
    supervised = true;
  } catch (...) {  // the task is accepted, so that its caller is to have its future; the next turn supervises again
  }
  if (driving_) {
    if (!supervised || next_timer() < driver_until_) bell_.ring();
  } else if (caller == Caller::leaves && followers_ == 0) {
    ensure_helper();
  }
}

BROOD_INLINE void Dispatcher::run_inline(const TaskPtr& task, const void* state) {
  InlineAnswer answer;
  std::optional<Failure> failure;
  const auto started = insight_.trace() != nullptr ? Clock::now() : Clock::time_point();
  try {
    answer = call_inline(*task, state, policy_.preloaded.get(), seed_, options_.max_message_bytes);
    if (!answer.failure.empty()) {
      failure = read_failure(answer.failure.view(), {::getpid(), task->id}, where(*task, nullptr), task->circumstances());
    } else if (task->landing) {
      Bytes left = task->landing->land(answer.results[0].view());
      answer.results.clear();
      answer.results.push_back({0, 1, ::getpid(), 0, std::move(left)});
    }
  } catch (const std::exception& error) {  // what it threw could not be taken apart
    failure = make_failure(FailureKind::serialization, *task, error.what());
  }
  Lock lock(mutex_);
  if (insight_.trace() != nullptr) task->run_ns = static_cast<std::uint64_t>((Clock::now() - started).count());
  task->progress = answer.progress;
  task->results = std::move(answer.results);
  task->received = std::move(answer.received);
  task->items_done = failure ? 0 : task->items;
  resolve(task, std::move(failure));
  wake();  // no event of a worker's does
  run_callbacks(lock);
}

BROOD_INLINE void Dispatcher::resolve(const TaskPtr& task, std::optional<Failure> failure) {
  assert(task->state != Task::State::resolved);
  if (task->state == Task::State::resolved) return;
  callbacks_.reserve(callbacks_.size() + task->callbacks.size());  // nothing behind it throws
  if (insight_.trace() != nullptr) {
    note_task(*task, failure, task->state == Task::State::assigned ? slots_[task->slot].get() : nullptr);
  }
  task->state = Task::State::resolved;
  ++resolutions_;
  task->failure = std::move(failure);
  if (task->failure) {
    const bool whole = task->items != 0 && !task->item_failed;
    const bool again = task->items != 0 && task->retry_due();  // the map sends that item once more
    failed_ += again ? 0U : whole ? task->items - task->items_done : 1U;
    done_ += task->items_done;
  } else {
    done_ += task->items == 0 ? 1U : task->items_done;
  }
  if (task->failure) {
    drop_pull(*task);
    task->received.clear();
  }
  task->payload.reset();
  task->kept.reset();
  task->attachment.reset();
  pending_bytes_ -= std::exchange(task->charged, 0);
  if (Source* const source = task->source != 0 ? find_source(task->source) : nullptr) --source->outstanding;
  --outstanding_;
  for (auto& callback : task->callbacks) callbacks_.push_back(std::move(callback));
  task->callbacks.clear();
  task->resolved.store(true, std::memory_order_release);
  if (leave_when_idle_ && outstanding_ == 0) helper_cv_.notify_all();
}

/// Tells those who wait to look again: a task was resolved, or a timer set, by a thread that does not drive.
BROOD_INLINE void Dispatcher::wake() noexcept {
  if (driving_) {
    bell_.ring();
  } else {
    arm();
  }
  followers_cv_.notify_all();
}

BROOD_INLINE void Dispatcher::count_failed_items(std::uint64_t count) {
  const Lock lock(mutex_);
  done_ -= count;
  failed_ += count;
}

BROOD_INLINE void Dispatcher::count_refused_item() {
  const Lock lock(mutex_);
  ++failed_;
}

BROOD_INLINE std::string Dispatcher::where(const Task& task, const Slot* slot, std::optional<std::uint64_t> item) {
  std::string text = item ? task.text(*item) : task.text();
  if (slot != nullptr && slot->pid != 0) text += " in worker " + std::to_string(slot->pid);
  return text;
}

BROOD_INLINE Failure Dispatcher::make_failure(FailureKind kind, const Task& task, const std::string& what,
                                        const Slot* slot) const {
  FailureRecord record;
  record.kind = kind;
  record.task = task.id;
  record.pid = slot != nullptr ? slot->pid : 0;
  record.where = where(task, slot);
  record.message = record.where + ": " + what;
  record.known = task.circumstances();
  return Failure(std::move(record));
}

// ---- tasks whose worker ended ----------------------------------------------------------------------------------------

/// The results of a chunk's items that the worker had finished but not sent are in its log.
BROOD_INLINE void Dispatcher::salvage_items(const Slot& slot, Task& task) {
  StatusPage& page = slot.ends.status.page();
  const std::uint64_t word = page.items_done.load(std::memory_order_acquire);
  auto salvaged = read_items_log({page.log(), StatusPage::log_capacity}, word, task.items, task.items_done);
  if (!salvaged) return;
  salvaged->pid = slot.pid;
  task.items_done += salvaged->count;
  task.results.push_back(std::move(*salvaged));
}

/// Says that a worker has ended because its CPU time was used up, if it has.
BROOD_INLINE std::string cpu_limit_text(const Slot& slot, ExitStatus status) {
  const StatusPage& page = slot.ends.status.page();
  const std::uint64_t end = page.cpu_end_s.load(std::memory_order_relaxed);
  if (end == 0 || !status.signaled()) return {};
  // a task that ignores SIGXCPU is killed one second later; the kernel counts ticks there, and here the time itself, which
  // may be less
  const bool ignored = status.signal() == SIGKILL && slot.cpu_ms / 800 >= end;
  if (status.signal() != SIGXCPU && !ignored) return {};
  return " because the CPU time limit was reached (Limits::cpu_time, " +
         std::to_string(page.cpu_share_s.load(std::memory_order_relaxed)) + " s)";
}

/// Keeps what the worker has noted about its crash: the frames, and a few words for the message at `at`. Their names are
/// looked up by whoever reads the message: it means to read files that the worker has named.
BROOD_INLINE void Dispatcher::note_crash(const Slot& slot, ExitStatus status, std::size_t at, FailureRecord& record) {
  if (!status.signaled()) return;
  std::optional<Crash> crash = read_crash(slot.ends.status.page().crash(), status);
  if (!crash) return;
  record.late = [noted = std::move(*crash), at](FailureRecord& whole) {
    Crash named = noted;
    FrameNames::instance().tell(named);
    whole.known.backtrace = named.text();
    whole.message.insert(at, named.summary(whole.pid));
  };
}

/// A guess, for a kill that is nobody's here.
BROOD_INLINE std::string Dispatcher::tell_memory(const Slot& slot, ExitStatus status, Circumstances& known) {
  if (slot.doom != Doom::none || !status.signaled() || status.signal() != SIGKILL || !oom_watch_.rose()) return {};
  known.out_of_memory = true;
  return "; memory ran out, most likely: the kernel has killed a process for it, and this worker had " +
         std::to_string(known.peak_rss_kib >> 10) + " MiB resident at its peak";
}

/// A task whose worker ended under it, or which has cost too many workers that had not begun it.
BROOD_INLINE void Dispatcher::resolve_dead(Slot& slot, const TaskPtr& task, ExitStatus status, long peak_rss_kib) {
  const bool begun = task->unstarted_deaths <= max_unstarted_deaths || slot.has_started(*task);
  take_output(slot, *task);
  slot.look_at_progress(*task);
  if (slot.has_started(*task)) {
    const auto ran = std::max(Clock::now() - slot.start_of(*task), Clock::duration(0));
    slot.count_busy(static_cast<std::uint64_t>(ran.count()));
  }
  if (task->items != 0) {
    if (begun) salvage_items(slot, *task);  // else the log is that of the chunk before
    const std::uint64_t started = slot.ends.status.page().halt_items();
    if (task->items_done == task->items && !task->cancel_wanted) return resolve(task, std::nullopt);
    // between two items nothing was running: all that is left can run elsewhere. Before the first one the callable was
    // read; that may be what killed the worker, so it counts as the first item's
    const bool between = task->items_done != 0 && started <= task->items_done;
    if (between && !task->folds && !task->cancel_wanted) return resolve(task, std::nullopt);
    task->item_failed = !task->cancel_wanted;
  }
  const bool killed = !status.known() || (status.signaled() && status.signal() == SIGKILL);
  const Source* const source = find_source(slot.source);
  const bool server_ended = killed && slot.doom == Doom::none && source != nullptr && source->state == Source::State::ended;
  const bool chunk = task->items != 0;
  const std::string thing = chunk ? "item" : "task";
  const std::string when = begun ? " while it ran the " + thing
                                 : " before it had begun the " + thing + ", the last of " +
                                       std::to_string(task->unstarted_deaths) + " workers that ended before they had";
  FailureRecord record;
  record.task = task->id;
  record.pid = slot.pid;
  record.status = status;
  record.where = where(*task, &slot, chunk ? std::optional(task->first_item + task->items_done) : std::nullopt);
  record.known = task->circumstances();
  record.known.peak_rss_kib = peak_rss_kib;
  if (task->cancel_wanted) {
    record.kind = FailureKind::cancelled;
    record.message = record.where + " was cancelled while it ran; its worker was killed";
  } else if (task->timed_out && killed) {
    record.kind = FailureKind::timeout;
    record.message = record.where + ": it ran longer than " + std::to_string(task->timeout / std::chrono::milliseconds(1)) +
                     " ms (TaskOptions::timeout, MapOptions::timeout or PoolOptions::task_timeout), and was killed with its "
                     "worker; only this " + thing + " fails";
  } else if (slot.doom == Doom::violated) {
    record.kind = FailureKind::worker_died;
    record.message = record.where + ": the worker was killed for what an earlier task in it had sent; the worker is "
                     "replaced";
  } else if (server_ended) {
    record.kind = FailureKind::worker_died;
    record.message = record.where + ": the worker ended with its server" + when + ": " + text_of(source->cause) +
                     ". The tasks that ran in its workers fail" +
                     (source->snapshot || !policy_.relaunchable ? "" : ", the next one gets a new server");
  } else {
    record.kind = FailureKind::worker_died;
    const bool lost = slot.doom == Doom::lost && killed;
    record.message = record.where + ": the worker " +
                     (lost ? "closed its result pipe, or became another program, and was killed"
                           : status.describe() + cpu_limit_text(slot, status));
    if (!lost) note_crash(slot, status, record.message.size(), record);
    record.message += when + tell_memory(slot, status, record.known) +
                     (record.known.output.empty() ? "" : "; captured_output() has the last that it printed") +
                     "; only this " + thing + " fails, the worker is replaced";
  }
  ++task->deaths;
  if (task->deaths > 1) {
    const bool ran = task->unstarted_deaths <= max_unstarted_deaths;  // each time
    record.message += std::string(ran ? "; it was run " : "; it was tried ") + std::to_string(task->deaths) + " times (" +
                      (chunk ? "Map" : "Task") + "Options::retries)";
  }
  task->failure.emplace(std::move(record));
  if (task->retry_due() && !chunk) return run_again(task);
  resolve(task, std::exchange(task->failure, std::nullopt));
}

/// A single call whose worker died is run again. Nothing of the try that failed may reach into the next.
BROOD_INLINE void Dispatcher::run_again(const TaskPtr& task) {
  --task->retries;
  if (insight_.trace() != nullptr) note_task(*task, task->failure, slots_[task->slot].get());
  task->failure.reset();
  task->results.clear();
  task->received.clear();
  task->received_error = 0;
  drop_pull(*task);
  task->pull_refused = false;
  task->timed_out = false;
  task->assigned_at = {};
  task->progress = {};
  task->output.clear();
  task->state = Task::State::queued;
  delay(task);
}

/// What is run again waits before that, longer each time: one that kills whatever runs it must not keep the pool busy with
/// starting workers.
BROOD_INLINE void Dispatcher::delay(const TaskPtr& task) {
  const auto pause = std::chrono::milliseconds(1) * (1 << std::min(task->deaths - 1, 10U));
  delayed_.emplace(Clock::now() + pause, task);
  task->delayed = true;
}

/// Puts the tasks whose pause is over in front of those of their priority.
BROOD_INLINE void Dispatcher::queue_due_retries() {
  if (delayed_.empty()) return;
  const auto now = Clock::now();
  while (!delayed_.empty() && delayed_.begin()->first <= now) {
    const TaskPtr task = delayed_.begin()->second;
    delayed_.erase(delayed_.begin());
    task->delayed = false;
    if (task->state != Task::State::queued) continue;  // cancelled meanwhile
    Source* const source = task->source != 0 ? find_source(task->source) : nullptr;
    (source != nullptr ? source->queue : queue_).push_front(task);
    take_back_lower(*task);
  }
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
