// SPDX-License-Identifier: MIT
// internal
// The heart of a pool: its queue, its workers, its sources, and who drives them.
//
// Driving. All progress is made in turn(): wait for events, handle them, recompute what should be. At most one thread is
// the driver. A thread that waits for a task becomes the driver when there is none, so that a synchronous call needs no
// other thread; others that wait sleep until their task is resolved or the driver's place is free. A helper thread takes
// the place when work is outstanding and nobody waits. While it runs callbacks, a second one does.
//
// Invariants
// - mutex_ guards everything but Task::resolved; it is never held while code of the user runs, nor during epoll_wait.
// - A task is in exactly one place: a queue, one slot's `assigned`, or resolved. resolve() is the only way into the last,
//   and is passed once.
// - Supervision is level-triggered: supervise() looks at queue, slots and sources as they are, whatever events led there.
// - Callbacks run after the driver's place has been given up, so that they may call anything; and while they run somebody
//   else takes it if there is work. Without a helper (PoolOptions::helper_thread): dispatcher_loop.hpp.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <brood/os/cpus.hpp>
#include <brood/os/entropy.hpp>
#include <brood/os/memory_pressure.hpp>
#include <brood/os/own_process.hpp>
#include <brood/os/poller.hpp>
#include <brood/os/threads.hpp>
#include <brood/pool/dispatcher_bounds.hpp>
#include <brood/pool/driver_seat.hpp>
#include <brood/pool/insight.hpp>
#include <brood/pool/options.hpp>
#include <brood/pool/policy_handle.hpp>
#include <brood/pool/progress.hpp>
#include <brood/pool/pull.hpp>
#include <brood/pool/slot.hpp>
#include <brood/pool/slot_timers.hpp>
#include <brood/pool/source.hpp>
#include <brood/pool/stats.hpp>
#include <brood/pool/surroundings.hpp>
#include <brood/pool/task.hpp>
#include <brood/pool/task_queue.hpp>
#include <brood/pool/time_after.hpp>

namespace brood::inline v0_1::detail {

class Dispatcher : public std::enable_shared_from_this<Dispatcher>, private DispatcherBounds {
 public:
  using Clock = std::chrono::steady_clock;

  Dispatcher(PoolOptions options, PolicyHandle policy);
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;
  ~Dispatcher();

  /// Launches the server and waits until it is ready. Throws what a server's failure is.
  void launch();
  /// Throws WrongProcess in another process than the one that made the pool.
  void check_process(const char* call) const;
  bool in_own_process() const noexcept { return own_.same(); }

  /// A new task with a number. Its payload and name are to be filled in.
  TaskPtr make_task();
  /// The number of a call that is made of many tasks. A single task gets its own when it is accepted.
  std::uint64_t number_call();
  /// Whether the thread that submits is about to wait. If it is, no helper is needed.
  enum class Caller : std::uint8_t { leaves, waits };

  /// Accepts a task. `state` is a closure's, under a policy that runs inline. Throws PoolClosed.
  void enqueue(const TaskPtr& task, Caller caller, const void* state = nullptr);
  /// Starts another source that can only be used by the tasks given to it: a snapshot of the host as it is now.
  std::uint32_t launch_snapshot(const void* state);
  /// The snapshot gets no further tasks.
  void release_snapshot(std::uint32_t source) noexcept;

  /// Waits until the task is resolved; drives meanwhile. False when the deadline passes first.
  bool wait(const Task& task, Clock::time_point deadline = Clock::time_point::max());
  /// Waits until one of the tasks is resolved, the deadline passes, or the pool has another number of workers than this one.
  void wait_any(std::span<const TaskPtr> tasks, Clock::time_point deadline = Clock::time_point::max(),
                std::optional<unsigned> workers = {});
  /// Hears what has happened, without waiting. Returns how many tasks were resolved meanwhile.
  std::size_t poll();
  /// Waits until every accepted task is resolved.
  void wait_all(const ProgressCallback& progress = nullptr);
  /// How far a task has come, by its own account.
  TaskProgress progress_of(Task& task);
  /// Adds what is known of chunks that are not taken in yet.
  void add_progress(std::span<const TaskPtr> chunks, Progress& progress);
  /// Drives until the condition holds, which is looked at in each turn, and after a kick(). False when the deadline passes first.
  template <class Done>
  bool drive(Done done, Clock::time_point deadline);
  void kick() noexcept;
  int descriptor() const;
  /// Calls `callback` when the task is resolved: at once if it is.
  void when_resolved(const TaskPtr& task, std::function<void()> callback);
  /// The same, but false, and nothing is called, if it is.
  bool watch(const TaskPtr& task, std::function<void()> callback);

  bool cancel(const TaskPtr& task);
  /// Cancels the task unless a worker has started it.
  void cancel_unstarted(const TaskPtr& task);
  /// Cancels chunks. Their items that run may finish for so long.
  void end_early(std::span<const TaskPtr> chunks, std::chrono::milliseconds grace);
  /// Why no more work is taken; a later one counts more.
  enum class Closing : std::uint8_t { open, closed, killed, destroyed };
  void close(Closing why = Closing::closed);
  void cancel_pending();
  void kill();
  PoolStats stats();
  /// Items of chunks that came back as failures: counted as done when they arrived.
  void count_failed_items(std::uint64_t count);
  /// An item of a map could not be sent.
  void count_refused_item();
  /// Ends everything: no task may be outstanding. Within stop_grace and a second.
  void shut_down();
  /// After a shutdown that failed: lets go of the helper thread, so that the rest ends with the last future.
  void give_up() noexcept;
  /// Shuts down by itself once nothing is outstanding.
  void shut_down_when_idle();

  const PoolOptions& options() const noexcept { return options_; }
  const PolicyHandle& policy() const noexcept { return policy_; }
  unsigned worker_count() const noexcept { return target_; }
  /// Sets how many places there are; 0: as many as usable CPUs. Throws std::invalid_argument.
  void resize(unsigned workers);

 private:
  using Lock = std::unique_lock<std::mutex>;

  enum class Tag : std::uint8_t { bell, alarm, source, source_end, results, tasks, pidfd, output };
  static constexpr std::uint64_t tag(Tag kind, std::uint32_t index, std::uint64_t generation = 0) noexcept {
    return static_cast<std::uint64_t>(kind) << 56 | (generation & 0xffffffff) << 24 | (index & 0xffffff);
  }

  struct FrameHandler;

  // driving: dispatcher_drive.hpp
  template <class Done>
  bool drive_until(Lock& lock, Done done, Clock::time_point deadline);
  bool work_left() const noexcept;
  void hand_over();
  void arm() noexcept;
  void turn(Lock& lock, Clock::time_point deadline);
  void handle(const Poller::Event& event);
  void run_callbacks(Lock& lock);
  void bury(Lock& lock);
  Clock::time_point next_timer() const;
  void set_timer(Slot& slot, Clock::time_point Slot::* which, Clock::time_point when);
  void fire_timers();
  bool ensure_helper();
  bool on_helper() const noexcept;
  void help_callbacks(Lock& lock);
  void help();

  // sources and workers: dispatcher_sources.hpp
  void launch_main();
  std::uint32_t add_source(std::unique_ptr<WorkerSource> impl, bool snapshot);
  Source* find_source(std::uint32_t id);
  void hear_source(std::uint32_t id);
  void watch_end(Slot& slot);
  void count_preloads(const Source& source);
  void count_launch_failure(unsigned weight);
  void end_source(Source& source, const std::exception_ptr& cause, bool killed = false);
  void supervise();
  void supervise_main();
  void supervise_source(Source& source);
  Slot* fill_place(Source& source);
  std::optional<std::uint32_t> free_place_of(const Source& source);
  Slot* start_worker(Source& source, Seat seat, std::uint32_t place);
  Slot& vacant_slot();
  void take_seat(Slot& slot, Seat seat, std::uint32_t place);
  void leave_seat(Slot& slot) noexcept;
  Slot* best_spare(const Source& source) const noexcept;
  const std::shared_ptr<const Bytes>& setup();
  std::uint32_t number_of(const Slot& slot) const noexcept;
  std::size_t spares_wanted() const noexcept;
  bool spares_missing() const noexcept;
  std::size_t keep_spares(std::size_t most);
  void spare_failed() noexcept;
  void pause_starts(unsigned failures) noexcept;
  void start_failed(Source& source, Seat seat, const std::exception_ptr& cause, unsigned weight = own_start_failure);
  void fail_queue(TaskQueue& queue, const std::exception_ptr& cause);
  static std::exception_ptr told_as_broken(const std::exception_ptr& cause);

  // how many there are: dispatcher_places.hpp
  void settle_places();
  void clear_place(Places& places, Slot& slot);
  void note_idle(Slot& slot);
  void check_idle(Slot& slot);
  void find_next_leave() noexcept;
  bool leave_due() const noexcept;

  // one worker: dispatcher_workers.hpp
  Slot* find_slot(std::uint32_t index, std::uint64_t generation);
  void receive(Slot& slot);
  void violated(Slot& slot, FailureKind kind, const std::string& what);
  void unreadable(Slot& slot, const char* why);
  void give_up_on(Slot& slot, FailureKind kind, const std::string& why);
  void drain(Slot& slot, bool ended = false);
  void read_output(Slot& slot);
  void hear_output(Slot& slot);
  void take_output(Slot& slot, Task& task);
  void flush(Slot& slot);
  void finish_front(Slot& slot, std::uint64_t run_ns, std::optional<Failure> failure);
  void remove_assigned(Slot& slot, std::size_t at);
  void after_answers(Slot& slot);
  static bool used_up(const Slot& slot) noexcept;
  void hand(Slot& slot, const TaskPtr& task);
  void give(Slot& slot, const TaskPtr& task);
  std::size_t prefetch_depth() const noexcept;
  void top_up(Slot& slot);
  TaskPtr take_back_one(std::uint32_t source);
  void requeue(const TaskPtr& task);
  void take_back_lower(const Task& task);
  void revoke_unstarted(Slot& slot, std::size_t keep = 1);
  void refused(Slot& slot);
  // large results: dispatcher_pulls.hpp
  void begin_pull(Slot& slot, Task& task, const Frame& frame);
  Slot* slot_of(const Pull& pull);
  std::vector<PullStep> due_pulls();
  static void answer_pull(const Slot& slot, StatusPage::Transfer answer) noexcept;
  static void refuse_pull(Slot& slot);
  void settle_pull(const std::shared_ptr<Pull>& pull);

  // tasks that run for too long, or do not start: dispatcher_deadlines.hpp
  void watch_deadline(Slot& slot);
  void check_deadline(Slot& slot);
  void patrol();

  // ends: dispatcher_ends.hpp
  void retire(Slot& slot);
  void recycle(Slot& slot);
  void free_place(Slot& slot);
  template <class Visit>
  void each_slot(Visit visit);
  void doom(Slot& slot, Doom why);
  void kill_process(Slot& slot);
  bool signal_kill(const Slot& slot) const noexcept;
  void overdue(Slot& slot);
  void end_seen(Slot& slot);
  void end_overdue(Slot& slot);
  static ExitStatus seen_status(const Slot& slot) noexcept;
  void abandon(Slot& slot);
  bool settle(Slot& slot, ExitStatus status, long peak_rss_kib);
  bool settle_one(Slot& slot, const TaskPtr& task, bool first, ExitStatus status, long peak_rss_kib);
  void release_slot(Slot& slot);
  std::string hook_that_runs(const Slot& slot);
  void worker_ended(Slot& slot, ExitStatus status, long peak_rss_kib);
  static void salvage_items(const Slot& slot, Task& task);
  void resolve_dead(Slot& slot, const TaskPtr& task, ExitStatus status, long peak_rss_kib);
  void run_again(const TaskPtr& task);
  void delay(const TaskPtr& task);
  void queue_due_retries();

  // what people want to know: dispatcher_insight.hpp
  void deliver(Lock& lock);
  std::chrono::nanoseconds busy_time(Slot& slot, Clock::time_point now);
  static std::string who(const Slot& slot);
  static std::string doing(const Slot& slot);
  std::uint32_t row_of(const Slot& slot);
  void note_up(const Slot& slot) noexcept;
  void note_end(const Slot& slot, ExitStatus status, bool told_to, const std::string& ran) noexcept;
  void note_task(const Task& task, const std::optional<Failure>& failure, const Slot* slot) noexcept;
  void note_server(LogLevel level, const char* event, const std::string& text) noexcept;

  // what the pool asks for: dispatcher_requests.hpp
  bool cancel_locked(const TaskPtr& task);
  bool cancel_unstarted_locked(const TaskPtr& task, const std::string& why);
  void cancel_queued(const std::string& why);

  // tasks: dispatcher_tasks.hpp
  void require_open() const;
  void require_room(const Task& task, Caller caller) const;
  void accept(const TaskPtr& task) noexcept;
  void wake() noexcept;
  void resolve(const TaskPtr& task, std::optional<Failure> failure);
  void run_inline(const TaskPtr& task, const void* state);
  Failure make_failure(FailureKind kind, const Task& task, const std::string& what, const Slot* slot = nullptr) const;
  static std::string where(const Task& task, const Slot* slot, std::optional<std::uint64_t> item = {});
  static std::string text_of(const std::exception_ptr& cause);
  static void note_crash(const Slot& slot, ExitStatus status, std::size_t at, FailureRecord& record);
  std::string tell_memory(const Slot& slot, ExitStatus status, Circumstances& known);

  const PoolOptions options_;
  const PolicyHandle policy_;
  std::atomic<unsigned> target_;  ///< how many places there are; changed under mutex_
  const std::uint64_t seed_;
  PoolSurroundings surroundings_;
  const pid_t pid_ = ::getpid();
  const OwnProcess own_;
  const std::uint64_t word_ = static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());  ///< for workers to try to read
  bool workers_read_ = true;  ///< until one of them could not

  std::mutex mutex_;
  Poller poller_;
  Bell bell_;
  std::optional<Alarm> alarm_;  ///< where there is no helper thread: rings when a timer is due
  std::unique_ptr<std::byte[]> scratch_;
  std::unique_ptr<std::byte[]> pull_stage_;  ///< the driver's, also without the lock
  std::vector<std::shared_ptr<Pull>> pulls_;  ///< large results that are to be read; some may have been given up
  const Failure no_memory_;  ///< where there is none to say more
  TaskQueue queue_;
  std::vector<std::unique_ptr<Slot>> slots_;  ///< by index
  std::vector<std::uint32_t> vacant_;         ///< those that nobody uses
  std::array<Places, 2> places_;              ///< the pool's own, and those of snapshots
  std::vector<Slot*> spares_;                 ///< by their age
  const bool leavers_watched_ = options_.on_worker_stop || options_.idle_timeout.count() != 0;  ///< also when nobody waits
  std::size_t leaving_ = 0;  ///< used-up workers on their way out; their places are free already
  std::size_t ending_ = 0;   ///< workers in the pool's own places that were given their last task
  std::shared_ptr<const Bytes> setup_;        ///< what each worker is told first
  std::uint64_t setup_exceptions_ = 0;        ///< ExceptionRegistry::changes() at that
  std::vector<std::uint32_t> idle_;           ///< may be out of date: entries are checked when they are used
  std::vector<std::unique_ptr<Source>> sources_;
  std::uint32_t main_source_ = 0;  ///< 0: none just now
  std::vector<PreloadStats> preloads_;  ///< built by all main sources so far
  std::uint32_t next_source_ = 1;
  SlotTimers slot_timers_;

  std::multimap<Clock::time_point, TaskPtr> delayed_;     ///< to be run again, not before that time
  std::vector<std::unique_ptr<WorkerSource>> buried_;     ///< ended sources, to be destroyed without the lock
  std::exception_ptr broken_;            ///< why no worker comes up, once tries were used up; null when one does
  std::exception_ptr launch_failure_;    ///< why there is no main source
  unsigned launch_failures_ = 0;         ///< in a row, by their weights
  unsigned start_failures_ = 0;          ///< of workers, in a row
  unsigned spare_failures_ = 0;          ///< of spare ones, since one did work
  Clock::time_point retry_at_{};         ///< no start before this
  Clock::time_point spare_retry_at_{};   ///< and none of a spare one before this
  Clock::time_point supervised_at_{};    ///< what was too early then is a timer, however late it is by now
  Clock::time_point next_patrol_{};
  Clock::time_point next_leave_ = Clock::time_point::max();  ///< no worker has been idle for too long before this

  std::uint64_t next_task_ = 1;
  std::uint64_t next_call_ = 0;
  std::size_t outstanding_ = 0;
  std::uint64_t pending_bytes_ = 0;  ///< of the calls that are not resolved
  std::size_t assigned_ = 0;
  unsigned copying_host_ = 0;           ///< snapshots that are being made just now
  std::size_t released_snapshots_ = 0;  ///< copies of the host that get no further task, and have not ended
  std::size_t kills_due_ = 0;   ///< workers that are to be killed as soon as their server says who they are
  std::size_t prefetched_ = 0;  ///< assigned behind another task
  std::uint64_t average_run_ns_ = 0;
  bool measured_ = false;
  std::size_t tombstones_ = 0;  ///< cancelled tasks that are still in queue_
  Closing closing_ = Closing::open;  ///< never goes back
  bool shut_down_ = false;  ///< shutting down has begun
  bool ended_ = false;      ///< and is done
  bool leave_when_idle_ = false;
  std::uint64_t resolutions_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t workers_started_ = 0;
  std::uint64_t workers_died_ = 0;
  OomWatch oom_watch_;
  Insight insight_;

  bool driving_ = false;
  unsigned followers_ = 0;  ///< threads that wait and do not drive
  std::uint64_t turns_ = 0;
  Clock::time_point driver_until_{};  ///< the driver sleeps no longer
  std::condition_variable followers_cv_;
  std::vector<std::function<void()>> callbacks_;

  std::array<std::thread, 2> helpers_;  ///< the second for while the first runs callbacks
  std::condition_variable helper_cv_;
  unsigned helpers_parked_ = 0;
  bool helper_drives_ = false;
  bool helper_calls_ = false;   ///< one runs callbacks; the other leaves them to it
  bool helper_leaves_ = false;  ///< one shuts down
  bool relaunch_wanted_ = false;  ///< by a thread that may not do it itself
  bool helper_quits_ = false;
};

}  // namespace brood::detail

#include <brood/pool/dispatcher_deadlines.hpp>
#include <brood/pool/dispatcher_drive.hpp>
#include <brood/pool/dispatcher_ends.hpp>
#include <brood/pool/dispatcher_insight.hpp>
#include <brood/pool/dispatcher_loop.hpp>
#include <brood/pool/dispatcher_output.hpp>
#include <brood/pool/dispatcher_places.hpp>
#include <brood/pool/dispatcher_pulls.hpp>
#include <brood/pool/dispatcher_requests.hpp>
#include <brood/pool/dispatcher_sources.hpp>
#include <brood/pool/dispatcher_starts.hpp>
#include <brood/pool/dispatcher_tasks.hpp>
#include <brood/pool/dispatcher_workers.hpp>
#include <brood/pool/snapshot_lease.hpp>
