// SPDX-License-Identifier: MIT
// internal
// The host's end of a server on this machine.
//   launching ──hello──▶ preparing ──ready──▶ serving ──stop──▶ stopping ──▶ ended
//        └──────────────────┴──────── end of process, mismatch, failed ───────▶ ended
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <brood/core/config.hpp>
#include <brood/core/errors.hpp>
#include <brood/os/control_socket.hpp>
#include <brood/os/process.hpp>
#include <brood/policy/launch.hpp>
#include <brood/policy/require_init.hpp>
#include <brood/policy/worker_policy.hpp>
#include <brood/wire/control.hpp>
#include <brood/worker/entry.hpp>
#include <brood/worker/server.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

class LocalServer final : public WorkerSource {
 public:
  enum class State { launching, preparing, serving, stopping, ended };
  /// What the server is a process of.
  enum class Made { by_fork, by_exec };

  /// Made before its process is, so that no process can be left without.
  LocalServer(ControlSocket control, Fd lifeline, std::string policy, std::vector<std::string> preloads, Made made,
              const LaunchOptions& options)
      : control_(std::move(control)), lifeline_(std::move(lifeline)), policy_(std::move(policy)), made_(made),
        kill_tree_(options.kill_tree), captures_(options.capture_output) {
    for (std::string& type : preloads) preloads_.emplace_back().type = std::move(type);
  }

  /// Its process has been started.
  void begin(pid_t pid) noexcept {
    pid_ = pid;
    pidfd_ = open_pidfd(pid);
    reaped_ = false;
  }

  /// In a copy of the host, which is the server.
  void leave_to_host() noexcept { control_.close(); }

  /// Kills the server if it still runs, and its workers with it, and reaps it.
  ~LocalServer() override {
    control_.close();
    if (reaped_) return;
    if (state_ != State::stopping || !wait_for_end(stop_patience)) {
      kill_server();
      wait_for_end(std::chrono::seconds(5));
    }
  }

  int event_fd() const noexcept override { return control_.fd(); }
  int end_fd() const noexcept override { return pidfd_.get(); }
  pid_t server_pid() const noexcept override { return pid_; }
  std::vector<PreloadStats> preloads() const override { return preloads_; }

  std::optional<SourceEvent> next() override {
    while (state_ != State::ended) {
      ControlMessage message;
      ControlSocket::Fds fds;
      const Packet packet = control_.receive({reinterpret_cast<std::byte*>(&message), sizeof message}, fds);
      switch (packet.outcome) {
        case Packet::Outcome::nothing_now:
          if (!ended()) return std::nullopt;
          if (!drained_) {  // something may have been said just before the end
            drained_ = true;
            break;
          }
          return fail(end_cause());
        case Packet::Outcome::ended: {
          // most end just after it; one that has lost its way to us and lives on is killed, and its workers with it
          if (!wait_for_end(state_ == State::stopping ? stop_patience : lost_patience)) {
            lost_ = state_ != State::stopping;
            kill_server();
            wait_for_end(stop_patience);
          }
          return fail(end_cause());
        }
        case Packet::Outcome::violated: return violated();
        case Packet::Outcome::no_room:  // a pidfd found no free number here: the server signals that worker for us
        case Packet::Outcome::received:
          if (!message.valid(packet.size)) return violated();
          if (auto event = hear(message, fds)) return event;
      }
    }
    return std::nullopt;
  }

  std::optional<WorkerEnds> start(Ticket ticket) override {
    if (state_ != State::serving) return std::nullopt;
    Pipe tasks = Pipe::make();
    Pipe results = Pipe::make();
    Pipe output = captures_ ? Pipe::make() : Pipe();
    StatusMemory memory = next_memory_ ? std::move(*next_memory_) : StatusMemory();
    next_memory_.reset();
    WorkerEnds ends{std::move(tasks.write), std::move(tasks.read), std::move(results.read), std::move(memory.mapping),
                    std::move(output.read)};
    for (const int fd : {ends.tasks.get(), ends.results.get()}) set_nonblocking(fd);
    if (ends.output) set_nonblocking(ends.output.get());
    const std::array<int, 4> given{ends.keep.get(), results.write.get(), memory.fd.get(), output.write.get()};
    const ControlMessage message = ControlMessage::make(ControlType::start, ticket, 0, kill_tree_ ? 1 : 0);
    const auto sent = control_.send(message.bytes(), std::span(given).first(captures_ ? 4 : 3));
    return sent == ControlSocket::Sent::yes ? std::optional(std::move(ends)) : std::nullopt;
  }

  void kill(Ticket ticket) noexcept override {
    control_.send(ControlMessage::make(ControlType::kill, ticket).bytes());
  }

  void stop() noexcept override {
    if (state_ == State::ended) return;
    state_ = State::stopping;
    control_.send(ControlMessage::make(ControlType::stop).bytes());
  }

  void leave_until(std::chrono::steady_clock::time_point end) noexcept override {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (!wait_for_end(std::max(left, std::chrono::milliseconds(0)))) kill_server();
  }

  bool ended() noexcept override {
    if (!reaped_ && reap(pid_, end_)) {
      reaped_ = true;
      if (!end_.status.known() && pidfd_) end_.status = status_from_pidfd(pidfd_.get());
    }
    return reaped_;
  }

  std::exception_ptr overdue(std::chrono::milliseconds timeout) const override {
    const std::string bound = "was not ready after " + std::to_string(timeout.count()) + " ms (PoolOptions::start_timeout)";
    if (building_) {
      const std::string& type = preloads_[*building_].type;
      return std::make_exception_ptr(
          PreloadError("the Preload " + type + " " + bound + ": its constructor still runs in the server (pid " +
                           std::to_string(pid_) + ") and will be killed; raise the bound, or see what it waits for",
                       type));
    }
    if (state_ == State::launching && made_ == Made::by_exec) {
      return std::make_exception_ptr(
          LaunchError("the server of " + policy_ + " (pid " + std::to_string(pid_) + ") " + bound +
                          ": it has not reached brood::init; make it the first line of main, and see what static "
                          "constructors do",
                      "server start", ETIMEDOUT));
    }
    return std::make_exception_ptr(
        LaunchError("the server of " + policy_ + " (pid " + std::to_string(pid_) + ") " + bound, "server start", ETIMEDOUT));
  }

 private:
  static constexpr std::chrono::milliseconds stop_patience{500};
  static constexpr std::chrono::milliseconds lost_patience{200};

  /// Through the pidfd where there is one: somebody else in the host may have reaped it, and its number be another's.
  void kill_server() noexcept {
    if (pidfd_) {
      signal_pidfd(pidfd_.get(), SIGKILL);
    } else if (!ended()) {
      signal_child(pid_, SIGKILL);
    }
  }

  /// Waits for the end of a process that is about to end. False when the time is over.
  bool wait_for_end(std::chrono::milliseconds bound) noexcept {
    const auto until = std::chrono::steady_clock::now() + bound;
    while (!ended()) {
      if (std::chrono::steady_clock::now() >= until) return false;
      pollfd watched{pidfd_.get(), POLLIN, 0};
      tried("poll", [&] { return ::poll(&watched, pidfd_ ? 1U : 0U, pidfd_ ? 10 : 1); });
    }
    return true;
  }

  SourceEvent fail(std::exception_ptr cause) {
    state_ = State::ended;
    SourceEvent event;
    event.kind = SourceEvent::Kind::failed;
    event.cause = std::move(cause);
    event.status = end_.status;
    return event;
  }

  /// For the next worker, while the one that was asked for comes up and there is nothing else to do. Not its pipes: a process
  /// that the host forks would have their other ends, too.
  void prepare() noexcept {
    if (next_memory_ || state_ != State::serving) return;
    try {
      next_memory_.emplace();
    } catch (const SystemError&) {  // it is tried again when it is needed
    }
  }

  SourceEvent violated() {
    kill_server();
    wait_for_end(stop_patience);
    return fail(std::make_exception_ptr(ProtocolError("the server of " + policy_ + " (pid " + std::to_string(pid_) +
                                                      ") sent what the protocol does not allow, and was killed")));
  }

  /// Why the server has ended without a word.
  std::exception_ptr end_cause() const {
    const bool lost = lost_ || (end_.status.exited() && end_.status.code() == exit_code_of_lost_server);
    const std::string how = lost ? "lost its control socket: somebody closed its descriptors" : end_.status.describe();
    if (building_) {
      const std::string& type = preloads_[*building_].type;
      return std::make_exception_ptr(PreloadError(
          "the Preload " + type + " ended the server (pid " + std::to_string(pid_) + "): the process " + how +
              " while its constructor ran",
          type));
    }
    const std::string who = "the server of " + policy_ + " (pid " + std::to_string(pid_) + ") " + how;
    if (end_.status.exited() && end_.status.code() == exit_code_without_init) {
      return std::make_exception_ptr(InitMissing(init_missing_text(policy_)));
    }
    if (end_.status.signaled() && end_.status.signal() == SIGKILL) {
      return std::make_exception_ptr(LaunchError(who + "; somebody killed it, or memory ran out", "server", 0));
    }
    if (state_ == State::launching && made_ == Made::by_exec) {
      return std::make_exception_ptr(LaunchError(
          who + " before it reached brood::init; make it the first line of main, before anything that may end the program",
          "server start", 0));
    }
    return std::make_exception_ptr(LaunchError(who, "server", 0));
  }

  std::optional<SourceEvent> hear(const ControlMessage& message, ControlSocket::Fds& fds) {
    SourceEvent event;
    event.ticket = message.ticket();
    switch (message.type) {
      case ControlType::hello:
        if (state_ != State::launching) return violated();
        state_ = State::preparing;
        return std::nullopt;
      case ControlType::building:
        if (!is_preload(message)) return violated();
        building_ = static_cast<std::size_t>(message.number);
        return std::nullopt;
      case ControlType::built: {
        if (!is_preload(message)) return violated();
        PreloadStats& preload = preloads_[static_cast<std::size_t>(message.number)];
        preload.time = std::chrono::nanoseconds(message.value);
        ++preload.built;
        preload.server = pid_;
        preload.left_behind = lines_of(message.said());
        building_.reset();
        return std::nullopt;
      }
      case ControlType::failed: {
        if (!is_preload(message)) return violated();
        const std::string& type = preloads_[static_cast<std::size_t>(message.number)].type;
        wait_for_end(stop_patience);
        return fail(std::make_exception_ptr(
            PreloadError("the Preload " + type + " could not be built in the server (pid " + std::to_string(pid_) +
                             "): " + std::string(message.said()),
                         type)));
      }
      case ControlType::mismatch:
        wait_for_end(stop_patience);
        return fail(std::make_exception_ptr(ImageMismatch(
            "the server of " + policy_ + " is not the program that runs here: " + std::string(message.said()) +
            "; the program was replaced on disk while it ran and could not be reached through /proc/self/exe: restart it")));
      case ControlType::ready:
        if (state_ == State::launching || state_ == State::preparing) state_ = State::serving;
        event.kind = SourceEvent::Kind::ready;
        return event;
      case ControlType::started:
        event.kind = SourceEvent::Kind::started;
        event.pid = message.number;
        event.pidfd = std::move(fds[0]);
        prepare();
        return event;
      case ControlType::unstarted:
        event.kind = SourceEvent::Kind::unstarted;
        event.error = message.number;
        event.stage = message.said();
        return event;
      case ControlType::exited:
        event.kind = SourceEvent::Kind::exited;
        if (message.number != -1) event.status = ExitStatus::from_wait(message.number);
        event.peak_rss_kib = static_cast<long>(message.value);
        event.cpu_ms = message.cpu_ms;
        return event;
      default: return violated();
    }
  }

  bool is_preload(const ControlMessage& message) const noexcept {
    return message.number >= 0 && static_cast<std::size_t>(message.number) < preloads_.size();
  }

  pid_t pid_ = 0;
  Fd pidfd_;
  ControlSocket control_;
  Fd lifeline_;
  std::string policy_;
  std::vector<PreloadStats> preloads_;
  std::optional<std::size_t> building_;
  State state_ = State::launching;
  Made made_;
  bool kill_tree_;
  bool captures_;
  std::optional<StatusMemory> next_memory_;
  bool lost_ = false;  ///< it closed its end of the control socket, and did not end by itself
  bool reaped_ = true;  ///< or not yet started
  bool drained_ = false;  ///< the socket was read once more after the end
  Ended end_;
};

BROOD_INLINE void require_depth() {
  if (process_depth < max_depth) return;
  throw LaunchError("pools are nested " + std::to_string(max_depth) + " deep: a pool in a task of a pool in a task ...", "nesting", 0);
}

BROOD_INLINE std::unique_ptr<WorkerSource> launch_server_by_exec(std::string_view name, ServerMain serve, const LaunchOptions& options,
                                                                 const Writer& sent, std::vector<std::string> preloads) {
  const std::string policy(name);
  require_init(policy);
  require_depth();
  try {
    Writer body;
    write_code(body, reinterpret_cast<const void*>(serve));
    body.text(options.name);
    body.raw(sent.view().data(), sent.size());
    HandOverHeader header{.role = Role::server, .parent = ::getpid(), .identity = own_identity()};
    header.depth = process_depth;
    const Fd own_pidfd = open_pidfd(::getpid());
    header.host_pidfd = own_pidfd ? 1 : 0;
    const Fd hand_over = make_hand_over(header, body.view());
    auto [host, server] = ControlSocket::make_pair();
    Pipe lifeline = Pipe::make();
    std::vector<int> handed{hand_over.get(), server.fd(), lifeline.read.get()};
    if (own_pidfd) handed.push_back(own_pidfd.get());
    auto source = std::make_unique<LocalServer>(std::move(host), std::move(lifeline.write), policy, std::move(preloads),
                                                LocalServer::Made::by_exec, options);
    source->begin(spawn_own_image(handed, entry_state.initialized ? entry_state.arguments : read_own_arguments(),
                                  options.surroundings));
    return source;
  } catch (const SystemError& error) {
    throw LaunchError("the server of " + policy + " could not be started: " + error.what(), error.call(),
                      error.code().value());
  }
}

BROOD_INLINE std::unique_ptr<WorkerSource> launch_server_by_fork(std::string_view name, StartWorker start_worker,
                                                                 const LaunchOptions& options, bool host_is_threaded) {
  const std::string policy(name);
  require_depth();
  try {
    const pid_t host = ::getpid();
    Fd own_pidfd = open_pidfd(host);
    auto [host_end, server_end] = ControlSocket::make_pair();
    Pipe lifeline = Pipe::make();
    flush_output(!host_is_threaded);
    ModuleTable::instance().refresh();
    ModuleTable::program();  // its first look-up is done: no thread holds its guard across the fork
    auto source = std::make_unique<LocalServer>(std::move(host_end), std::move(lifeline.write), policy, std::vector<std::string>{},
                                                LocalServer::Made::by_fork, options);
    {
      const AllSignalsBlocked blocked;
      auto table = ModuleTable::instance().hold();
      const pid_t pid = checked("fork", [] { return ::fork(); });
      if (pid == 0) {
        table.unlock();
        if (!options.surroundings.enter()) ::_exit(exit_code_of_broken_worker);
        source->leave_to_host();
        become_server({std::move(server_end), std::move(lifeline.read), std::move(own_pidfd), host, process_depth, {}, {},
                       options.snapshot}, start_worker, host_is_threaded, options.name);
      }
      source->begin(pid);
    }
    return source;
  } catch (const SystemError& error) {
    throw LaunchError("the server of " + policy + " could not be started: " + error.what(), error.call(),
                      error.code().value());
  }
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
