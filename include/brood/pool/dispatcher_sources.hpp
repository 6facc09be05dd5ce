// SPDX-License-Identifier: MIT
// internal
// Dispatcher: servers.
#pragma once

#include <algorithm>

#include <brood/core/config.hpp>
#include <brood/pool/dispatcher.hpp>
#include <brood/pool/dispatcher_descriptors.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

BROOD_INLINE void Dispatcher::launch() {
  Lock lock(mutex_);
  launch_main();
  const auto settled = [&] {
    const Source* const source = find_source(main_source_);
    return source == nullptr || source->state == Source::State::ready;
  };
  drive_until(lock, settled, Clock::time_point::max());
  if (main_source_ == 0) std::rethrow_exception(std::exchange(launch_failure_, nullptr));
}

BROOD_INLINE void Dispatcher::launch_main() {
  LaunchOptions wanted;
  wanted.name = options_.name;
  wanted.start_timeout = options_.start_timeout;
  wanted.surroundings = surroundings_.get();
  wanted.kill_tree = options_.kill_tree;
  wanted.capture_output = options_.output == Output::capture;
  main_source_ = add_source(policy_.launch(wanted), false);
}

BROOD_INLINE std::uint32_t Dispatcher::add_source(std::unique_ptr<WorkerSource> impl, bool snapshot) {
  auto source = std::make_unique<Source>();
  while (find_source(next_source_) != nullptr) next_source_ = next_source_ % 0xffffff + 1;
  source->id = next_source_;
  next_source_ = next_source_ % 0xffffff + 1;
  source->snapshot = snapshot;
  source->impl = std::move(impl);
  source->deadline = time_after(options_.start_timeout);
  sources_.reserve(sources_.size() + 1);
  poller_.add(source->impl->event_fd(), EPOLLIN, tag(Tag::source, source->id));
  if (source->impl->end_fd() >= 0) poller_.add(source->impl->end_fd(), EPOLLIN, tag(Tag::source_end, source->id));
  sources_.push_back(std::move(source));
  return sources_.back()->id;
}

BROOD_INLINE std::uint32_t Dispatcher::launch_snapshot(const void* state) {
  LaunchOptions wanted;
  wanted.name = options_.name;
  wanted.start_timeout = options_.start_timeout;
  wanted.surroundings = surroundings_.get();
  wanted.capture_output = options_.output == Output::capture;
  wanted.snapshot = state;
  wanted.kill_tree = options_.kill_tree;
  std::unique_ptr<WorkerSource> source;  // where it is not wanted any more it ends without the lock
  Lock lock(mutex_);
  require_open();
  // the copy takes its time in a large host. What else is to be done goes on meanwhile, but no worker is started, lest the
  // copy has its pipes
  ++copying_host_;
  lock.unlock();
  std::exception_ptr failure;
  try {
    source = policy_.launch(wanted);
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  --copying_host_;
  try {
    supervise();
  } catch (...) {  // the next turn supervises again
  }
  wake();
  if (failure) std::rethrow_exception(failure);
  require_open();
  return add_source(std::move(source), true);
}

BROOD_INLINE void Dispatcher::release_snapshot(std::uint32_t id) noexcept {
  const Lock lock(mutex_);
  if (Source* const source = find_source(id)) {
    source->released = true;
    ++released_snapshots_;
  }
  try {
    supervise();
  } catch (...) {  // the next turn supervises again
  }
  wake();
}

BROOD_INLINE Source* Dispatcher::find_source(std::uint32_t id) {
  for (const auto& source : sources_) {
    if (source->id == id) return source.get();
  }
  return nullptr;
}

BROOD_INLINE void Dispatcher::hear_source(std::uint32_t id) {
  for (;;) {
    Source* const source = find_source(id);
    if (source == nullptr || source->state == Source::State::ended) return;
    std::optional<SourceEvent> event = source->impl->next();
    if (!event) return;
    Slot* slot = find_slot(event->ticket.slot, event->ticket.generation & 0xffffffff);
    if (slot != nullptr && (slot->ticket() != event->ticket || slot->source != id)) slot = nullptr;
    switch (event->kind) {
      case SourceEvent::Kind::ready:
        source->state = Source::State::ready;
        source->deadline = Clock::time_point::max();
        if (source->snapshot) break;
        count_preloads(*source);
        ++insight_.servers_started;
        note_server(LogLevel::info, "server ready", "the server (pid " + std::to_string(source->impl->server_pid()) + ") is ready");
        if (queue_.empty()) keep_spares(options_.spares);  // what they say can wait until somebody drives
        break;
      case SourceEvent::Kind::failed:
        return end_source(*source, event->cause, event->status.signaled() && event->status.signal() == SIGKILL);
      case SourceEvent::Kind::started:
        if (slot == nullptr || slot->announced) break;  // a second one has no pidfd that is watched
        if (!slot->greeted) ++workers_started_;
        if (slot->doom != Doom::none && !slot->announced) --kills_due_;
        slot->announced = true;
        slot->pid = event->pid;
        slot->pidfd = std::move(event->pidfd);
        if (slot->pidfd) watch_end(*slot);
        if (slot->state() == SlotState::ready && !slot->lost) set_timer(*slot, &Slot::deadline, Clock::time_point::max());
        if (slot->state() == SlotState::doomed) kill_process(*slot);
        if (slot->state() == SlotState::ready && slot->passage_due) answer_post(*slot, *slot->assigned.front());
        if (slot->tree && slot->state() != SlotState::doomed) flush(*slot);
        break;
      case SourceEvent::Kind::unstarted: {
        if (slot == nullptr) break;
        for (auto task = slot->assigned.rbegin(); task != slot->assigned.rend(); ++task) requeue(*task);
        const Seat seat = slot->seat;
        release_slot(*slot);
        const char* const meaning = strerrordesc_np(event->error);
        start_failed(*source, seat, std::make_exception_ptr(LaunchError(
                                  "no worker could be started: " + event->stage + " failed in the server (pid " +
                                      std::to_string(source->impl->server_pid()) + "): " +
                                      (meaning != nullptr ? meaning : "unknown error") + advice_for(event->error),
                                  event->stage, event->error)));
        break;
      }
      case SourceEvent::Kind::exited:
        if (slot == nullptr) break;
        slot->cpu_ms = event->cpu_ms;
        worker_ended(*slot, event->status, event->peak_rss_kib);
        break;
    }
  }
}

/// A worker's end is heard of without its server.
BROOD_INLINE void Dispatcher::watch_end(Slot& slot) {
  try {
    poller_.add(slot.pidfd.get(), EPOLLIN, tag(Tag::pidfd, slot.index, slot.generation));
  } catch (const SystemError&) {  // the kernel has no memory for it: its server tells, or somebody looks when it is late
  }
}

/// Each server builds the Preloads anew.
BROOD_INLINE void Dispatcher::count_preloads(const Source& source) {
  std::vector<PreloadStats> built = source.impl->preloads();
  for (std::size_t at = 0; at < built.size() && at < preloads_.size(); ++at) built[at].built += preloads_[at].built;
  preloads_ = std::move(built);
}

/// A server has ended or never came up. Its workers end with it. `killed`: somebody else's doing, most likely, which says
/// little about the next one.
BROOD_INLINE void Dispatcher::end_source(Source& source, const std::exception_ptr& cause, bool killed) {
  const bool was_ready = source.state == Source::State::ready;
  source.state = Source::State::ended;
  source.deadline = Clock::time_point::max();
  poller_.remove(source.impl->event_fd());
  if (source.impl->end_fd() >= 0) poller_.remove(source.impl->end_fd());
  source.cause = cause;
  if (!source.stopping) note_server(LogLevel::warning, "server ended", text_of(cause));
  std::vector<Slot*> orphans;
  each_slot([&](Slot& slot) {
    if (slot.source == source.id) orphans.push_back(&slot);
  });
  for (Slot* const slot : orphans) {
    if (slot->pidfd) signal_kill(*slot);  // of one that has ended, what it has started
    if (!slot->pidfd || slot->gone) {
      worker_ended(*slot, seen_status(*slot), 0);
      continue;
    }
    if (slot->state() != SlotState::doomed) slot->move_to(SlotState::doomed);
    set_timer(*slot, &Slot::deadline, Clock::now() + end_patience);
  }
  if (source.snapshot) return fail_queue(source.queue, cause);
  main_source_ = 0;
  if (!policy_.relaunchable && was_ready) {
    launch_failure_ = std::make_exception_ptr(
        LaunchError("the server of " + policy_.name +
                        " has ended, and with it the snapshot of the host that workers were copied from; it can't be "
                        "made again. Make a new pool",
                    "snapshot", 0));
    return;
  }
  launch_failure_ = cause;
  if (!source.useful) count_launch_failure(killed ? 1 : own_launch_failure);
}

BROOD_INLINE void Dispatcher::count_launch_failure(unsigned weight) {
  launch_failures_ += weight;
  retry_at_ = Clock::now() + std::chrono::milliseconds(10) * (1 << std::min(launch_failures_ / own_launch_failure, 6U));
}

/// Makes what is what should be: work goes to idle workers, and more are started while there is work for them.
BROOD_INLINE void Dispatcher::supervise() {
  if (std::max(retry_at_, spare_retry_at_) > supervised_at_) supervised_at_ = Clock::now();  // else nothing is too early
  if (shut_down_) return;
  queue_due_retries();
  settle_places();
  if (main_source_ == 0 && !queue_.empty()) supervise_main();
  for (std::size_t at = 0; at < sources_.size(); ++at) supervise_source(*sources_[at]);
  buried_.reserve(buried_.size() + sources_.size());
  std::erase_if(sources_, [&](const auto& source) {
    const bool over =
        source->state == Source::State::ended && source->live == 0 && (!source->snapshot || source->outstanding == 0);
    if (over && source->released) --released_snapshots_;
    if (over) buried_.push_back(std::move(source->impl));
    return over;
  });
}

/// There is work, and no server. A pool that can't have one is broken: what waits fails with the cause, and so does later
/// work unless its one try succeeds.
BROOD_INLINE void Dispatcher::supervise_main() {
  const bool final = !policy_.relaunchable || launch_failures_ >= max_launch_failures;
  if (final && launch_failure_) {
    if (!broken_) note_server(LogLevel::error, "broken", "the pool is broken: " + text_of(launch_failure_));
    broken_ = launch_failure_;
    if (policy_.relaunchable) launch_failures_ = max_launch_failures - 1;
    return fail_queue(queue_, policy_.relaunchable ? told_as_broken(launch_failure_) : launch_failure_);
  }
  if (Clock::now() < retry_at_) return;
  // Until it is up, a server takes the end of the thread that launched it for the end of the host: the helper lives as long
  // as the pool, other threads come and go.
  if (!on_helper() && ensure_helper()) {
    relaunch_wanted_ = true;
    if (helper_drives_) bell_.ring();
    return;
  }
  try {
    launch_main();
  } catch (...) {
    launch_failure_ = std::current_exception();
    count_launch_failure(own_launch_failure);
  }
}

/// Destroys the sources that have ended. One whose server still lives is killed; it is waited for in later turns.
BROOD_INLINE void Dispatcher::bury(Lock& lock) {
  if (buried_.empty()) return;
  const auto living = std::partition(buried_.begin(), buried_.end(), [](const auto& source) {
    source->leave_until({});
    return source->ended();
  });
  std::vector<std::unique_ptr<WorkerSource>> ended(std::make_move_iterator(buried_.begin()), std::make_move_iterator(living));
  buried_.erase(buried_.begin(), living);
  lock.unlock();
  ended.clear();
  lock.lock();
}

// ---- timers --------------------------------------------------------------------------------------------------------

BROOD_INLINE Dispatcher::Clock::time_point Dispatcher::next_timer() const {
  auto next = slot_timers_.next();
  bool waiting = main_source_ == 0 && !queue_.empty();
  if (!delayed_.empty()) next = std::min(next, delayed_.begin()->first);
  if (assigned_ != 0) next = std::min(next, next_patrol_);
  for (const auto& source : sources_) {
    next = std::min(next, source->deadline);
    waiting = waiting || (source->state == Source::State::ready && !(source->snapshot ? source->queue : queue_).empty());
  }
  if (waiting && retry_at_ > supervised_at_) next = std::min(next, retry_at_);
  if (spares_missing()) {
    const auto again = std::max(retry_at_, spare_retry_at_);
    if (again > supervised_at_) next = std::min(next, again);
  }
  return next;
}

BROOD_INLINE void Dispatcher::fire_timers() {
  const auto now = Clock::now();
  while (slot_timers_.next() <= now) {
    const SlotTimer timer = slot_timers_.pop();
    const auto [deadline, index, generation] = timer;
    Slot* const slot = find_slot(index, generation & 0xffffffff);
    if (slot == nullptr || slot->generation != generation) continue;
    Clock::time_point Slot::*fired = nullptr;
    try {
      if (slot->task_check == deadline) fired = &Slot::task_check, check_deadline(*slot);
      if (slot->idle_until == deadline) fired = &Slot::idle_until, check_idle(*slot);
      if (slot->deadline == deadline) fired = &Slot::deadline, overdue(*slot);
    } catch (const std::bad_alloc&) {  // again in the next turn
      if (slot->generation == generation && fired != nullptr && slot->*fired == Clock::time_point::max()) slot->*fired = deadline;
      slot_timers_.add(timer);
      throw;
    }
  }
  if (next_leave_ <= now) find_next_leave();
  if (next_patrol_ <= now) {
    next_patrol_ = now + patrol_interval;
    patrol();
  }
  for (std::size_t at = sources_.size(); at-- > 0;) {
    Source& source = *sources_[at];
    if (source.deadline > now) continue;
    end_source(source, source.impl->overdue(options_.start_timeout));
  }
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
