// SPDX-License-Identifier: MIT
// The one tree of exceptions. Every message says what happened, where, and what to do about it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include <brood/core/exit_status.hpp>

namespace brood {

/// The number of a task in its pool: 1, 2, 3, ... ; 0 is no task.
using TaskId = std::uint64_t;

/// The root of what the library throws.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A mix-in of every exception that a task threw in a worker and that is thrown again in the host. It does not derive
/// from std::exception: a base that is there twice would never be caught.
class FromTask {
 public:
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
class TaskError : public Error, public FromTask {
 public:
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

/// The worker that ran the task ended before it had answered.
class WorkerDied : public Error {
 public:
  WorkerDied(const std::string& message, ExitStatus status, pid_t pid, TaskId task)
      : Error(message), status_(status), pid_(pid), task_(task) {}

  ExitStatus status() const noexcept { return status_; }
  pid_t pid() const noexcept { return pid_; }
  TaskId task() const noexcept { return task_; }

 private:
  ExitStatus status_;
  pid_t pid_;
  TaskId task_;
};

/// The task was still running at its deadline and was killed.
class TaskTimeout : public Error {
 public:
  using Error::Error;
};

/// The task was cancelled before it had answered.
class TaskCancelled : public Error {
 public:
  using Error::Error;
};

/// A process could not be started. stage() names the step that failed; error() is its errno, 0 when it was not a
/// system call that failed.
class LaunchError : public Error {
 public:
  LaunchError(const std::string& message, std::string stage, int error)
      : Error(message), stage_(std::move(stage)), error_(error) {}

  const std::string& stage() const noexcept { return stage_; }
  int error() const noexcept { return error_; }

 private:
  std::string stage_;
  int error_;
};

/// A Preload could not be built in the server.
class PreloadError : public Error {
 public:
  PreloadError(const std::string& message, std::string preload) : Error(message), preload_(std::move(preload)) {}

  /// The name of the Preload's type.
  const std::string& preload() const noexcept { return preload_; }

 private:
  std::string preload_;
};

/// The pool takes no more work: close() or kill() was called, or it is being destroyed.
class PoolClosed : public Error {
 public:
  using Error::Error;
};

/// PoolOptions::max_pending_bytes of calls are waiting already: wait for some results, then submit again.
class QueueFull : public Error {
 public:
  using Error::Error;
};

/// A worker or a server sent bytes that the protocol does not allow.
class ProtocolError : public Error {
 public:
  using Error::Error;
};

/// A value could not be turned into bytes, or bytes into a value.
class SerializationError : public Error {
 public:
  using Error::Error;
};

/// A task's arguments or its result are larger than PoolOptions::max_message_bytes.
class MessageTooLarge : public Error {
 public:
  using Error::Error;
};

/// A ForkPolicy pool was made in a process with more than one thread.
class HostIsThreaded : public Error {
 public:
  using Error::Error;
};

/// A pool needs to start this program again, but the program never called brood::init.
class InitMissing : public Error {
 public:
  using Error::Error;
};

/// A pool or a future was used in another process than the one that made it.
class WrongProcess : public Error {
 public:
  using Error::Error;
};

/// A worker does not run the code that the host runs: the program or a library differs.
class ImageMismatch : public Error {
 public:
  using Error::Error;
};

}  // namespace brood
