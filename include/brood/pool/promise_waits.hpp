// SPDX-License-Identifier: MIT
// internal
// Promise: telling, waiting, cancelling.
#pragma once

#include <brood/core/config.hpp>
#include <brood/core/loops.hpp>
#include <brood/pool/promise.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

// ---- what is beneath -------------------------------------------------------------------------------------------------

BROOD_INLINE bool Beneath::resolved() const noexcept {
  return task ? task->resolved.load(std::memory_order_acquire) : promise->resolved();
}

BROOD_INLINE std::atomic<unsigned>& Beneath::readers() const noexcept { return task ? task->readers : promise->readers; }

BROOD_INLINE bool Beneath::watch(const PromisePtr& follower, std::size_t number) const {
  if (resolved()) return false;
  if (promise) return promise->follow(follower, number);
  task->dispatcher->check_process("Future::then");
  return task->dispatcher->watch(task, [follower, number] {
    if (follower->hear(number)) follower->deliver();
  });
}

BROOD_INLINE bool Beneath::cancel() const {
  if (promise) return promise->cancel();
  const auto dispatcher = task->dispatcher;
  return dispatcher->cancel(task);
}

// ---- telling -----------------------------------------------------------------------------------------------------------

BROOD_INLINE void Promise::deliver() noexcept {
  PromisePtr first = shared_from_this();
  Promise* last = this;
  while (first) {
    std::vector<Follower> followers;
    {
      const std::lock_guard lock(first->mutex_);
      followers.swap(first->followers_);
    }
    for (Follower& each : followers) {
      if (!each.promise->hear(each.number)) continue;
      last->next_ = std::move(each.promise);
      last = last->next_.get();
    }
    PromisePtr next = std::move(first->next_);
    first = std::move(next);
  }
}

BROOD_INLINE void Promise::resolve() noexcept {
  std::vector<std::shared_ptr<Waiter>> waiters;
  std::vector<Beneath> beneath;  // they end without the lock
  {
    const std::lock_guard lock(mutex_);
    assert(!resolved());
    waiters.swap(waiters_);
    beneath.swap(beneath_);
    resolved_.store(true, std::memory_order_release);
  }
  for (const auto& each : waiters) each->tell();
}

BROOD_INLINE bool Promise::wait_for(std::vector<Beneath> beneath, std::size_t number) {
  std::vector<std::shared_ptr<Waiter>> waiters;
  bool cancelled = false;
  {
    const std::lock_guard lock(mutex_);
    waiters.swap(waiters_);
    beneath_.swap(beneath);
    number_ = number;
    first_ = 0;
    cancelled = cancel_wanted_;
  }
  for (const auto& each : waiters) each->tell();
  return cancelled;
}

// ---- waiting -----------------------------------------------------------------------------------------------------------

BROOD_INLINE bool Promise::wait(Clock::time_point deadline) {
  while (!resolved()) {
    if (deadline != Clock::time_point::max() && Clock::now() >= deadline) return false;
    const auto waiter = std::make_shared<Waiter>();
    const View view = look(waiter);
    for (const auto& [promise, number] : view.to_run) {
      if (promise->hear(number)) promise->deliver();
    }
    try {
      if (resolved() || !view.to_run.empty()) {
        // look again
      } else if (view.tasks.empty()) {
        waiter->sleep(deadline);
      } else {
        waiter->drive(view.tasks, deadline);
      }
    } catch (...) {
      for (const PromisePtr& each : view.watched) each->forget(waiter);
      throw;
    }
    for (const PromisePtr& each : view.watched) each->forget(waiter);
  }
  return true;
}

BROOD_INLINE void Promise::forget(const std::shared_ptr<Waiter>& waiter) noexcept {
  const std::lock_guard lock(mutex_);
  std::erase(waiters_, waiter);
}

BROOD_INLINE Promise::View Promise::look(const std::shared_ptr<Waiter>& waiter) {
  View view;
  std::set<const Promise*> seen{this};
  std::vector<PromisePtr> next{shared_from_this()};
  while (!next.empty()) {
    const PromisePtr each = std::move(next.back());
    next.pop_back();
    const std::size_t before = next.size();
    each->look(waiter, each.get() == this, view, next);
    next.erase(std::remove_if(next.begin() + static_cast<std::ptrdiff_t>(before), next.end(),
                              [&](const PromisePtr& one) { return !seen.insert(one.get()).second; }),
               next.end());
  }
  return view;
}

BROOD_INLINE void Promise::look(const std::shared_ptr<Waiter>& waiter, bool wanted, View& view, std::vector<PromisePtr>& next) {
  const std::lock_guard lock(mutex_);
  if (resolved()) return;
  while (first_ < beneath_.size() && !beneath_[first_]) ++first_;
  const bool runs = first_ == beneath_.size();
  if (runs && runner_.load() == std::this_thread::get_id()) {
    throw Error("a Future was waited for by the function that is to make its value (Future::then): it would wait for itself for ever");
  }
  bool has_news = wanted || runs || !needs_all();
  for (std::size_t at = first_; at < beneath_.size(); ++at) {
    const Beneath& each = beneath_[at];
    if (!each) continue;
    if (each.resolved()) {
      view.to_run.emplace_back(shared_from_this(), number_ + at);
    } else if (each.task) {
      view.tasks.push_back(each.task);
      has_news = true;
    } else {
      next.push_back(each.promise);
    }
    if (needs_all()) break;
  }
  if (!has_news) return;  // those beneath it have
  view.watched.push_back(shared_from_this());
  waiters_.push_back(waiter);
}

BROOD_INLINE void Waiter::tell() noexcept {
  std::shared_ptr<Dispatcher> pool;
  {
    const std::lock_guard lock(mutex_);
    if (told_.exchange(true)) return;
    pool = pool_;
    if (bell_) bell_->ring();
  }
  news_.notify_all();
  if (pool) pool->kick();
}

BROOD_INLINE void Waiter::sleep(Time deadline) {
  std::unique_lock lock(mutex_);
  const auto told = [&] { return told_.load(); };
  if (deadline == Time::max()) {
    news_.wait(lock, told);
  } else {
    news_.wait_until(lock, deadline, told);
  }
}

BROOD_INLINE bool Waiter::over(const std::vector<TaskPtr>& tasks) const noexcept {
  return told_.load() || any_of(tasks, [](const TaskPtr& each) { return each->resolved.load(); });
}

BROOD_INLINE void Waiter::drive(const std::vector<TaskPtr>& tasks, Time deadline) {
  std::vector<std::shared_ptr<Dispatcher>> undriven;  // they have no helper thread
  for (const TaskPtr& each : tasks) {
    const bool known = std::find(undriven.begin(), undriven.end(), each->dispatcher) != undriven.end();
    if (!each->dispatcher->options().helper_thread && !known) undriven.push_back(each->dispatcher);
  }
  if (undriven.size() > 1) return drive_together(undriven, tasks, deadline);
  const auto pool = undriven.empty() ? tasks.front()->dispatcher : undriven.front();
  {
    const std::lock_guard lock(mutex_);
    if (told_) return;
    pool_ = pool;
  }
  pool->drive([&] { return over(tasks); }, deadline);
}

BROOD_INLINE void Waiter::drive_together(const std::vector<std::shared_ptr<Dispatcher>>& pools, const std::vector<TaskPtr>& tasks,
                                   Time deadline) {
  Poller ready;
  for (const auto& each : pools) ready.add(each->descriptor(), EPOLLIN, 0);
  {
    const std::lock_guard lock(mutex_);
    ready.add(bell_.emplace().fd(), EPOLLIN, 0);
  }
  std::array<Poller::Event, 4> room;
  for (;;) {
    for (const auto& each : pools) each->poll();
    const auto now = Dispatcher::Clock::now();
    if (over(tasks) || now >= deadline) return;
    ready.wait(room, deadline == Time::max() ? std::chrono::nanoseconds(-1) : deadline - now);
  }
}

// ---- cancelling --------------------------------------------------------------------------------------------------------

BROOD_INLINE bool Promise::cancel() {
  std::vector<TaskPtr> tasks;
  std::set<const Promise*> seen{this};
  std::vector<PromisePtr> next{shared_from_this()};
  while (!next.empty()) {
    const PromisePtr each = std::move(next.back());
    next.pop_back();
    const std::lock_guard lock(each->mutex_);
    if (each->resolved()) continue;
    each->cancel_wanted_ = true;
    for (const Beneath& one : each->beneath_) {
      if (one.task) tasks.push_back(one.task);
      if (one.promise && seen.insert(one.promise.get()).second) next.push_back(one.promise);
    }
  }
  bool any = false;
  for (const TaskPtr& each : tasks) any = Beneath{each, nullptr}.cancel() || any;
  return any;
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
