// SPDX-License-Identifier: MIT
// The one tree of exceptions. Every message says what happened, where, and what to do about it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <brood/core/exit_status.hpp>

namespace brood::inline v0_1 {

/// The number of a task in its pool: 1, 2, 3, ... ; 0 is no task.
/// \snippet reference.cpp TaskId
using TaskId = std::uint64_t;

/// The root of what the library throws.
/// \snippet reference.cpp Error
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A mix-in of every exception that a task threw in a worker and that is thrown again in the host. It does not derive
/// from std::exception: a base that is there twice would never be caught.
/// \snippet reference.cpp FromTask
class FromTask {
 public:
  /// Made where the exception is thrown again.
  FromTask(pid_t pid, TaskId task) noexcept : pid_(pid), task_(task) {}

  /// The worker in which it was thrown.
  pid_t pid() const noexcept { return pid_; }
  /// The task that threw it.
  TaskId task() const noexcept { return task_; }

 private:
  pid_t pid_;
  TaskId task_;
};

/// A task threw something whose type can't be rebuilt here: neither a standard exception nor a registered type.
/// \snippet reference.cpp TaskError
class TaskError : public Error, public FromTask {
 public:
  /// Made by the library.
  TaskError(const std::string& message, std::string type, std::string said, pid_t pid, TaskId task)
      : Error(message), FromTask(pid, task), type_(std::move(type)), said_(std::move(said)) {}

  /// The name of the type that was thrown.
  const std::string& type() const noexcept { return type_; }
  /// What its what() said; empty for a type that does not derive from std::exception.
  const std::string& said() const noexcept { return said_; }

 private:
  std::string type_;
  std::string said_;
};

namespace detail {

/// What else is known of a task that failed, and of its worker. What is not known is empty, 0 or false.
struct Circumstances {
  std::string callable;
  long peak_rss_kib = 0;
  bool out_of_memory = false;
  std::string output;
  std::string backtrace;
};

}  // namespace detail

/// The worker that ran the task ended before it had answered.
/// \snippet reference.cpp WorkerDied
class WorkerDied : public Error {
 public:
  /// Made by the library.
  WorkerDied(const std::string& message, ExitStatus status, pid_t pid, TaskId task,
             std::shared_ptr<const detail::Circumstances> known = std::make_shared<const detail::Circumstances>())
      : Error(message), status_(status), pid_(pid), task_(task), known_(std::move(known)) {}

  /// How the worker ended; not known() when nobody saw it.
  ExitStatus status() const noexcept { return status_; }
  /// The signal that ended the worker, 0 when none did.
  int signal() const noexcept { return status_.signaled() ? status_.signal() : 0; }
  /// The worker that died.
  pid_t pid() const noexcept { return pid_; }
  /// The task that it ran.
  TaskId task() const noexcept { return task_; }
  /// The name of what the task called.
  const std::string& callable() const noexcept { return known_->callable; }
  /// The most memory that the worker had resident, in KiB; 0 when unknown.
  long peak_rss_kib() const noexcept { return known_->peak_rss_kib; }
  /// Whether the kernel killed it because memory ran out, most likely.
  bool out_of_memory() const noexcept { return known_->out_of_memory; }
  /// The last of what the task wrote to stdout and stderr, under Output::capture.
  const std::string& captured_output() const noexcept { return known_->output; }
  /// Where it crashed, one frame a line, the innermost first; empty when it did not crash, when PoolOptions::backtraces is off,
  /// and with glibc before 2.35.
  const std::string& backtrace() const noexcept { return known_->backtrace; }

 private:
  ExitStatus status_;
  pid_t pid_;
  TaskId task_;
  std::shared_ptr<const detail::Circumstances> known_;  ///< shared: an exception's copy may not throw
};

/// The task was still running at its deadline and was killed.
/// \snippet reference.cpp TaskTimeout
class TaskTimeout : public Error {
 public:
  using Error::Error;
};

/// The task was cancelled before it had answered.
/// \snippet reference.cpp TaskCancelled
class TaskCancelled : public Error {
 public:
  using Error::Error;
};

/// A process could not be started. stage() names the step that failed; error() is its errno, 0 when it was not a
/// system call that failed.
/// \snippet reference.cpp LaunchError
class LaunchError : public Error {
 public:
  /// Made by the library, or by a policy of your own.
  LaunchError(const std::string& message, std::string stage, int error)
      : Error(message), stage_(std::move(stage)), error_(error) {}

  /// The step that failed, most often a system call: "fork", "clone".
  const std::string& stage() const noexcept { return stage_; }
  /// The errno of that step; 0 when it was not a system call that failed.
  int error() const noexcept { return error_; }

 private:
  std::string stage_;
  int error_;
};

/// A Preload could not be built in the server.
/// \snippet reference.cpp LaunchError
class PreloadError : public Error {
 public:
  /// Made by the library.
  PreloadError(const std::string& message, std::string preload) : Error(message), preload_(std::move(preload)) {}

  /// The name of the Preload's type.
  const std::string& preload() const noexcept { return preload_; }

 private:
  std::string preload_;
};

/// The pool takes no more work: close() or kill() was called, or it is being destroyed.
/// \snippet reference.cpp PoolClosed
class PoolClosed : public Error {
 public:
  using Error::Error;
};

/// PoolOptions::max_pending_bytes of calls are waiting already: wait for some results, then submit again.
/// \snippet reference.cpp QueueFull
class QueueFull : public Error {
 public:
  using Error::Error;
};

/// A worker or a server sent bytes that the protocol does not allow.
/// \snippet reference.cpp ProtocolError
class ProtocolError : public Error {
 public:
  using Error::Error;
};

/// A value could not be turned into bytes, or bytes into a value.
/// \snippet reference.cpp SerializationError
class SerializationError : public Error {
 public:
  using Error::Error;
};

/// A SharedArray could not be made or frozen. error() is the errno, 0 when it was not a system call that failed.
/// \snippet reference.cpp SharedMemoryError
class SharedMemoryError : public Error {
 public:
  /// Made by the library.
  SharedMemoryError(const std::string& message, int error) : Error(message), error_(error) {}

  /// The errno; 0 when it was not a system call that failed.
  int error() const noexcept { return error_; }

 private:
  int error_;
};

/// A task's arguments or its result are larger than PoolOptions::max_message_bytes.
/// \snippet reference.cpp MessageTooLarge
class MessageTooLarge : public Error {
 public:
  using Error::Error;
};

/// This end of a Channel is closed, or nobody receives at the other one any more.
/// \snippet reference.cpp ChannelClosed
class ChannelClosed : public Error {
 public:
  using Error::Error;
};

/// A task that runs inside of submit (InlinePolicy) would wait for its Channel for ever.
/// \snippet reference.cpp ChannelDeadlock
class ChannelDeadlock : public Error {
 public:
  using Error::Error;
};

/// A ForkPolicy pool was made in a process with more than one thread.
/// \snippet reference.cpp LaunchError
class HostIsThreaded : public Error {
 public:
  using Error::Error;
};

/// A pool needs to start this program again, but the program never called brood::init.
/// \snippet reference.cpp LaunchError
class InitMissing : public Error {
 public:
  using Error::Error;
};

/// A pool or a future was used in another process than the one that made it.
/// \snippet reference.cpp WrongProcess
class WrongProcess : public Error {
 public:
  using Error::Error;
};

/// A worker does not run the code that the host runs: the program or a library differs.
/// \snippet reference.cpp LaunchError
class ImageMismatch : public Error {
 public:
  using Error::Error;
};

}  // namespace brood
