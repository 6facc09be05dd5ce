// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include <brood/core/config.hpp>
#include <brood/core/bytes.hpp>
#include <brood/core/errors.hpp>
#include <brood/core/exit_status.hpp>
#include <brood/os/limits.hpp>
#include <brood/worker/standard_exceptions.hpp>

namespace brood::inline v0_1 {

/// Why a task has no value.
/// \snippet reference.cpp FailureKind
enum class FailureKind : std::uint8_t {
  exception,       ///< it threw
  worker_died,     ///< its worker ended under it
  timeout,         ///< it was killed at its deadline
  cancelled,       ///< it was cancelled, or the pool was killed
  launch,          ///< no worker could be started for it, or the worker could not take on its TaskOptions::limits
  preload,         ///< the server could not build a Preload
  closed,          ///< the pool was closed before it could start
  protocol,        ///< its worker sent what the protocol does not allow
  serialization,   ///< its arguments, its result or its exception could not be encoded or decoded
  too_large,       ///< its result is larger than PoolOptions::max_message_bytes
  image_mismatch,  ///< the worker does not have the code that was asked for
};

namespace detail {

/// What the host knows about a failure when it happens.
struct FailureRecord {
  FailureKind kind = FailureKind::worker_died;
  std::string message;
  ExitStatus status;
  pid_t pid = 0;
  TaskId task = 0;
  Circumstances known;
  std::string where;               ///< "task 7 (score) in worker 4711", for texts made later
  Bytes thrown;                    ///< kind exception: what the task threw, as data
  std::exception_ptr cause;        ///< kinds launch, preload, image_mismatch, protocol: what to throw, when it is known
  /// What takes time to find out, such as the names of functions: completes `message` and `known.backtrace`, nothing else.
  std::function<void(FailureRecord&)> late;
};

/// A failure that is shared. What takes time is found out once, by the first thread that wants it: never with a lock of the
/// pool's held, and never for a failure that nobody looks at.
class SharedFailure {
 public:
  explicit SharedFailure(FailureRecord record) : has_late_part_(record.late != nullptr), record_(std::move(record)) {}

  /// Without what is found out later: message and backtrace are not to be read.
  const FailureRecord& early() const noexcept { return record_; }

  const FailureRecord& whole() const noexcept {
    if (!has_late_part_) return record_;
    std::call_once(once_, [this] {
      try {
        record_.late(record_);
      } catch (...) {  // out of memory: the rest of the message stands
      }
      record_.late = nullptr;
    });
    return record_;
  }

 private:
  const bool has_late_part_;
  mutable std::once_flag once_;
  mutable FailureRecord record_;
};

}  // namespace detail

/// Why a task has no value: kind, text, and what is known of its worker. Cheap to copy.
/// \snippet failures.cpp Failure
class Failure {
 public:
  /// Made by the library.
  explicit Failure(detail::FailureRecord record)
      : record_(std::make_shared<const detail::SharedFailure>(std::move(record))) {}

  /// What kind of failure it is.
  FailureKind kind() const noexcept { return record_->early().kind; }
  /// What happened, where (task, callable, worker), and what to do about it. After a crash, the first call of this,
  /// backtrace() or exception() reads symbol tables.
  const std::string& message() const noexcept { return record_->whole().message; }
  /// How the worker ended; not known() where nobody saw it, and where no worker ended.
  ExitStatus status() const noexcept { return record_->early().status; }
  /// The signal that ended the worker, 0 when none did.
  int signal() const noexcept { return record_->early().status.signaled() ? record_->early().status.signal() : 0; }
  /// The worker, 0 when there was none.
  pid_t pid() const noexcept { return record_->early().pid; }
  /// The task that has no value.
  TaskId task() const noexcept { return record_->early().task; }
  /// The name of what the task called: the function, or the type of the functor.
  const std::string& callable() const noexcept { return record_->early().known.callable; }
  /// The most memory that the worker had resident, in KiB; 0 when it did not end, or nobody saw it.
  long peak_rss_kib() const noexcept { return record_->early().known.peak_rss_kib; }
  /// Whether the kernel killed the worker because memory ran out, most likely: it was a SIGKILL that is not ours, and the
  /// kernel counts such kills.
  bool out_of_memory() const noexcept { return record_->early().known.out_of_memory; }
  /// The last of what the task wrote to stdout and stderr, under Output::capture. For an item of a map: what was written
  /// since the chunk that it travelled in began.
  const std::string& captured_output() const noexcept { return record_->early().known.output; }
  /// Where the worker crashed, one frame a line, the innermost first: "#0 function()+0x1c (module+0x5a1c)". Empty when it
  /// did not crash, or had other handlers for it, or PoolOptions::backtraces is off, and with glibc before 2.35.
  const std::string& backtrace() const noexcept { return record_->whole().known.backtrace; }

  /// The exception that Future::get throws for this failure.
  std::exception_ptr exception() const {
    const detail::FailureRecord& it = record_->whole();
    if (it.cause) return it.cause;
    switch (it.kind) {
      case FailureKind::exception:
        try {
          Reader in(it.thrown.view());
          return detail::read_exception(in, {it.pid, it.task}, it.where);
        } catch (const std::exception& failure) {
          return std::make_exception_ptr(
              SerializationError(it.where + " threw something that can't be decoded: " + failure.what()));
        }
      case FailureKind::worker_died:
        return std::make_exception_ptr(WorkerDied(it.message, it.status, it.pid, it.task, {record_, &it.known}));
      case FailureKind::timeout: return std::make_exception_ptr(TaskTimeout(it.message));
      case FailureKind::cancelled: return std::make_exception_ptr(TaskCancelled(it.message));
      case FailureKind::launch: return std::make_exception_ptr(LaunchError(it.message, "start", 0));
      case FailureKind::preload: return std::make_exception_ptr(PreloadError(it.message, ""));
      case FailureKind::closed: return std::make_exception_ptr(PoolClosed(it.message));
      case FailureKind::protocol: return std::make_exception_ptr(ProtocolError(it.message));
      case FailureKind::serialization: return std::make_exception_ptr(SerializationError(it.message));
      case FailureKind::too_large: return std::make_exception_ptr(MessageTooLarge(it.message));
      case FailureKind::image_mismatch: return std::make_exception_ptr(ImageMismatch(it.message));
    }
    return std::make_exception_ptr(Error(it.message));
  }

  /// Throws exception().
  [[noreturn]] void raise() const { std::rethrow_exception(exception()); }

 private:
  std::shared_ptr<const detail::SharedFailure> record_;
};

namespace detail {

/// What a worker says when a task has no value: a kind, and a text or an exception.
BROOD_INLINE void write_failure(Writer& out, FailureKind kind, const std::string& text);
BROOD_INLINE void write_failure(Writer& out, const std::exception_ptr& thrown);
BROOD_INLINE void write_failure(Writer& out, const NotTakenOn& refused);
BROOD_INLINE void write_too_large(Writer& out, std::uint64_t size, std::uint64_t limit);

/// Turns what a worker said into a failure. Bytes that make no sense become a failure of kind protocol.
BROOD_INLINE Failure read_failure(std::span<const std::byte> bytes, Origin origin, const std::string& where, Circumstances known = {});

#if BROOD_BODIES

BROOD_INLINE void write_failure(Writer& out, FailureKind kind, const std::string& text) {
  out.number(kind);
  out.text(text.substr(0, max_exception_text));
}

BROOD_INLINE void write_too_large(Writer& out, std::uint64_t size, std::uint64_t limit) {
  write_failure(out, FailureKind::too_large,
                "its result is " + std::to_string(size) + " bytes long, more than PoolOptions::max_message_bytes (" +
                    std::to_string(limit) + "); raise the limit or return less");
}

BROOD_INLINE void write_failure(Writer& out, const std::exception_ptr& thrown) {
  out.number(FailureKind::exception);
  write_exception(out, thrown);
}

BROOD_INLINE void write_failure(Writer& out, const NotTakenOn& refused) {
  out.number(FailureKind::launch);
  out.text(std::string_view(refused.what()).substr(0, max_exception_text));
  out.text(refused.call());
  out.number<std::int32_t>(refused.error());
}

BROOD_INLINE Failure read_failure(std::span<const std::byte> bytes, Origin origin, const std::string& where, Circumstances known) {
  FailureRecord record;
  record.known = std::move(known);
  record.pid = origin.pid;
  record.task = origin.task;
  record.where = where;
  try {
    Reader in(bytes);
    record.kind = in.number<FailureKind>();
    switch (record.kind) {
      case FailureKind::exception: {
        record.thrown.append(bytes.data() + 1, bytes.size() - 1);
        const ExceptionSummary summary = summarize_exception(record.thrown.view());
        record.message = where + " threw " + readable_name(summary.type) + (summary.said.empty() ? "" : ": " + summary.said);
        break;
      }
      case FailureKind::launch: {
        record.message = where + " " + std::string(in.text());
        const std::string stage(in.text());
        record.cause = std::make_exception_ptr(LaunchError(record.message, stage, in.number<std::int32_t>()));
        break;
      }
      case FailureKind::serialization:
      case FailureKind::too_large:
      case FailureKind::image_mismatch: record.message = where + ": " + std::string(in.text()); break;
      default: Reader::fail("an unknown kind of failure");
    }
  } catch (const std::exception& failure) {
    record.kind = FailureKind::protocol;
    record.message = where + " failed, and what its worker said about it makes no sense: " + failure.what();
  }
  return Failure(std::move(record));
}

#endif  // BROOD_BODIES

}  // namespace detail
}  // namespace brood
