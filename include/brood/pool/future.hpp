// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <string>
#include <type_traits>
#include <utility>

#include <brood/pool/dispatcher.hpp>
#include <brood/pool/outcome.hpp>
#include <brood/pool/progress.hpp>
#include <brood/pool/promise.hpp>
#include <brood/pool/pull.hpp>
#include <brood/wire/serializer.hpp>

namespace brood::inline v0_1 {

/// What a task will return, or what a function makes of that in the host (then, when_all, ...). Movable; dropping it neither
/// blocks nor cancels anything. A thread that waits does the pool's work meanwhile. Thread-safe for different futures; one
/// future is for one thread at a time. May outlive its pool, whose end resolves it. Of a future that was made by default or moved
/// from each member throws Error. Complexity: constant, but for the time that waiting, or the value, takes.
/// \snippet reference.cpp Future
template <class R>
class Future {
 public:
  /// A future of nothing: may only be assigned to.
  Future() noexcept = default;

  // internal
  explicit Future(detail::TaskPtr task) noexcept : task_(std::move(task)) {}
  explicit Future(std::shared_ptr<detail::PromiseOf<R>> promise) noexcept : promise_(std::move(promise)) {}
  explicit Future(detail::Beneath beneath) noexcept
      : task_(std::move(beneath.task)), promise_(std::static_pointer_cast<detail::PromiseOf<R>>(std::move(beneath.promise))) {}
  detail::Beneath beneath() && noexcept { return {std::move(task_), std::move(promise_)}; }
  detail::Beneath beneath() const& noexcept { return {task_, promise_}; }

  Future(Future&&) noexcept = default;
  Future& operator=(Future&&) noexcept = default;

  /// The task's number in its pool; of a future made by then that of the task it began with, 0 where there were several.
  /// \snippet reference.cpp TaskId
  TaskId id() const { return promise_ ? promise_->id() : task().id; }

  /// Whether the task is resolved. Never waits; a pool whose results nobody waits for is driven by its helper thread.
  /// \snippet reference.cpp poll
  bool ready() const { return promise_ ? promise_->resolved() : task().resolved.load(std::memory_order_acquire); }

  /// Waits until the task is resolved.
  void wait() const { wait_until(detail::Dispatcher::Clock::time_point::max()); }

  /// The same, and tells how far the task is, by its own account: Progress::done and total are those of progress(). See
  /// ProgressCallback; what that throws ends the wait, not the task.
  /// \snippet insight.cpp wait
  void wait(const ProgressCallback& progress) const {
    const Future same(beneath());  // the callback may do as it likes with this one
    detail::ProgressTicker ticker(progress);
    const auto tell = [&](bool finished) {
      if (ticker) ticker.tell(detail::as_progress(same.progress(), finished));
    };
    tell(false);
    while (!same.wait_until(ticker.next())) tell(false);
    tell(true);
  }

  /// Waits for at most so long. Returns ready().
  /// \snippet reference.cpp Future
  template <class Rep, class Period>
  bool wait_for(std::chrono::duration<Rep, Period> time) const {
    using Clock = detail::Dispatcher::Clock;
    const auto now = Clock::now();
    const bool endless = std::chrono::duration<double>(time) > std::chrono::duration<double>(Clock::time_point::max() - now);
    return wait_until(endless ? Clock::time_point::max() : now + std::chrono::ceil<Clock::duration>(time));
  }

  /// Waits, and returns the task's value; may be called again, unless the value was made in the host (then) and can't be
  /// copied. Throws what the task threw, with its type (also a FromTask), or WorkerDied, TaskCancelled, LaunchError, ... ;
  /// SerializationError when the value can't be decoded.
  /// \snippet reference.cpp submit
  R get() const& { return outcome().value(); }

  /// The same for a future that is used up by it, as in pool.submit(f).get(): a large value is moved out, not copied, and
  /// the future has no task any more.
  R get() && { return std::move(*this).outcome().value(); }

  /// Waits, and returns the value or why there is none. Throws nothing of the task's.
  /// \snippet reference.cpp Outcome
  Outcome<R> outcome() && {
    wait();
    if (promise_) return std::exchange(promise_, nullptr)->take();
    if constexpr (detail::is_plain_contiguous<R>) {
      R* const value = assembled();
      if (value != nullptr && task_->readers.load(std::memory_order_acquire) == 0) {
        const detail::TaskPtr used_up = std::move(task_);
        return std::move(*value);
      }
    }
    return outcome_now();
  }
  Outcome<R> outcome() const& {
    wait();
    return promise_ ? promise_->read() : outcome_now();
  }

  /// Has f called, in this process, when the task is resolved: on the thread that resolves it or waits for it, or at once if it
  /// is resolved already. Returns the future of what f returns: any type that can be moved, which is not serialized; the value
  /// of a Future that f returns is waited for. What f throws is the failure of that future.
  ///
  /// f takes the value (R, or nothing for void): then it is not called when there is none, and the failure is passed on. Or it
  /// takes an Outcome<R>, or the Future<R>, and is called in any case; then both are told by f's parameter, so it can't be
  /// `auto`. f may make any call, also wait. Dropping the returned future does not keep f from being called; its cancel()
  /// cancels the task. When f is called at the pool's end, the pool takes no work any more.
  ///
  /// On an lvalue this future keeps its value, and f gets another one: decoded once more, or copied.
  /// \snippet async.cpp then
  template <class F>
  auto then(F&& f) &&;
  template <class F>
  auto then(F&& f) const&;

  /// Waits, and returns what the task has written to stdout and stderr, in the order in which it was written; the last
  /// 64 KiB of it. Empty unless PoolOptions::output is Output::capture, and where this future's value is made in the host (then).
  /// After a retry: that of the last run.
  /// \snippet reference.cpp Output
  std::string output() const {
    wait();
    return promise_ ? std::string() : task().output;
  }

  /// How far the task has come, by its own account (this_task::progress): just now, while it runs; afterwards, at its end,
  /// as far as that was seen. {0, 0} where it has told nothing, or this future is that of a function in the host (then). Never
  /// waits.
  /// \snippet reference.cpp Future::progress
  TaskProgress progress() const { return promise_ ? TaskProgress() : task().dispatcher->progress_of(*task_); }

  /// Gives the task up: one that has not started never will, one that runs is killed with its worker. It resolves as
  /// TaskCancelled, or with its value if that was there first. False when it was resolved already. Of a future made by then,
  /// when_all, ...: what is beneath is given up, whoever else waits for it; a function that runs already is not stopped, but a
  /// Future that it returns is cancelled. Waits for no worker.
  /// \snippet reference.cpp cancel
  bool cancel() {
    if (promise_) return promise_->cancel();
    const auto dispatcher = task().dispatcher;
    return dispatcher->cancel(task_);
  }

 private:
  bool wait_until(detail::Dispatcher::Clock::time_point deadline) const {
    return promise_ ? promise_->wait(deadline) : task().dispatcher->wait(task(), deadline);
  }

  /// A large value that was put together while it was read.
  R* assembled() const noexcept {
    return task_->pull && !task_->failure ? static_cast<R*>(task_->pull->value().get()) : nullptr;
  }

  Outcome<R> outcome_now() const {
    if (task().failure) return *task().failure;
    if constexpr (std::is_void_v<R>) {
      return {};
    } else {
      if constexpr (detail::is_plain_contiguous<R>) {
        if (const R* const value = assembled()) return *value;
      }
      return decoded();
    }
  }

  Outcome<R> decoded() const {
    if constexpr (Serializable<R>) {
      try {
        detail::LargeMessage* const large = task().pull ? &task().pull->message() : nullptr;
        Reader in = large != nullptr ? Reader(large->own.view(), large->blocks) : Reader(task().results[0].view());
        detail::ListedDescriptors descriptors(&task().received, false, task().received_error);
        in.with(&descriptors);
        R value = in.value<R>();
        in.finish();
        return value;
      } catch (const std::exception& error) {
        return undecodable(error.what());
      } catch (...) {
        return undecodable("its Serializer threw something that is no exception");
      }
    } else {
      return undecodable("no task returns it");  // a promise has it
    }
  }

  Failure undecodable(const std::string& why) const {
    detail::FailureRecord record;
    record.kind = FailureKind::serialization;
    record.task = task().id;
    record.where = task().text();
    record.known = task().circumstances();
    record.message = record.where + ": its result of type " +
                     detail::readable_name(std::string(detail::type_name<R>())) + " can't be decoded: " + why;
    return Failure(std::move(record));
  }

  const detail::Task& task() const {
    if (!task_) throw Error("a Future was used that has no task: default-made, or moved from");
    return *task_;
  }

  detail::TaskPtr task_;
  std::shared_ptr<detail::PromiseOf<R>> promise_;  ///< one of the two
};

}  // namespace brood

#include <brood/pool/then.hpp>
