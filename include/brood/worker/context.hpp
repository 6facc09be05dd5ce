// SPDX-License-Identifier: MIT
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <brood/core/errors.hpp>
#include <brood/core/random_engine.hpp>
#include <brood/core/type_name.hpp>
#include <brood/wire/status_page.hpp>

namespace brood::inline v0_1 {

class Writer;

namespace detail {

/// A Preload that stands ready.
struct PreloadedObject {
  std::string_view type;
  const void* key = nullptr;  ///< type_key of its type, where it was asked for
  const void* object = nullptr;
  void (*after_fork)(const void* object) = nullptr;  ///< its hook, where it has one
};

/// Takes the results of a chunk's items, one after the other.
class ItemSink {
 public:
  /// The next item starts. False when it may not: the chunk ends here.
  virtual bool start() = 0;
  /// Its result is complete: `failed` or not, these bytes.
  virtual void finish(bool failed, std::span<const std::byte> bytes) = 0;
  /// The last item that was finished, without a failure and without a byte, gets these after all, or has `failed`.
  virtual void amend(bool failed, std::span<const std::byte> bytes) = 0;
  /// The bytes that come next name descriptors. Throws when these can't travel.
  virtual void pass_descriptors() = 0;

 protected:
  ~ItemSink() = default;
};

/// Sends a result whose large parts are still where the task left them. When it returns they may go.
class ResultSender {
 public:
  virtual void send_result(Writer& out) = 0;

 protected:
  ~ResultSender() = default;
};

/// The engine that a task asks for. It is made when it is asked for, so a task that does not costs nothing. It lives in the
/// worker and was made there: no copy of it, by a fork or otherwise, is ever another task's.
class TaskRandom {
 public:
  static constexpr std::uint64_t start_hook = ~std::uint64_t{0};  ///< as the number of a call
  static constexpr std::uint64_t stop_hook = start_hook - 1;

  void begin(std::uint64_t seed) noexcept {
    seed_ = seed;
    seeded_ = true;
  }
  /// Whether there is a pool's seed: not where a Preload is built.
  bool seeded() const noexcept { return seeded_; }

  /// The engine of this task, item and call, where it has left off.
  RandomEngine& of(TaskId task, std::uint64_t call, std::uint64_t item) noexcept {
    if (task != task_ || call != call_ || item != item_) {
      engine_ = RandomEngine(seed_, call, item);
      task_ = task;
      call_ = call;
      item_ = item;
    }
    return engine_;
  }

 private:
  bool seeded_ = false;
  std::uint64_t seed_ = 0;
  TaskId task_ = ~TaskId{0};  // whose engine it is: nobody's
  std::uint64_t call_ = 0;
  std::uint64_t item_ = 0;
  RandomEngine engine_;
};

/// What a task may know of where it runs. A task's code may live in a shared library that has its own copy of the
/// library's variables, so this travels as an argument and is installed by the task itself.
struct TaskContext {
  unsigned index = 0;  ///< the worker's place in its pool
  TaskId task = 0;
  std::uint64_t call = 0;  ///< its number among the calls of its pool
  std::uint64_t item = 0;  ///< of a chunk: the index in the range of the item that runs
  TaskRandom random;
  StatusPage* page = nullptr;                              ///< null under InlinePolicy
  ProgressWords* progress = nullptr;                       ///< where the task may say how far it has come
  const std::vector<PreloadedObject>* preloaded = nullptr;  ///< null where none was built ahead
  const void* snapshot = nullptr;  ///< a closure's state, inherited from the host as it was at the call
  ItemSink* items = nullptr;
  ResultSender* sender = nullptr;  ///< of a single call
  std::uint64_t max_result_bytes = ~std::uint64_t{0};
};

/// The context of the task that this thread runs.
inline thread_local TaskContext* thread_context = nullptr;
/// The same for threads that a task has started. Null in a host.
inline constinit std::atomic<TaskContext*> process_context{nullptr};

inline TaskContext* current_context() noexcept {
  return thread_context != nullptr ? thread_context : process_context.load(std::memory_order_acquire);
}

/// Installs a context for as long as it lives.
class ContextScope {
 public:
  explicit ContextScope(TaskContext& context) noexcept : thread_before_(thread_context), in_worker_(context.page != nullptr) {
    thread_context = &context;
    if (in_worker_) process_before_ = process_context.exchange(&context, std::memory_order_acq_rel);
  }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;
  ~ContextScope() {
    thread_context = thread_before_;
    if (in_worker_) process_context.store(process_before_, std::memory_order_release);
  }

 private:
  TaskContext* thread_before_;
  TaskContext* process_before_ = nullptr;
  bool in_worker_;  ///< under InlinePolicy several threads of the host run tasks at once
};

inline TaskContext& require_context(const char* caller) {
  TaskContext* const context = current_context();
  if (context == nullptr) {
    throw Error(std::string(caller) + " was called outside of a task; it is for code that a pool runs in a worker");
  }
  return *context;
}

}  // namespace detail

/// The worker that runs the calling code. Each throws Error outside of a task.
namespace this_worker {

/// The worker's place in its pool, 0 to workers - 1; its replacement has the same. Only in the start hook of a spare worker,
/// which has no place yet, it is more.
/// \snippet reference.cpp this_worker
inline unsigned index() { return detail::require_context("this_worker::index()").index; }

/// The worker's process id.
/// \snippet reference.cpp this_worker
inline pid_t pid() {
  detail::require_context("this_worker::pid()");
  return ::getpid();
}

/// Random numbers for the task, or the item of a map, that runs. Which ones depends on PoolOptions::seed and on the number of
/// the call (and of the item in its range) alone: they are the same for any number of workers, any chunks, under every policy
/// and in a retry. Two tasks, items or calls never have the same. The reference is good for the task; asked for again, the
/// engine goes on where it was. It is for the thread that runs the task: for each other thread n that this starts, from 1, it
/// makes a `random_engine().part(n)`.
///
/// In a start hook the numbers depend on the seed and on this_worker::index(). Throws Error outside of a task, and in the
/// constructor of a Preload, whose numbers all workers would have.
/// \snippet reference.cpp random_engine
inline RandomEngine& random_engine() {
  detail::TaskContext& context = detail::require_context("this_worker::random_engine()");
  if (!context.random.seeded()) {
    throw Error("this_worker::random_engine() was called while a Preload is built, in the server: all workers would have its "
                "numbers. Call it in after_fork, or in tasks");
  }
  return context.random.of(context.task, context.call, context.item);
}

}  // namespace this_worker

/// The task that the calling code belongs to. Each throws Error outside of a task.
namespace this_task {

/// The number of the task in its pool; that of Future::id().
/// \snippet reference.cpp this_worker
inline TaskId id() { return detail::require_context("this_task::id()").task; }

/// Tells the host how far the task has come: `done` of `total` of whatever the task counts. Future::progress, PoolStats and
/// a progress callback show it. In an item of a map it is the item's. Two stores to shared memory, no system call: a few
/// nanoseconds, also in a build without -O, so it may be called in an inner loop.
/// \snippet reference.cpp Future::progress
inline void progress(std::uint64_t done, std::uint64_t total) {
  const detail::TaskContext* context = detail::thread_context;
  if (context == nullptr) context = &detail::require_context("this_task::progress()");
  if (context->progress != nullptr) context->progress->report(done, total);
}

}  // namespace this_task
}  // namespace brood
