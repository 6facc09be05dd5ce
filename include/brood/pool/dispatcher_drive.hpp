// SPDX-License-Identifier: MIT
// internal
// Dispatcher: driving, and its end.
#pragma once

#include <algorithm>
#include <array>

#include <brood/core/config.hpp>
#include <brood/core/loops.hpp>
#include <brood/os/signals.hpp>
#include <brood/pool/dispatcher.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

BROOD_INLINE Dispatcher::Dispatcher(PoolOptions options, PolicyHandle policy)
    : options_(std::move(options)),
      policy_(std::move(policy)),
      target_(options_.workers != 0 ? options_.workers : usable_cpus()),
      seed_(options_.seed ? *options_.seed : fresh_seed()),
      surroundings_(options_, policy_),
      scratch_(std::make_unique_for_overwrite<std::byte[]>(scratch_size)),
      no_memory_([] {
        FailureRecord record;
        record.kind = FailureKind::worker_died;
        record.message = "its worker ended; this process had no memory just then to say more";
        return record;
      }()),
      insight_(options_.name, options_.log, options_.trace) {
  poller_.add(bell_.fd(), EPOLLIN, tag(Tag::bell, 0));
  if (!options_.helper_thread) poller_.add(alarm_.emplace().fd(), EPOLLIN, tag(Tag::alarm, 0));
}

BROOD_INLINE Dispatcher::~Dispatcher() {
  for (std::thread& helper : helpers_) {
    if (helper.joinable()) helper.detach();  // only a helper itself can get here with it
  }
}

BROOD_INLINE void Dispatcher::check_process(const char* call) const {
  if (in_own_process()) return;
  throw WrongProcess(std::string(call) + " was called in process " + std::to_string(::getpid()) +
                     ", but the pool belongs to process " + std::to_string(pid_) +
                     "; a worker can make a pool of its own, but not use the host's");
}

// ---- waiting -------------------------------------------------------------------------------------------------------

/// Whether somebody has to drive although nobody may be waiting: for tasks, for workers that are to be killed, for copies
/// of the host that are to end, for spare workers that are to be started, for those that leave
/// and may hang in their stop hook, and for those that were idle for too long.
BROOD_INLINE bool Dispatcher::work_left() const noexcept {
  return outstanding_ != 0 || kills_due_ != 0 || (released_snapshots_ != 0 && !shut_down_) || spares_missing() ||
         (leaving_ != 0 && leavers_watched_ && !shut_down_) || leave_due();
}

/// Whoever leaves the driver's place sees to it that somebody takes it while there is work.
BROOD_INLINE void Dispatcher::hand_over() {
  if (driving_) return;
  if (!work_left()) {
    if (alarm_) return arm();
    if (next_leave_ != Clock::time_point::max() && !helpers_[0].joinable()) ensure_helper();  // it sleeps until then
    return;
  }
  if (followers_ != 0) {
    followers_cv_.notify_all();
  } else {
    ensure_helper();
  }
}

BROOD_INLINE void Dispatcher::turn(Lock& lock, Clock::time_point deadline) {
  ++turns_;
  const std::size_t before = outstanding_;
  supervise();
  if (outstanding_ != before) return;  // it gave tasks up: whoever waits for one of them must not sleep here
  const bool more_spares = keep_spares(spares_at_once) == spares_at_once;
  driver_until_ = more_spares ? Clock::now() : std::min(deadline, next_timer());
  std::chrono::nanoseconds timeout(-1);
  if (driver_until_ != Clock::time_point::max()) {
    timeout = std::max<std::chrono::nanoseconds>(std::chrono::nanoseconds(0), driver_until_ - Clock::now());
  }
  const std::vector<PullStep> pulls = due_pulls();
  if (!pulls.empty()) timeout = std::chrono::nanoseconds(0);
  std::array<Poller::Event, 64> room;
  lock.unlock();
  std::span<Poller::Event> events;
  try {
    events = poller_.wait(room, timeout);
  } catch (...) {
    lock.lock();
    throw;
  }
  for (const PullStep& step : pulls) step.pull->step(step.pid, step.pidfd, {pull_stage_.get(), Pull::stage_size});
  lock.lock();
  for (const PullStep& step : pulls) settle_pull(step.pull);
  for (const Poller::Event& event : events) handle(event);
  fire_timers();
  supervise();
  bury(lock);
}

BROOD_INLINE void Dispatcher::handle(const Poller::Event& event) {
  const std::uint64_t data = event.data.u64;
  const auto kind = static_cast<Tag>(data >> 56);
  const auto index = static_cast<std::uint32_t>(data & 0xffffff);
  const std::uint64_t generation = data >> 24 & 0xffffffff;
  switch (kind) {
    case Tag::bell: return bell_.hush();
    case Tag::alarm: return alarm_->hush();
    case Tag::source:
    case Tag::source_end: return hear_source(index);
    default: break;
  }
  Slot* const slot = find_slot(index, generation);
  if (slot == nullptr) return;  // it has ended since
  switch (kind) {
    case Tag::results: return receive(*slot);
    case Tag::tasks: return flush(*slot);
    case Tag::output: return hear_output(*slot);
    case Tag::pidfd: return end_seen(*slot);
    default: return;
  }
}

BROOD_INLINE void Dispatcher::run_callbacks(Lock& lock) {
  if (insight_.pending()) deliver(lock);
  while (!callbacks_.empty()) {
    if (!policy_.runs_inline) hand_over();  // nothing waits for them to return
    std::vector<std::function<void()>> ready = std::exchange(callbacks_, {});
    lock.unlock();
    for (const auto& callback : ready) {
      try {
        callback();
      } catch (...) {  // a callback's failure is its own; it must not take the driver along
      }
    }
    ready.clear();  // what they have captured is the user's, too
    lock.lock();
  }
}

BROOD_INLINE bool Dispatcher::wait(const Task& task, Clock::time_point deadline) {
  if (task.resolved.load(std::memory_order_acquire)) return true;
  check_process("wait");
  Lock lock(mutex_);
  return drive_until(lock, [&] { return task.resolved.load(std::memory_order_relaxed); }, deadline);
}

BROOD_INLINE void Dispatcher::wait_any(std::span<const TaskPtr> tasks, Clock::time_point deadline, std::optional<unsigned> workers) {
  Lock lock(mutex_);
  drive_until(
      lock,
      [&] {
        if (workers && *workers != target_) return true;
        return any_of(tasks, [](const TaskPtr& task) { return task->resolved.load(std::memory_order_relaxed); });
      },
      deadline);
}

BROOD_INLINE void Dispatcher::when_resolved(const TaskPtr& task, std::function<void()> callback) {
  if (!watch(task, callback)) callback();
}

BROOD_INLINE bool Dispatcher::watch(const TaskPtr& task, std::function<void()> callback) {
  const Lock lock(mutex_);
  if (task->state == Task::State::resolved) return false;
  task->callbacks.push_back(std::move(callback));
  return true;
}

// ---- the helper threads --------------------------------------------------------------------------------------------

BROOD_INLINE bool Dispatcher::on_helper() const noexcept {
  return any_of(helpers_, [](const std::thread& each) { return each.get_id() == std::this_thread::get_id(); });
}

/// Sees to a helper that runs no callbacks. False when there is no thread to be had: whoever waits drives.
BROOD_INLINE bool Dispatcher::ensure_helper() {
  if (alarm_) {
    arm();
    return false;
  }
  if (helper_quits_) return false;
  std::thread& helper = helpers_[helper_calls_ ? 1 : 0];
  if (helper.joinable()) {
    if (helpers_parked_ != 0) helper_cv_.notify_one();
    return true;
  }
  const AllSignalsBlocked blocked;  // the thread inherits the mask: the host's signals are for the host's threads
  helper_threads.fetch_add(1);
  try {
    helper = start_thread([self = shared_from_this()]() mutable {
      self->help();
      self.reset();
      helper_threads.fetch_sub(1);
    });
  } catch (...) {
    helper_threads.fetch_sub(1);
    return false;
  }
  return true;
}

/// One helper runs callbacks, one at a time; the other is to drive meanwhile.
BROOD_INLINE void Dispatcher::help_callbacks(Lock& lock) {
  if (helper_calls_) return;
  helper_calls_ = true;
  run_callbacks(lock);
  helper_calls_ = false;
}

BROOD_INLINE void Dispatcher::help() {
  constexpr auto patience = std::chrono::microseconds(100);  // for a caller that is about to wait itself
  constexpr auto linger = std::chrono::milliseconds(50);     // awake after the last work, so that submit need not wake us
  constexpr auto nap = std::chrono::milliseconds(1);
  Lock lock(mutex_);
  auto last_work = Clock::now();
  const auto needed = [&] {
    return work_left() && !driving_ && followers_ == 0 && !helper_quits_;
  };
  while (!helper_quits_) {
    if (leave_when_idle_ && outstanding_ == 0 && !driving_ && callbacks_.empty() && !helper_calls_ &&
        !std::exchange(helper_leaves_, true)) {
      lock.unlock();
      try {
        return shut_down();
      } catch (...) {  // out of memory or descriptors: once more, a little later
        lock.lock();
        helper_leaves_ = false;
        helper_cv_.wait_for(lock, nap);
        continue;
      }
    }
    if (relaunch_wanted_) {
      try {
        supervise();
        relaunch_wanted_ = false;
      } catch (...) {  // as above
        helper_cv_.wait_for(lock, nap);
      }
      wake();
      help_callbacks(lock);
    } else if (needed()) {
      const std::uint64_t turns = turns_;
      helper_cv_.wait_for(lock, patience);
      for (bool mine = false; needed() && (turns == turns_ || mine); mine = true) {
        helper_drives_ = true;
        try {
          const DriverSeat seat(driving_, followers_, followers_cv_);
          turn(lock, Clock::time_point::max());
        } catch (...) {  // out of memory or descriptors: what can't be done now is tried again in the next turn
          helper_cv_.wait_for(lock, nap);
        }
        helper_drives_ = false;
        help_callbacks(lock);
      }
      last_work = Clock::now();
    } else if (leave_when_idle_ || Clock::now() - last_work < linger) {
      helper_cv_.wait_for(lock, nap);
    } else {
      ++helpers_parked_;
      if (next_leave_ == Clock::time_point::max()) {
        helper_cv_.wait(lock);
      } else {
        helper_cv_.wait_until(lock, next_leave_);
      }
      --helpers_parked_;
      last_work = Clock::now();
    }
  }
}

// ---- ending --------------------------------------------------------------------------------------------------------

BROOD_INLINE void Dispatcher::shut_down() {
  Lock lock(mutex_);
  closing_ = Closing::destroyed;
  if (ended_) return;
  shut_down_ = true;
  queue_.clear();  // cancelled tasks that nobody passed over: they hold this dispatcher, and their times are over
  delayed_.clear();
  each_slot([&](Slot& slot) {
    if (slot.state() == SlotState::starting || slot.state() == SlotState::ready) retire(slot);
  });
  const auto all_gone = [&] {
    bool gone = true;
    each_slot([&](const Slot& slot) { gone = gone && slot.gone; });  // how they ended matters no more
    return gone;
  };
  if (!drive_until(lock, all_gone, time_after(options_.stop_grace))) {
    each_slot([&](Slot& slot) {
      if (slot.state() != SlotState::doomed) doom(slot, Doom::stop_overdue);
    });
    drive_until(lock, all_gone, Clock::now() + leave_patience);
  }
  std::vector<Fd> ended;  // a host that adopts orphans inherits those that their server could not reap
  each_slot([&](Slot& slot) {
    if (!slot.pidfd) return;
    poller_.remove(slot.pidfd.get());
    if (options_.kill_tree) signal_group_of_pidfd(slot.pidfd.get(), SIGKILL);  // their server may have died before it did
    ended.push_back(std::move(slot.pidfd));
  });
  each_slot([&](Slot& slot) { release_slot(slot); });  // also a process that the kernel can't end just now
  // the sources' destructors wait for their servers: not with the lock, and nobody else can reach them
  const std::vector<std::unique_ptr<Source>> ending = std::exchange(sources_, {});
  main_source_ = 0;
  for (const auto& source : ending) {
    if (source->impl->end_fd() >= 0) poller_.remove(source->impl->end_fd());
    poller_.remove(source->impl->event_fd());
    source->impl->stop();
  }
  ended_ = true;
  surroundings_.release();  // a future may keep the rest
  helper_quits_ = true;
  helper_cv_.notify_all();
  bell_.ring();
  std::vector<std::unique_ptr<WorkerSource>> buried = std::exchange(buried_, {});
  lock.unlock();
  // they leave side by side; one that does not, because it or a worker of it is stopped, is killed
  const auto until = Clock::now() + leave_patience;
  for (const auto& source : ending) source->impl->leave_until(until);
  for (const auto& source : ending) source->impl.reset();
  buried.clear();
  for (const Fd& each : ended) reap_adopted(each.get());
  for (std::thread& helper : helpers_) {  // there will be no other
    if (!helper.joinable()) continue;
    if (helper.get_id() == std::this_thread::get_id()) {
      helper.detach();
    } else {
      helper.join();
    }
  }
  lock.lock();
  deliver(lock);
  insight_.close();
}

BROOD_INLINE void Dispatcher::give_up() noexcept {
  const Lock lock(mutex_);
  helper_quits_ = true;
  helper_cv_.notify_all();
  bell_.ring();
}

BROOD_INLINE void Dispatcher::shut_down_when_idle() {
  const Lock lock(mutex_);
  closing_ = Closing::destroyed;
  leave_when_idle_ = true;
  ensure_helper();
  helper_cv_.notify_all();
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
