// SPDX-License-Identifier: MIT
// Workers without processes: a source whose server and workers do what the input says. Pipes and status pages are real.
#pragma once

#include <algorithm>
#include <csignal>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "one_thread.hpp"
#include "scripted_worker.hpp"

namespace fuzz {

inline bool overdue(const ScriptedWorker& worker) {
  return (worker.late || *worker.untold != 0) && world::now >= std::chrono::hours(1) + std::chrono::seconds(1);
}

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
  std::shared_ptr<unsigned> untold = std::make_shared<unsigned>(0);  ///< workers that the host has not heard of

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
    ++ledger->troubles;
    brood::SourceEvent event;
    event.kind = brood::SourceEvent::Kind::failed;
    event.cause = std::move(cause);
    if (killed) event.status = brood::ExitStatus::from_wait(SIGKILL);
    say(std::move(event));
    end.raise();
    for (const auto& worker : workers) worker->die(true);
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
    if (!std::exchange(worker->announced, true)) --*untold;
    if (worker->greeted) worker->late = true;
    say(std::move(event));
  }
  void exit(ScriptedWorker& worker, brood::ExitStatus status, bool reported = true) {
    tell("worker: exits", worker.ticket.slot, worker.ticket.generation);
    worker.die(!worker.killed || (status.known() && !(status.signaled() && status.signal() == SIGKILL)));
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
    if (!worker->announced) return start(worker, true, worker->account->pid), true;
    if (worker->killed || !worker->honest) return exit(*worker, brood::ExitStatus::from_wait(SIGKILL)), true;
    if (!worker->greeted) return worker->hello(true), true;
    bool heard = worker->read_tasks();
    heard = worker->hear() || heard;
    if (worker->start_task()) return go_on(*worker), true;
    if (worker->told_to_stop && !worker->running) return exit(*worker, brood::ExitStatus::from_wait(0)), true;
    return heard;
  }
  /// With its task, in one of the ways in which that can come to its end.
  static void go_on(ScriptedWorker& worker) {
    const std::uint64_t task = worker.running->task;
    const bool first = worker.running->count != 0 && worker.items_done == 0 && !worker.unconnected;
    if (first && ledger->items == Kind::files && task % 2 != 0) return worker.pass_item(task % 4);
    worker.answer(1'000'000, 0, task % 3 == 0 ? task % 4 : task % 8 == 1 ? memory_size / 2 : 4096 * (task % 8));
  }
};

/// What the pool sees of it.
class ScriptedSource final : public brood::WorkerSource {
 public:
  explicit ScriptedSource(std::shared_ptr<ScriptedServer> server) : server_(std::move(server)) {}
  ~ScriptedSource() override {
    server_->gone = true;
    for (const auto& worker : server_->workers) worker->die(true);
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
    if (std::exchange(server_->throws, false)) {
      ++ledger->troubles;
      throw SystemError("pipe2", EMFILE);
    }
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
    worker->plain = Pipe::make().read;
    worker->account = std::make_shared<Account>();
    worker->account->pid = ledger->next_pid++;
    worker->untold = server_->untold;
    ++*server_->untold;
    ledger->workers.push_back(worker->account);
    workers_by_pid[worker->account->pid] = worker;
    server_->workers.push_back(std::move(worker));
    return ends;
  }
  void kill(Ticket ticket) noexcept override {
    for (const auto& worker : server_->workers) {
      if (worker->ticket != ticket) continue;
      tell("source: kill", ticket.slot, ticket.generation);
      worker->be_killed(fuzz::overdue(*worker));
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
