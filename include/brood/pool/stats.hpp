// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <brood/core/errors.hpp>
#include <brood/core/task_progress.hpp>
#include <brood/policy/worker_policy.hpp>

namespace brood::inline v0_1 {

/// What a worker does.
/// \snippet reference.cpp stats
enum class WorkerState {
  starting,  ///< asked for, not yet up
  idle,      ///< waits for a task
  busy,      ///< runs a task
  stopping,  ///< told to leave, or being killed
  spare,     ///< up, and waits for the place of another (PoolOptions::spares)
};

/// One worker at one moment.
/// \snippet reference.cpp stats
struct WorkerStats {
  pid_t pid = 0;       ///< its process id
  unsigned index = 0;  ///< this_worker::index(); a spare worker's is behind those of the places
  WorkerState state = WorkerState::starting;  ///< what it does
  TaskId task = 0;  ///< the task that it runs, 0 when it runs none
  std::uint64_t tasks_done = 0;  ///< tasks that it has answered; a chunk of a map is one
  std::string callable;                             ///< the name of what that task calls
  std::chrono::steady_clock::time_point since{};    ///< when it has started, in a map with a timeout the item of it that runs
  TaskProgress progress;                            ///< how far it is, or the item that runs, by its own account
  std::uint64_t items = 0;                          ///< of a map: how many items it has
  std::uint64_t items_done = 0;                     ///< and how many of them are done
  std::chrono::steady_clock::time_point started{};  ///< when the worker was asked for
  std::chrono::nanoseconds busy{0};                 ///< what of the time since then it has spent on tasks
};

/// Whether a pool gets work done.
/// \snippet reference.cpp stats
enum class PoolState {
  running,  ///< it takes work
  broken,   ///< no worker comes up (PoolStats::cause): what waited has failed, new work has one try, and mends it if that works
  closed,   ///< it takes no more work
};

/// A pool at one moment.
/// \snippet reference.cpp stats
struct PoolStats {
  PoolState state = PoolState::running;  ///< whether it gets work done
  std::string cause;                   ///< why the pool is broken
  pid_t server_pid = 0;                ///< 0 when there is no server just now
  std::vector<PreloadStats> preloads;  ///< what its servers have built, in order
  std::vector<WorkerStats> workers;    ///< the workers that have a process, by index
  unsigned capacity = 0;               ///< how many workers may run at a time: PoolOptions::workers, or what Pool::resize said
  std::uint64_t seed = 0;              ///< PoolOptions::seed, or the fresh one: to have the same random numbers again
  std::size_t queued = 0;              ///< tasks that no worker has started
  std::size_t running = 0;             ///< tasks that a worker has started
  std::size_t spares = 0;              ///< workers that are up and wait for a place
  std::uint64_t done = 0;              ///< tasks with a value, since the pool was made
  std::uint64_t failed = 0;            ///< tasks with a failure, since the pool was made
  std::uint64_t workers_started = 0;   ///< since the pool was made
  std::uint64_t workers_died = 0;      ///< by themselves, or killed for a timeout, a cancel or what they sent; not those told to leave
  std::uint64_t workers_restarted = 0;  ///< of those started: in the place of one that had ended
  std::uint64_t workers_recycled = 0;   ///< told to leave because they had had their share of tasks, or too much memory
  std::uint64_t servers_started = 0;    ///< that came up; each but the first in the place of one that had ended
  std::uint64_t bytes_sent = 0;         ///< to workers, large arguments that they read from this process's memory among them
  std::uint64_t bytes_received = 0;     ///< from workers, large results read from their memory among them
  std::chrono::nanoseconds worker_time{0};  ///< how long workers have lived, all together
  std::chrono::nanoseconds busy_time{0};    ///< what of that they have spent on tasks

  /// From 0 to 1: what of their time since the pool was made its workers have spent on tasks.
  double busy_share() const noexcept {
    if (worker_time.count() <= 0) return 0;
    return static_cast<double>(busy_time.count()) / static_cast<double>(worker_time.count());
  }
};

}  // namespace brood
