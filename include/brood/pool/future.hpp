// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <string>
#include <type_traits>
#include <utility>

#include <brood/pool/dispatcher.hpp>
#include <brood/pool/outcome.hpp>
#include <brood/pool/pull.hpp>
#include <brood/wire/serializer.hpp>

namespace brood {

/// What a task will return. Movable; dropping it neither blocks nor cancels the task. A thread that waits does the
/// pool's work meanwhile. Thread-safe for different futures; one future is for one thread at a time. May outlive its
/// pool, whose end resolves it.
template <class R>
class Future {
 public:
  /// A future of nothing: may only be assigned to.
  Future() noexcept = default;

  // internal
  explicit Future(detail::TaskPtr task) noexcept : task_(std::move(task)) {}

  Future(Future&&) noexcept = default;
  Future& operator=(Future&&) noexcept = default;

  /// The task's number in its pool.
  TaskId id() const { return task().id; }

  /// Whether the task is resolved. Never waits; a pool whose results nobody waits for is driven by its helper thread.
  bool ready() const { return task().resolved.load(std::memory_order_acquire); }

  /// Waits until the task is resolved.
  void wait() const { task().dispatcher->wait(task()); }

  /// Waits for at most so long. Returns ready().
  template <class Rep, class Period>
  bool wait_for(std::chrono::duration<Rep, Period> time) const {
    using Clock = detail::Dispatcher::Clock;
    const auto now = Clock::now();
    const bool endless = std::chrono::duration<double>(time) > std::chrono::duration<double>(Clock::time_point::max() - now);
    return task().dispatcher->wait(
        task(), endless ? Clock::time_point::max() : now + std::chrono::ceil<Clock::duration>(time));
  }

  /// Waits, and returns the task's value; may be called again. Throws what the task threw, with its type (also a
  /// FromTask), or WorkerDied, TaskCancelled, LaunchError, ... ; SerializationError when the value can't be decoded.
  R get() const& { return outcome().value(); }

  /// The same for a future that is used up by it, as in pool.submit(f).get(): a large value is moved out, not copied, and
  /// the future has no task any more.
  R get() && { return std::move(*this).outcome().value(); }

  /// Waits, and returns the value or why there is none. Throws nothing of the task's.
  Outcome<R> outcome() && {
    wait();
    if constexpr (detail::is_plain_contiguous<R>) {
      if (R* const value = assembled()) {
        const detail::TaskPtr used_up = std::move(task_);
        return std::move(*value);
      }
    }
    return outcome_now();
  }
  Outcome<R> outcome() const& {
    wait();
    return outcome_now();
  }

  /// Waits, and returns what the task has written to stdout and stderr, in the order in which it was written; the last
  /// 64 KiB of it. Empty unless PoolOptions::output is Output::capture. After a retry: that of the last run.
  std::string output() const {
    wait();
    return task().output;
  }

  /// How far the task has come, by its own account (this_task::progress): just now, while it runs; afterwards, at its end,
  /// as far as that was seen. {0, 0} where it has told nothing. Never waits.
  TaskProgress progress() const { return task().dispatcher->progress_of(*task_); }

  /// Gives the task up: one that has not started never will, one that runs is killed with its worker. It resolves as
  /// TaskCancelled, or with its value if that was there first. False when it was resolved already.
  bool cancel() {
    const auto dispatcher = task().dispatcher;
    return dispatcher->cancel(task_);
  }

 private:
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
      try {
        detail::LargeMessage* const large = task().pull ? &task().pull->message() : nullptr;
        Reader in = large != nullptr ? Reader(large->own.view(), large->blocks) : Reader(task().results[0].view());
        detail::ListedDescriptors descriptors(&task().received);
        in.with(&descriptors);
        R value = in.value<R>();
        in.finish();
        return value;
      } catch (const std::exception& error) {
        return undecodable(error.what());
      } catch (...) {
        return undecodable("its Serializer threw something that is no exception");
      }
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
};

}  // namespace brood
