// SPDX-License-Identifier: MIT
// internal
// What a server does: starts workers, reaps them, reports how they ended, and kills them all when the host is gone. One
// thread. Nothing in its loop ends it but the host's word, the host's end or a lost control socket; a start that fails
// is an answer.
//
//   hello ──▶ (building ──▶ built | failed)... ──▶ ready ──▶ { start ──▶ started | unstarted ; exited }... ──▶ stop
#pragma once

#include <poll.h>
#include <sched.h>
#include <stdio_ext.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <brood/core/config.hpp>
#include <brood/core/loops.hpp>
#include <brood/os/lifeline.hpp>
#include <brood/os/module.hpp>
#include <brood/os/process.hpp>
#include <brood/os/signals.hpp>
#include <brood/os/threads.hpp>
#include <brood/wire/control.hpp>
#include <brood/worker/context.hpp>
#include <brood/worker/worker_loop.hpp>

namespace brood::inline v0_1::detail {

struct Server;

/// How a worker is started: returns its pid, or -1 with errno set. In the child it does not return.
using StartWorker = pid_t (*)(Server& server, WorkerChannel& channel);

/// Everything that a server has.
struct Server {
  ControlSocket control;
  Fd lifeline;    ///< a pipe whose other end the host has
  Fd host_pidfd;  ///< empty where the kernel refuses pidfds
  pid_t host = 0;
  std::uint32_t depth = 0;  ///< how many pools this process is inside of
  std::vector<std::string> arguments;
  std::vector<PreloadedObject> preloaded;
  const void* snapshot = nullptr;  ///< a closure's state, in a server that was forked for its call
};

/// How many pools the current process is inside of: 0 in an ordinary program.
inline constinit std::uint32_t process_depth = 0;

/// Serves until the host says stop or is gone.
BROOD_INLINE void run_server(Server& server, StartWorker start_worker);

/// The child of a fork of the host becomes a server. Nothing that it throws may reach the host's frames below.
[[noreturn]] BROOD_INLINE void become_server(Server server, StartWorker start, bool host_is_threaded, std::string_view pool);

/// A worker that is a copy of the server.
BROOD_INLINE pid_t start_by_fork(Server& server, WorkerChannel& channel);

#if BROOD_BODIES

class ServerLoop {
 public:
  ServerLoop(Server& server, StartWorker start_worker) : server_(server), start_(start_worker) {}

  /// Serves until the host says stop or is gone.
  void run() {
    process_depth = server_.depth + 1;  // of the workers, which are copies
    block_all_signals();
    reset_dispositions();   // a Preload may have changed them; workers start clean, and ends must be reported
    renew_crash_handler();  // for those that are forked: they have it without a system call
    WorkerLoop::warm_up();
    flush_output(flushes_all_streams);
    alone_ = count_threads() == 1;
    end_exit_here();  // once more: a Preload may have registered handlers
    child_signals_ = make_child_signal_fd();
    go_on_without_writer(server_.lifeline.get());
    // from here on the host is watched, not the thread of it that launched us
    retried("prctl(PR_SET_PDEATHSIG)", [] { return ::prctl(PR_SET_PDEATHSIG, 0); });
    ModuleTable::instance().refresh();  // what Preloads have opened is known to workers as it was now
    say(ControlMessage::make(ControlType::ready));
    while (!(stopping_ && children_.empty())) {
      std::array<pollfd, 3> watched{{{server_.control.fd(), POLLIN, 0},
                                     {child_signals_.get(), POLLIN, 0},
                                     {server_.host_pidfd.get(), POLLIN, 0}}};
      retried("poll", [&] { return ::poll(watched.data(), watched.size(), watch_interval()); });
      if (watched[2].revents != 0 || !host_lives()) die();
      if (watched[1].revents != 0 && end_told()) reap_children();
      if (watched[0].revents != 0) hear();
    }
  }

 private:
  struct Child {
    pid_t pid;
    Ticket ticket;
    bool tree = false;  ///< its process group ends with it
    bool told = false;  ///< the host has its pidfd
  };

  static constexpr int host_check_ms = 200;
  static constexpr std::uint64_t longest_untold_ns = 2'000'000;  ///< a fork takes as long as the server is large

  /// Without a pidfd of the host, its end shows by a new parent, which has to be looked for.
  int watch_interval() const noexcept { return server_.host_pidfd ? -1 : host_check_ms; }
  bool host_lives() const noexcept { return server_.host_pidfd || ::getppid() == server_.host; }

  /// The host is gone: nobody may survive it, and no zombie be left to whoever inherits orphans.
  [[noreturn]] void die() noexcept {
    for (const Child& child : children_) kill_child(child);
    for (int looks = 0; !children_.empty() && looks < 100; ++looks) {
      std::erase_if(children_, [](const Child& child) {
        Ended ended;
        return reap(child.pid, ended);
      });
      const timespec moment{0, 2'000'000};
      if (!children_.empty()) ::nanosleep(&moment, nullptr);
    }
    leave(0);
  }

  /// Sends one message; waits for room, but not past the host's end.
  void say(const ControlMessage& message, std::span<const int> fds = {}) {
    for (;;) {
      switch (server_.control.send(message.bytes(), fds)) {
        case ControlSocket::Sent::yes: return;
        case ControlSocket::Sent::ended: die();
        case ControlSocket::Sent::not_now: break;
      }
      std::array<pollfd, 2> watched{{{server_.control.fd(), POLLOUT, 0}, {server_.host_pidfd.get(), POLLIN, 0}}};
      retried("poll", [&] { return ::poll(watched.data(), watched.size(), host_check_ms); });
      if (watched[1].revents != 0 || !host_lives()) die();
    }
  }

  void hear() {
    for (;;) {
      ControlMessage message;
      ControlSocket::Fds fds;
      const Packet packet = server_.control.receive({reinterpret_cast<std::byte*>(&message), sizeof message}, fds);
      if (packet.outcome == Packet::Outcome::nothing_now) return tell_of_started();
      const bool heard = packet.outcome == Packet::Outcome::received || packet.outcome == Packet::Outcome::no_room;
      if (!heard || !message.valid(packet.size)) die();
      if (packet.outcome == Packet::Outcome::no_room) {
        if (message.type != ControlType::start) die();
        say(ControlMessage::make(ControlType::unstarted, message.ticket(), EMFILE, 0, "recvmsg"));
        continue;
      }
      switch (message.type) {
        case ControlType::start:
          if (packet.fd_count != 3 && packet.fd_count != 4) die();
          start(message.ticket(),
                WorkerChannel{std::move(fds[0]), std::move(fds[1]), std::move(fds[2]), std::move(fds[3])},
                message.value != 0);
          // many starts in a row must not keep the host waiting for an end, nor from killing those that are up
          if (end_told()) reap_children();
          if (untold_ != 0 && monotonic_ns() - untold_since_ > longest_untold_ns) tell_all();
          break;
        case ControlType::kill:
          for (Child& child : children_) {
            if (child.ticket != message.ticket()) continue;
            tell(child);
            kill_child(child);
          }
          break;
        case ControlType::stop: stopping_ = true; break;
        default: die();
      }
    }
  }

  /// Not reaped, so the number is its own, and its group's.
  static void kill_child(const Child& child) noexcept {
    if (child.tree) signal_child(-child.pid, SIGKILL);  // no such group before the worker is set up
    signal_child(child.pid, SIGKILL);
  }

  void start(Ticket ticket, WorkerChannel channel, bool tree) {
    try {
      children_.reserve(children_.size() + 1);
    } catch (const std::bad_alloc&) {
      return say(ControlMessage::make(ControlType::unstarted, ticket, ENOMEM, 0, "reserve"));
    }
    flush_output(flushes_all_streams && !alone_);
    pid_t pid = -1;
    try {
      pid = start_(server_, channel);
    } catch (const SystemError& error) {
      return say(ControlMessage::make(ControlType::unstarted, ticket, error.code().value(), 0, error.call()));
    } catch (const std::bad_alloc&) {
      return say(ControlMessage::make(ControlType::unstarted, ticket, ENOMEM, 0, "malloc"));
    }
    if (pid < 0) return say(ControlMessage::make(ControlType::unstarted, ticket, errno, 0, "fork"));
    children_.push_back({pid, ticket, tree, false});
    if (untold_++ == 0) untold_since_ = monotonic_ns();
  }

  /// Tells the host of the workers that it has asked for. Where such a worker waits for this CPU it comes first: its first
  /// answer is what the host waits for.
  void tell_of_started() {
    if (untold_ == 0) return;
    tried("sched_yield", [] { return ::sched_yield(); });
    tell_all();
  }

  void tell_all() {
    for (Child& child : children_) tell(child);
  }

  /// Before anything else that the host hears about this worker.
  void tell(Child& child) {
    if (std::exchange(child.told, true)) return;
    --untold_;
    const Fd pidfd = open_pidfd(child.pid);
    const int fd = pidfd.get();
    say(ControlMessage::make(ControlType::started, child.ticket, child.pid),
        pidfd ? std::span(&fd, 1) : std::span<const int>());
  }

  /// Whether some child has ended since this was asked.
  bool end_told() noexcept {
    signalfd_siginfo signals;  // of a signal that is pending more than once the kernel tells once
    const auto count = retried("read", [&] { return ::read(child_signals_.get(), &signals, sizeof signals); });
    return count > 0 || errno != EAGAIN;
  }

  /// Reaps our children, and no others: a Preload may have some of its own.
  void reap_children() {
    for (std::size_t most = 2 * children_.size() + 8; most > 0; --most) {  // one that can't be reaped is named for ever
      siginfo_t info{};
      if (retried("waitid", [&] { return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT); }) != 0) return reap_all();
      if (info.si_pid == 0) return;
      const auto child =
          find_where(children_.begin(), children_.end(), [&](const Child& each) { return each.pid == info.si_pid; });
      if (child == children_.end()) return reap_all();
      reap_one(static_cast<std::size_t>(child - children_.begin()));
    }
  }

  /// A foreign child that nobody reaps hides ours from waitid: ask for each.
  void reap_all() {
    for (std::size_t at = children_.size(); at-- > 0;) reap_one(at);
  }

  void reap_one(std::size_t at) {
    Ended ended;
    tell(children_[at]);
    if (children_[at].tree && !kill_group_of_ended(children_[at].pid)) return;
    if (!reap(children_[at].pid, ended)) return;
    const Ticket ticket = children_[at].ticket;
    children_[at] = children_.back();
    children_.pop_back();
    auto exited = ControlMessage::make(ControlType::exited, ticket, ended.status.wait_word(),
                                       static_cast<std::uint64_t>(std::max(ended.peak_rss_kib, 0L)));
    exited.cpu_ms = ended.cpu_ms;
    say(exited);
  }

  Server& server_;
  StartWorker start_;
  Fd child_signals_;
  std::vector<Child> children_;
  std::size_t untold_ = 0;  ///< of them
  std::uint64_t untold_since_ = 0;
  bool stopping_ = false;
  bool alone_ = false;  ///< no other thread here: nobody prints
};

BROOD_INLINE void run_server(Server& server, StartWorker start_worker) { ServerLoop(server, start_worker).run(); }

/// A server's name in ps is its pool's with this behind it.
inline constexpr std::string_view server_suffix = "-srv";

[[noreturn]] BROOD_INLINE void become_server(Server server, StartWorker start, bool host_is_threaded, std::string_view pool) {
  take_role(ProcessRole::server);
  const LeaveAtEnd end;
  if (host_is_threaded) flushes_all_streams = false;
  reset_dispositions();
  name_process(pool, server_suffix);
  helper_threads.store(0);
  thread_context = nullptr;
  process_context = nullptr;
  library_descriptors.for_each([&](int fd) {  // other pools' pipes
    if (fd == server.control.fd() || fd == server.lifeline.get() || fd == server.host_pidfd.get()) return;
    library_descriptors.erase(fd);
    close_descriptor(fd);
  });
  const int null = retried("open", [] { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); });
  if (null > 0) {
    retried("dup2", [&] { return ::dup2(null, STDIN_FILENO); });
    close_descriptor(null);
  }
  ::__fpurge(stdin);  // what the host has read ahead is the host's
  try {
    ServerLoop(server, start).run();
  } catch (...) {
    leave(exit_code_of_broken_worker);
  }
  leave(0);
}

// ---- the two ways in which a server starts a worker ----------------------------------------------------------------

/// The child of a fork becomes a worker. First the parent's death, then everything else.
[[noreturn]] BROOD_INLINE void become_worker(Server& server, WorkerChannel& channel, pid_t parent) {
  take_role(ProcessRole::worker);
  if (!die_with_parent(parent)) ::_exit(0);
  unblock_all_signals();
  server.control.close();  // a server's code may be in a library that has its own list of the descriptors below
  server.lifeline.reset();
  server.host_pidfd.reset();
  const std::array<int, 4> kept{channel.tasks.get(), channel.results.get(), channel.status.get(), channel.output.get()};
  library_descriptors.for_each([&](int fd) {
    if (std::find(kept.begin(), kept.end(), fd) != kept.end()) return;
    library_descriptors.erase(fd);
    close_descriptor(fd);
  });
  run_worker(std::move(channel), server.preloaded, server.snapshot, true);
}

BROOD_INLINE pid_t start_by_fork(Server& server, WorkerChannel& channel) {
  const pid_t parent = ::getpid();
  const pid_t pid = retried("fork", [] { return ::fork(); });
  if (pid == 0) become_worker(server, channel, parent);
  return pid;
}

#endif  // BROOD_BODIES

}  // namespace brood::inline v0_1::detail
