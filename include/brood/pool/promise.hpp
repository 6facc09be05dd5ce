// SPDX-License-Identifier: MIT
// internal
// What a Future stands for that is no task of its own: a value which the host makes of what is beneath, tasks and other promises.
// `then`, `when_all`, `when_any`, `first_of` and coroutines are such.
//
//   waiting ──the first to hear of what is beneath claims it──▶ running ──value or failure──▶ resolved
//      ▲────────────its function has returned a future───────────┘
//
// Invariants
// - mutex_ guards beneath_, followers_, waiters_. It is never held while code of the user runs, or a dispatcher is asked.
// - Who runs it is decided by claim(): each entry of beneath_ is given out once. So a thread that waits may run what another one
//   has not come to yet: nobody waits for a function that is behind its own on the same stack.
// - The outcome is written once, by the thread that runs it, before resolved_; afterwards only the future's owner and those
//   that it has pinned (`readers`) look at it. While somebody is pinned it is copied, never moved.
// - What waits is owned from beneath: a task owns its callbacks, a promise its followers. A promise refers to what is beneath only
//   as long as it waits. So dropping a future stops nothing, and nothing is left when all is resolved.
// - Followers are told one after the other, by deliver(), never from within each other: a chain needs no stack.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include <brood/pool/copyable.hpp>
#include <brood/pool/dispatcher.hpp>
#include <brood/pool/outcome.hpp>
#include <brood/pool/thrown.hpp>

namespace brood::inline v0_1::detail {

class Promise;
using PromisePtr = std::shared_ptr<Promise>;

/// A task or a promise.
struct Beneath {
  TaskPtr task;
  PromisePtr promise;

  explicit operator bool() const noexcept { return task || promise; }
  bool resolved() const noexcept;
  /// How many will read the value beside the future itself.
  std::atomic<unsigned>& readers() const noexcept;
  /// Tells the follower when this is resolved. False, and nobody is told, when it is already.
  bool watch(const PromisePtr& follower, std::size_t number) const;
  bool cancel() const;
};

/// A thread that waits for a promise: asleep, or driving a pool.
class Waiter {
 public:
  using Time = Dispatcher::Clock::time_point;

  /// Makes it look again.
  void tell() noexcept;
  void sleep(Time deadline);
  /// Drives the pools of the tasks until one of them is resolved, or somebody tells.
  void drive(const std::vector<TaskPtr>& tasks, Time deadline);

 private:
  bool over(const std::vector<TaskPtr>& tasks) const noexcept;
  /// For several pools that nobody else may be driving.
  void drive_together(const std::vector<std::shared_ptr<Dispatcher>>& pools, const std::vector<TaskPtr>& tasks, Time deadline);

  std::mutex mutex_;
  std::condition_variable news_;
  std::atomic<bool> told_{false};
  std::shared_ptr<Dispatcher> pool_;  ///< that it drives, or follows
  std::optional<Bell> bell_;          ///< when it drives several
};

class Promise : public std::enable_shared_from_this<Promise> {
 public:
  using Clock = Dispatcher::Clock;

  explicit Promise(TaskId id) noexcept : id_(id) {}
  Promise(const Promise&) = delete;
  Promise& operator=(const Promise&) = delete;
  virtual ~Promise() = default;

  /// What has that number beneath is resolved. May be called by several, and more than once; the first one runs it. Returns
  /// whether that has resolved this promise; then deliver() is to be called. No lock is held.
  virtual bool hear(std::size_t number) noexcept = 0;
  /// Whether all that is beneath must be resolved first, or one may be enough.
  virtual bool needs_all() const noexcept { return true; }

  bool resolved() const noexcept { return resolved_.load(std::memory_order_acquire); }
  /// The task that it began with; 0 when there were several.
  TaskId id() const noexcept { return id_; }

  /// See Beneath::watch.
  bool follow(const PromisePtr& follower, std::size_t number) {
    const std::lock_guard lock(mutex_);
    if (resolved()) return false;
    followers_.push_back({follower, number});
    return true;
  }

  /// Tells the followers, and those of all that are resolved by it in turn.
  void deliver() noexcept;

  // What a Future calls is virtual, and `inline` here already: so only programs that make promises have the code of it.

  /// Waits until it is resolved, and drives the pools beneath meanwhile. False when the deadline passes first.
  virtual BROOD_INLINE bool wait(Clock::time_point deadline);

  /// Cancels the tasks beneath. Returns whether any was.
  virtual BROOD_INLINE bool cancel();

  std::atomic<unsigned> readers{0};

 protected:
  /// From now on it waits for these, with the numbers from `number` on. Returns whether they are to be cancelled.
  bool wait_for(std::vector<Beneath> beneath, std::size_t number = 0);
  /// What has that number, for the first who asks; empty for others.
  Beneath claim(std::size_t number) noexcept {
    const std::lock_guard lock(mutex_);
    const std::size_t at = number - number_;  // beyond the end, too, for one that is less
    return at < beneath_.size() ? std::exchange(beneath_[at], {}) : Beneath{};
  }
  /// Precondition: there is an outcome. To be followed by deliver(), by whoever has called hear().
  void resolve() noexcept;
  /// This thread runs what makes the value: it must not wait for it.
  class Running {
   public:
    explicit Running(Promise& promise) noexcept : runner_(promise.runner_) { runner_.store(std::this_thread::get_id()); }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() { runner_.store({}); }

   private:
    std::atomic<std::thread::id>& runner_;
  };

 private:
  struct Follower {
    PromisePtr promise;
    std::size_t number;
  };
  /// What a thread that waits has seen of the promises beneath.
  struct View {
    std::vector<PromisePtr> watched;                         ///< they tell of news
    std::vector<std::pair<PromisePtr, std::size_t>> to_run;  ///< nobody has claimed them yet
    std::vector<TaskPtr> tasks;
  };
  View look(const std::shared_ptr<Waiter>& waiter);
  /// Adds what is directly beneath to the view, and to `next` the promises that are to be looked at in turn.
  void look(const std::shared_ptr<Waiter>& waiter, bool wanted, View& view, std::vector<PromisePtr>& next);
  void forget(const std::shared_ptr<Waiter>& waiter) noexcept;

  const TaskId id_;
  mutable std::mutex mutex_;
  std::vector<Beneath> beneath_;  ///< claimed ones are empty
  std::size_t number_ = 0;        ///< of the first. An old number is never given again: who hears of it does nothing
  std::size_t first_ = 0;         ///< all in front of it are claimed
  std::vector<Follower> followers_;
  std::vector<std::shared_ptr<Waiter>> waiters_;
  std::atomic<std::thread::id> runner_{};
  PromisePtr next_;  ///< in deliver()
  bool cancel_wanted_ = false;
  std::atomic<bool> resolved_{false};
};

/// A promise of an R.
template <class R>
class PromiseOf : public Promise {
 public:
  using Promise::Promise;

  /// Precondition of both: it is resolved. Its value for the future that is used up by it.
  virtual Outcome<R> take() {
    if constexpr (can_be_copied<R>()) {
      if (readers.load(std::memory_order_acquire) != 0) return *outcome_;
    }
    return take_once();
  }
  /// For a future that is not. A value that can't be copied is there once.
  virtual Outcome<R> read() {
    if constexpr (can_be_copied<R>()) {
      return *outcome_;
    } else {
      return take_once();
    }
  }

 protected:
  /// Gives it its outcome, for good.
  void settle(Outcome<R>&& outcome) noexcept {
    try {
      outcome_.emplace(std::move(outcome));
    } catch (...) {
      outcome_.emplace(failure_of(std::current_exception(), id(), "the move of a value"));
    }
    resolve();
  }

 private:
  Outcome<R> take_once() {
    if (!outcome_->has_value()) return outcome_->failure();
    if (std::exchange(taken_, true)) {
      throw Error("the value of this Future was taken already: it is one that can't be copied, and was made in the host");
    }
    return std::move(*outcome_);
  }

  std::optional<Outcome<R>> outcome_;
  bool taken_ = false;
};

}  // namespace brood::detail

#include <brood/pool/promise_waits.hpp>
