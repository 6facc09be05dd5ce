// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

#include <brood/core/limits.hpp>
#include <brood/pool/log.hpp>
#include <brood/pool/progress.hpp>
#include <brood/worker/hook.hpp>

namespace brood::inline v0_1 {

/// Where what a task writes to stdout and stderr goes.
/// \snippet reference.cpp Output
enum class Output : std::uint8_t {
  inherit,  ///< where the host's goes
  capture,  ///< to the host's memory: Future::output(), and Failure::captured_output(); workers get one task at a time
  discard,  ///< nowhere
};

/// How a pool works. Every member has a default that suits most programs.
/// \snippet reference.cpp PoolOptions
struct PoolOptions {
  /// How many workers run at the same time; 0: as many as this process may use CPUs, by affinity and cgroup quota. A
  /// worker is started when there is work for it. Pool::resize changes it.
  unsigned workers = 0;
  /// After so many tasks a worker is replaced by a fresh one; 0: never. Where tasks are short and others wait, the fresh one
  /// is started while the last of them runs.
  std::uint64_t tasks_per_worker = 0;
  /// A worker that has more memory resident than this, in bytes, when a task or an item of a map is done is replaced by a
  /// fresh one; 0: never. What counts is what `ps` shows as RSS, with the pages that it shares with the server. The worker
  /// looks after each task, but not more than once a millisecond. A limit that a fresh worker is beyond already makes the
  /// start fail (LaunchError).
  std::uint64_t memory_per_worker = 0;
  /// How long a task, or an item of a map, may run before it is killed with its worker and fails as TaskTimeout; 0: as
  /// long as it likes. The time in the queue does not count. TaskOptions and MapOptions can say otherwise.
  std::chrono::milliseconds task_timeout{0};
  /// How long the server with its Preloads, and each worker with its start hook, may take to come up; not 0.
  std::chrono::milliseconds start_timeout{30'000};
  /// How long a worker that was told to leave may take, with on_worker_stop, before it is killed.
  std::chrono::milliseconds stop_grace{2'000};
  /// After so long without a task a worker leaves, with on_worker_stop; it is started again when there is work for it. 0: never.
  /// Spare workers stay, and so does the server. While workers wait for their time to be over, a thread of the pool sleeps.
  std::chrono::milliseconds idle_timeout{0};
  /// How many bytes of calls may wait or run at the same time; a submit beyond it throws QueueFull. 0: any number.
  /// What map and try_map send counts, and is never refused: they keep few chunks in flight themselves.
  std::uint64_t max_pending_bytes = 0;
  /// The largest call, and the largest result, in bytes, not 0; a larger one is a MessageTooLarge for its task.
  std::uint64_t max_message_bytes = std::uint64_t{1} << 40;
  /// How many workers are started ahead of need, beside the others: they wait with their start hook done, and one of them
  /// takes over at once when a place becomes free: a worker died, was killed at a deadline, or has had its share of tasks or
  /// memory. It is replaced in the background. They are started as soon as the pool is made. No more tasks run at the same
  /// time. One that can't be started is tried again later, and fails no task. Copies of the host for a closure have none.
  unsigned spares = 0;
  /// What each worker may use, from before its start hook on. A worker that can't take a limit on does not come up
  /// (LaunchError, with the member, the value, the system call and its errno). InlinePolicy takes none on.
  Limits limits{};
  /// What becomes of a worker's stdout and stderr, from its start hook on. Under InlinePolicy they are the caller's.
  Output output = Output::inherit;
  /// Whether the processes that a task has started are killed when its worker ends, in whichever way: each worker leads a
  /// process group of its own. A process that has made a group or a session of its own escapes. So do all when the server
  /// is killed, before Linux 6.9, and when server and host are killed at the same time. What an answered task has left
  /// running lives as long as its worker.
  bool kill_tree = false;
  /// Whether a worker that crashes says where: the frames of its stack go into the failure.
  bool backtraces = true;
  /// Called in each worker before its first task, after the after_fork of the Preloads: a function, a captureless lambda, a
  /// functor with serializable members, or one of these with arguments, `worker_hook(&open_log, "w.log")`. In a spare worker
  /// this_worker::index() is not below the number of workers yet: it has no place. One that throws or ends the process makes the
  /// start fail (LaunchError). InlinePolicy has no workers and never calls it.
  WorkerHook on_worker_start{};
  /// Called in each worker when it leaves in an orderly way, behind its last task: the pool ends, or the worker is replaced for
  /// tasks_per_worker, memory_per_worker or limits of a task, or is not needed any more. Not after a crash, a kill (at a
  /// deadline, for a cancel, by Pool::kill) or an exit of a task, nor when the host is gone, so what must happen can't be left to
  /// it. It has stop_grace, then its worker is killed; what it throws is dropped, and whatever it does fails no task. this_worker
  /// works in it. InlinePolicy never calls it.
  WorkerHook on_worker_stop{};
  /// What this_worker::random_engine() depends on; when it is left out, a fresh one for each pool (PoolStats::seed).
  std::optional<std::uint64_t> seed{};
  /// The working directory of server and workers; empty: the host's when the pool is made, also for those that are started later.
  /// Relative to that one. LaunchError when it is not there or may not be entered. InlinePolicy: the caller's.
  std::string working_directory{};
  /// What is different in the environment of server and workers: "NAME=value" sets a variable, "NAME" takes it away. The rest is
  /// as in the host when the pool is made, also for those that are started later. The host's is never touched. InlinePolicy: the
  /// caller's.
  std::vector<std::string> environment{};
  /// Whether the pool may start a thread of its own, which drives it while work is outstanding and nobody waits. Without it
  /// nobody does: a loop of yours is to call Pool::poll when Pool::descriptor is readable. Whoever waits drives in any case.
  bool helper_thread = true;
  /// The name of the pool in messages, and in ps and top: workers are name-0, name-1, ..., the server is name-srv. Those show
  /// 15 bytes, so the end of a long name is left out there.
  std::string name = "brood";
  /// Is told what happens, one short line of text for each event: a server that is ready or has ended, a worker that is up, was
  /// replaced or died, with the cause, a pool that is broken. The library prints nothing itself. Called one event at a time,
  /// in order, without any lock, by the thread that does the pool's work just then; it may call anything but must not wait for
  /// a task. What it throws is lost.
  LogHook log = nullptr;
  /// Where a trace goes: a file in the Chrome trace event format, which https://ui.perfetto.dev opens: for each worker a row
  /// with its start, its tasks and its death, and the times in the queue. The host writes it as things happen, so that a
  /// worker's crash loses nothing, and a file that a crash of the host leaves is good, too. When another pool writes that file,
  /// or this process has written it before, trace.json becomes trace.2.json and so on. A file that can't be written is said to
  /// `log`, and fails nothing. Empty: the environment variable BROOD_TRACE says where, as it is when the pool is made; when
  /// that is not set either there is none. A traced task costs some microseconds.
  std::string trace{};
};

/// How one task is run: pool.submit({.timeout = 2s}, f, args...).
/// \snippet reference.cpp TaskOptions
struct TaskOptions {
  /// Instead of PoolOptions::task_timeout; 0: that. milliseconds::max() is no limit at all. InlinePolicy can't end a task.
  std::chrono::milliseconds timeout{0};
  /// How often the task is run again when its worker died under it. Not after an exception, a timeout or a cancel: only
  /// a death says nothing about the task itself. What it had done by then is done twice. Before each further try there is
  /// a pause: 1 ms, then twice as long each time, up to 1 s.
  unsigned retries = 0;
  /// Tasks of a higher priority start before others, those of one priority in the order in which they came. One that runs is
  /// not interrupted: a task waits for one running task, of whatever priority, at the most when none of its own priority or
  /// a higher one is before it.
  int priority = 0;
  /// What this task may use, on top of PoolOptions::limits: where both say something, the task's counts, but for the CPU
  /// time, where both do. A limit above the worker's hard one needs a privilege. Not all can be taken off again, so the
  /// worker runs no other task after this one and is replaced: that costs a start. A worker that can't take a limit on
  /// fails this task alone, as LaunchError. InlinePolicy takes none on.
  Limits limits{};
  /// Where the call was made, for messages: "submitted at main.cpp:42". The default is the line where these options are written,
  /// as in pool.submit({.timeout = 2s}, ...); options that are kept in a variable name the line where that was made.
  std::source_location where = std::source_location::current();
};

/// How Pool::map and Pool::try_map work.
/// \snippet reference.cpp MapOptions
struct MapOptions {
  /// How many items travel together; 0: by the measured time of an item. A crash costs one item whatever the size.
  std::size_t chunk_size = 0;
  /// TaskOptions::timeout of each item.
  std::chrono::milliseconds timeout{0};
  /// TaskOptions::retries of each item.
  unsigned retries = 0;
  /// TaskOptions::priority of each item; those that travel together start together.
  int priority = 0;
  /// Is told how far the call has come: {.progress = brood::progress_line("resizing")} of <brood/progress.hpp>, or a
  /// function of your own. See ProgressCallback.
  ProgressCallback progress = nullptr;
  /// Where the call was made, for messages: "submitted at main.cpp:42". The default is the line where these options are written,
  /// as in pool.map(f, items, {.timeout = 2s}). Without any, it is the line of the
  /// call; options that are kept in a variable name the line where that was made.
  std::source_location where = std::source_location::current();
};

/// How Pool::stream and its like work.
/// \snippet reference.cpp stream
struct StreamOptions {
  /// How many items may have been read from the input whose results were not handed out yet; 0: four chunks for each worker,
  /// by the measured time of an item. It bounds the work and the memory in flight, and how far results can lag behind the
  /// input: with 1, each result is handed out before the next item is read.
  std::size_t in_flight = 0;
  /// How many bytes of arguments and results may be in flight, beside that; 0: 64 MiB, and not fewer items than workers. One
  /// item is always possible. What items in flight will return counts as what others have returned, on average.
  std::uint64_t max_bytes = 0;
  /// MapOptions::chunk_size. A chunk is no larger than a worker's half share of in_flight, and does not wait for slow input.
  std::size_t chunk_size = 0;
  /// TaskOptions::timeout of each item.
  std::chrono::milliseconds timeout{0};
  /// TaskOptions::retries of each item.
  unsigned retries = 0;
  /// MapOptions::priority.
  int priority = 0;
  /// When a stream is left early, how long items that run may take to finish before they are killed with their workers;
  /// milliseconds::max(): as long as they like. Its destructor, or cancel(), waits meanwhile.
  std::chrono::milliseconds exit_grace{10};
  /// MapOptions::progress. Called by the thread that reads the stream: when the first result is asked for, then while one is
  /// asked for or waited for, about ten times a second, and when all were handed out or the stream ends with a failure of an
  /// item. Not when it is left early, or the input throws. What it throws comes out of the iterator, and ends the stream.
  ProgressCallback progress = nullptr;
  /// MapOptions::where.
  std::source_location where = std::source_location::current();
};

}  // namespace brood
