// SPDX-License-Identifier: MIT
// What a pool asks of a policy, and nothing more: a source of workers. A policy answers how the server comes to be and
// how it starts a worker; it knows nothing of calls, futures or serialization. The pool knows a worker by its two
// descriptors and learns of its end by an event; where the worker runs is the source's affair.
//
// Blueprint of a policy (see policy/launch.hpp for the building blocks):
//
//   struct MyPolicy {
//     static constexpr std::string_view name = "MyPolicy";
//
//     // How the server comes to be. Called by the pool's constructor, and again when a server has died.
//     std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions& options) const {
//       return brood::launch_by_exec<MyPolicy>(options);
//     }
//
//     // How the server starts a worker. Runs in the server.
//     static pid_t start_worker(brood::Server& server, brood::WorkerChannel& channel) {
//       return brood::start_by_fork(server, channel);
//     }
//
//     // Optional: what the server does once, before its first worker. Runs in the server.
//     static void prepare(brood::Server& server, brood::Reader& sent);
//   };
#pragma once

#include <sys/types.h>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <brood/core/exit_status.hpp>
#include <brood/os/fd.hpp>
#include <brood/os/surroundings.hpp>
#include <brood/wire/control.hpp>
#include <brood/wire/status_page.hpp>

namespace brood::inline v0_1 {

/// What a pool tells a policy about the workers it wants.
/// \snippet reference.cpp WorkerPolicy
struct LaunchOptions {
  std::string name;                         ///< the pool's, for messages and ps
  std::chrono::milliseconds start_timeout{30'000};  ///< PoolOptions::start_timeout
  bool capture_output = false;              ///< whether start() is to give WorkerEnds::output
  const void* snapshot = nullptr;           ///< a closure's state, for a policy that copies the host; else null
  detail::Surroundings surroundings;        ///< the server's, and so its workers'; where nothing is said, the host's of now
  bool kill_tree = false;                   ///< each worker leads a process group, which is killed when it ends
};

/// A Preload that the server has built.
/// \snippet reference.cpp PreloadStats
struct PreloadStats {
  std::string type;                  ///< its name as the compiler spells it
  std::chrono::nanoseconds time{0};  ///< how long its constructor took, the last time
  std::uint64_t built = 0;           ///< how often it was built: once by each server that the pool has had
  pid_t server = 0;                  ///< the server that built it last
  /// What its constructor has left open in that server: descriptors that all workers share, locks that they do not have,
  /// and, where ForkServerPolicy::allow_threads lets them be, threads and timers. One line for each, for people.
  std::vector<std::string> left_behind;
};

/// The host's ends of what it shares with one worker.
/// \snippet reference.cpp WorkerPolicy
struct WorkerEnds {
  detail::Fd tasks;       ///< to write, never blocks
  detail::Fd keep;        ///< keeps a reader, so that writing to a dead worker raises no SIGPIPE
  detail::Fd results;     ///< to read, never blocks
  detail::StatusMapping status;  ///< the worker's status page
  detail::Fd output;      ///< to read, never blocks: what it prints; empty when that is not captured
};

/// What a source has to say.
/// \snippet reference.cpp WorkerPolicy
struct SourceEvent {
  /// What has happened.
  enum class Kind {
    ready,      ///< workers can be started
    failed,     ///< the source has ended, or never came up: `cause`
    started,    ///< `ticket` runs as `pid`; `pidfd` where there is one
    unstarted,  ///< `ticket` could not be started: `error` in `stage`
    exited,     ///< `ticket` has ended: `status`
  };

  Kind kind{};                ///< what has happened; it says which of the others mean something
  detail::Ticket ticket;      ///< the worker, as WorkerSource::start was told
  pid_t pid = 0;              ///< started: its process
  detail::Fd pidfd;           ///< started: refers to it; none where the source can kill it itself
  ExitStatus status;          ///< exited: how it ended
  long peak_rss_kib = 0;      ///< exited: the most memory that it had resident; 0 when not known
  std::uint64_t cpu_ms = 0;   ///< exited: its CPU time; 0 when not known
  int error = 0;              ///< unstarted: the errno
  std::string stage;          ///< unstarted: the step that failed
  std::exception_ptr cause;   ///< failed: why
};

/// Where workers come from. All members are called by one thread at a time.
/// \snippet reference.cpp WorkerPolicy
class WorkerSource {
 public:
  WorkerSource() = default;
  WorkerSource(const WorkerSource&) = delete;
  WorkerSource& operator=(const WorkerSource&) = delete;
  /// Ends every worker that is left, and the server.
  virtual ~WorkerSource() = default;

  /// Readable when next() has something to say.
  virtual int event_fd() const noexcept = 0;
  /// Readable when the server has ended; -1 when there is nothing to watch.
  virtual int end_fd() const noexcept = 0;
  /// The next thing that has happened, if any.
  virtual std::optional<SourceEvent> next() = 0;
  /// Asks for a worker. Its `started` or `unstarted` follows. Nothing when the source can't take requests just now:
  /// ask again after the next event. Throws detail::SystemError when the host is out of descriptors or memory.
  virtual std::optional<WorkerEnds> start(detail::Ticket ticket) = 0;
  /// Ends a worker for which no pidfd was given.
  virtual void kill(detail::Ticket ticket) noexcept = 0;
  /// Lets the server leave once its last worker has.
  virtual void stop() noexcept = 0;
  /// Whether the server has ended; reaps it.
  virtual bool ended() noexcept = 0;
  /// Waits until a server that was told to stop has left; kills it when the time is over. The one member that waits.
  virtual void leave_until(std::chrono::steady_clock::time_point) noexcept {}
  /// What it is doing, for the message when it does not come up in time.
  virtual std::exception_ptr overdue(std::chrono::milliseconds timeout) const = 0;

  /// The process that starts workers, for PoolStats; 0 when there is none.
  virtual pid_t server_pid() const noexcept = 0;
  /// What the server has built, for PoolStats.
  virtual std::vector<PreloadStats> preloads() const = 0;
};

/// The policy has a name for messages.
/// \snippet reference.cpp WorkerPolicy
template <class P>
concept NamedPolicy = requires {
  { P::name } -> std::convertible_to<std::string_view>;
};

/// The policy can make a source of workers.
/// \snippet reference.cpp WorkerPolicy
template <class P>
concept LaunchesWorkers = requires(const P& policy, const LaunchOptions& options) {
  { policy.launch(options) } -> std::same_as<std::unique_ptr<WorkerSource>>;
};

/// The policy runs tasks in the caller instead of in workers.
/// \snippet reference.cpp WorkerPolicy
template <class P>
concept RunsInline = requires { requires P::runs_inline; };

/// The policy's server is a copy of the host: it can run closures, and can't be made a second time.
/// \snippet reference.cpp WorkerPolicy
template <class P>
concept CopiesHost = requires { requires P::copies_host; };

/// What Pool<P> needs. See the blueprint at the top of this file.
/// \snippet reference.cpp WorkerPolicy
template <class P>
concept WorkerPolicy = std::copy_constructible<P> && NamedPolicy<P> && (LaunchesWorkers<P> || RunsInline<P>);

}  // namespace brood
