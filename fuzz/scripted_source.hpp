// SPDX-License-Identifier: MIT
// Workers without processes: a source whose server and workers do what the input says. Pipes and status pages are real.
#pragma once

#include <sys/eventfd.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <brood/brood.hpp>

#include "support.hpp"

namespace fuzz {

using namespace brood::detail;

/// Readable when it was told to be.
class Signal {
 public:
  Signal() : fd_(own("eventfd", ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))) {}
  int fd() const noexcept { return fd_.get(); }
  void raise() noexcept {
    const std::uint64_t one = 1;
    require(::write(fd_.get(), &one, sizeof one) == sizeof one, "an eventfd took nothing");
  }
  void lower() noexcept {
    std::uint64_t count;
    [[maybe_unused]] const auto size = ::read(fd_.get(), &count, sizeof count);
  }

 private:
  Fd fd_;
};

/// A worker may write to a pipe that the host has closed. The host itself must not.
inline bool worker_writes = false;
inline void watch_broken_pipes() {
  std::signal(SIGPIPE, [](int) {
    if (!worker_writes) fail("the host wrote to a pipe that nobody reads");
  });
}

/// The other side of one worker's pipes and status page.
struct ScriptedWorker {
  Ticket ticket;
  Fd tasks;
  Fd results;
  StatusMapping status;
  std::shared_ptr<Signal> end;  ///< stands for its pidfd
  bool announced = false;
  bool ended = false;   ///< its end was reported, or can be seen
  bool killed = false;  ///< the host wants it dead
  bool honest = true;   ///< so far; else it can't go on and has to end
  bool greeted = false;
  std::vector<std::byte> inbox;
  std::deque<FrameHeader> received;     ///< tasks that were not started
  std::optional<FrameHeader> running;
  bool told_to_stop = false;
  std::uint32_t items_sent = 0;

  StatusPage& page() const noexcept { return status.page(); }

  /// Reads what the host has sent. Returns whether there was anything.
  bool read_tasks() {
    bool some = false;
    std::byte chunk[4096];
    while (tasks) {
      const ssize_t size = ::read(tasks.get(), chunk, sizeof chunk);
      if (size <= 0) break;
      some = true;
      inbox.insert(inbox.end(), chunk, chunk + size);
    }
    std::size_t at = 0;
    FrameHeader header;
    while (inbox.size() - at >= sizeof header) {
      std::memcpy(&header, inbox.data() + at, sizeof header);
      require(header.magic == FrameHeader::magic_value, "the host sent what is no frame");
      if (inbox.size() - at - sizeof header < header.size) break;
      at += sizeof header + static_cast<std::size_t>(header.size);
      if (header.type == FrameType::task) received.push_back(header);
      if (header.type == FrameType::stop) told_to_stop = true;
    }
    inbox.erase(inbox.begin(), inbox.begin() + static_cast<std::ptrdiff_t>(at));
    return some;
  }

  /// Starts the next task that was not taken back.
  bool start_task() {
    read_tasks();
    while (!running && !received.empty()) {
      const FrameHeader header = received.front();
      received.pop_front();
      page().items_done.store(0);
      page().items_started.store(0);
      if (!page().claim(header.number)) continue;
      page().task.store(header.task);
      page().started_ns.store(static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()));
      running = header;
      items_sent = 0;
    }
    return running.has_value();
  }

  void send(std::span<const std::byte> bytes) {
    if (!results || bytes.empty()) return;
    worker_writes = true;
    const ssize_t size = ::write(results.get(), bytes.data(), bytes.size());
    worker_writes = false;
    if (size != static_cast<ssize_t>(bytes.size())) honest = false;  // full, or nobody reads
  }
  void send(FrameHeader header, std::span<const std::byte> payload) {
    Bytes frame;
    begin_frame(frame);
    frame.append(payload.data(), payload.size());
    end_frame(frame, header);
    send(frame.view());
  }
  void hello() {
    FrameHeader header;
    header.type = FrameType::hello;
    send(header, {});
    if (greeted) honest = false;
    greeted = true;
  }

  /// Ends the running task as it should be ended: every result is the number 7.
  void answer(std::uint64_t run_ns) {
    FrameHeader header;
    header.task = running->task;
    header.number = run_ns;
    brood::Writer out;
    if (running->count == 0) {
      header.type = FrameType::result;
      out.number<int>(7);
    } else {
      header.type = FrameType::items;
      header.flags = FrameHeader::last;
      header.first = items_sent;
      while (items_sent + header.count < running->count && page().start_item()) {
        out.number<std::uint64_t>(sizeof(int) << 1);
        out.number<int>(7);
        ++header.count;
      }
    }
    send(header, out.view());
    page().task.store(0);
    finish();
  }

  /// The task that runs is done. After its last one it leaves by itself.
  void finish() {
    if (running && (running->flags & FrameHeader::parting) != 0) told_to_stop = true;
    running.reset();
  }
};

/// Whose pidfd a number was, the last time that one was given away.
inline std::array<std::weak_ptr<ScriptedWorker>, 1024> pidfd_owners;

/// The server: what it says is put into `events`.
class ScriptedServer {
 public:
  std::vector<std::shared_ptr<ScriptedWorker>> workers;
  std::deque<brood::SourceEvent> events;
  Signal bell;
  Signal end;
  bool announced = false;  ///< has said ready
  bool ended = false;
  bool stopping = false;
  bool gone = false;      ///< the pool has let go of it
  unsigned refusals = 0;  ///< of start
  bool refused = false;   ///< since anything was said: an event is owed
  bool throws = false;    ///< the next start

  void say(brood::SourceEvent event) {
    events.push_back(std::move(event));
    bell.raise();
  }
  void say(brood::SourceEvent::Kind kind, Ticket ticket = {}) {
    brood::SourceEvent event;
    event.kind = kind;
    event.ticket = ticket;
    say(std::move(event));
  }
  void announce() {
    announced = true;
    say(brood::SourceEvent::Kind::ready);
  }
  /// Ends, and its workers with it.
  void fail(bool killed, std::exception_ptr cause) {
    if (std::exchange(ended, true)) return;
    tell("server: fails");
    brood::SourceEvent event;
    event.kind = brood::SourceEvent::Kind::failed;
    event.cause = std::move(cause);
    if (killed) event.status = brood::ExitStatus::from_wait(SIGKILL);
    say(std::move(event));
    end.raise();
    for (const auto& worker : workers) {
      worker->ended = true;
      worker->results.reset();
      if (worker->end) worker->end->raise();
    }
  }
  void start(const std::shared_ptr<ScriptedWorker>& worker, bool with_pidfd, pid_t pid) {
    brood::SourceEvent event;
    event.kind = brood::SourceEvent::Kind::started;
    event.ticket = worker->ticket;
    event.pid = pid;
    if (with_pidfd) {
      if (!worker->end) worker->end = std::make_shared<Signal>();
      if (worker->ended) worker->end->raise();
      event.pidfd = duplicate(worker->end->fd());
      pidfd_owners.at(static_cast<std::size_t>(event.pidfd.get())) = worker;
    }
    worker->announced = true;
    say(std::move(event));
  }
  void exit(ScriptedWorker& worker, brood::ExitStatus status, bool reported = true) {
    tell("worker: exits", worker.ticket.slot, worker.ticket.generation);
    worker.ended = true;
    worker.results.reset();
    worker.tasks.reset();
    if (worker.end) worker.end->raise();
    if (!reported && worker.end) return;
    brood::SourceEvent event;
    event.kind = brood::SourceEvent::Kind::exited;
    event.ticket = worker.ticket;
    event.status = status;
    event.peak_rss_kib = 1234;
    say(std::move(event));
  }

  /// Everybody does what is right, as far as they still can. Returns whether anybody has done anything.
  bool be_honest() {
    if (ended || gone) return false;
    if (!announced) return announce(), true;
    tell("server: honest");
    bool busy = false;
    for (const auto& worker : std::vector(workers)) {
      if (worker->ended) continue;
      busy = be_honest(worker) || busy;
    }
    if (refused || refusals != 0 || throws) {
      refused = throws = false;
      refusals = 0;
      bell.raise();
      busy = true;
    }
    return busy;
  }

 private:
  bool be_honest(const std::shared_ptr<ScriptedWorker>& worker) {
    if (!worker->announced) return start(worker, true, 4711), true;
    if (worker->killed || !worker->honest) return exit(*worker, brood::ExitStatus::from_wait(SIGKILL)), true;
    if (!worker->greeted) return worker->hello(), true;
    const bool heard = worker->read_tasks();
    if (worker->start_task()) return worker->answer(1'000'000), true;
    if (worker->told_to_stop) return exit(*worker, brood::ExitStatus::from_wait(0)), true;
    return heard;
  }
};

/// What the pool sees of it.
class ScriptedSource final : public brood::WorkerSource {
 public:
  explicit ScriptedSource(std::shared_ptr<ScriptedServer> server) : server_(std::move(server)) {}
  ~ScriptedSource() override {
    server_->gone = true;
    for (const auto& worker : server_->workers) {
      if (worker->end) worker->end->raise();
    }
    server_->workers.clear();
    server_->events.clear();
  }

  int event_fd() const noexcept override { return server_->bell.fd(); }
  int end_fd() const noexcept override { return server_->end.fd(); }
  std::optional<brood::SourceEvent> next() override {
    if (server_->events.empty()) {
      server_->bell.lower();
      return std::nullopt;
    }
    brood::SourceEvent event = std::move(server_->events.front());
    server_->events.pop_front();
    return event;
  }
  std::optional<brood::WorkerEnds> start(Ticket ticket) override {
    tell("source: start", ticket.slot, ticket.generation);
    if (std::exchange(server_->throws, false)) throw SystemError("pipe2", EMFILE);
    if (server_->ended || !server_->announced) return std::nullopt;
    if (server_->refusals != 0) {
      --server_->refusals;
      server_->refused = true;
      return std::nullopt;
    }
    auto worker = std::make_shared<ScriptedWorker>();
    Pipe tasks = Pipe::make();
    Pipe results = Pipe::make();
    const Fd memory = StatusMapping::make_memory();
    brood::WorkerEnds ends{std::move(tasks.write), duplicate(tasks.read.get()), std::move(results.read),
                           StatusMapping(memory.get(), Inherit::no), {}};
    for (const int fd : {ends.tasks.get(), ends.results.get(), tasks.read.get(), results.write.get()}) set_nonblocking(fd);
    worker->ticket = ticket;
    worker->tasks = std::move(tasks.read);
    worker->results = std::move(results.write);
    worker->status = StatusMapping(memory.get(), Inherit::no);
    server_->workers.push_back(std::move(worker));
    return ends;
  }
  void kill(Ticket ticket) noexcept override {
    for (const auto& worker : server_->workers) {
      if (worker->ticket != ticket) continue;
      tell("source: kill", ticket.slot, ticket.generation);
      worker->killed = true;
    }
  }
  void stop() noexcept override { server_->stopping = true; }
  bool ended() noexcept override { return server_->ended; }
  std::exception_ptr overdue(std::chrono::milliseconds) const override {
    return std::make_exception_ptr(brood::LaunchError("the scripted server was not ready in time", "server start", ETIMEDOUT));
  }
  pid_t server_pid() const noexcept override { return 4710; }
  std::vector<brood::PreloadStats> preloads() const override {
    brood::PreloadStats preload;
    preload.type = "Scripted";
    preload.built = 1;
    return {preload};
  }

 private:
  std::shared_ptr<ScriptedServer> server_;
};

}  // namespace fuzz

extern "C" {
long __real_syscall(long number, long a, long b, long c, long d, long e, long f);

/// A signal through a scripted worker's pidfd goes to that worker. The target is linked with --wrap=syscall.
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f) {
  if (number != SYS_pidfd_send_signal) return __real_syscall(number, a, b, c, d, e, f);
  if (const auto worker = fuzz::pidfd_owners.at(static_cast<std::size_t>(a)).lock()) {
    fuzz::tell("pidfd: kill", worker->ticket.slot, worker->ticket.generation);
    worker->killed = true;
    return 0;
  }
  errno = ESRCH;
  return -1;
}
}
