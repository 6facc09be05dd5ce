// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include <brood/core/errors.hpp>
#include <brood/policy/worker_policy.hpp>

namespace brood {

/// What a worker does.
enum class WorkerState {
  starting,  ///< asked for, not yet up
  idle,      ///< waits for a task
  busy,      ///< runs a task
  stopping,  ///< told to leave, or being killed
  spare,     ///< up, and waits for the place of another (PoolOptions::spares)
};

struct WorkerStats {
  pid_t pid = 0;
  unsigned index = 0;  ///< this_worker::index(); a spare worker's is behind those of the places
  WorkerState state = WorkerState::starting;
  TaskId task = 0;  ///< the task that it runs, 0 when it runs none
  std::uint64_t tasks_done = 0;
};

/// Whether a pool gets work done.
enum class PoolState {
  running,  ///< it takes work
  broken,   ///< no worker comes up (PoolStats::cause): what waited has failed, new work has one try, and mends it if that works
  closed,   ///< it takes no more work
};

/// A pool at one moment.
struct PoolStats {
  PoolState state = PoolState::running;
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
};

}  // namespace brood
