// SPDX-License-Identifier: MIT
// internal
// What a worker does: reads frames from its task pipe, one task at a time, and answers on its result pipe.
//
//   setup ──▶ hooks ──▶ hello ──▶ { task ──▶ claim ──▶ run ──▶ result | items... | failed } ──▶ stop or end of file
//
// A result is written before the next task starts, so a death can't take it along. A task that was revoked before it
// was claimed is passed over without an answer.
#pragma once

#include <cxxabi.h>
#include <sys/stat.h>
#include <time.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <brood/os/pipe.hpp>
#include <brood/os/process.hpp>
#include <brood/wire/code_pointer.hpp>
#include <brood/wire/frame.hpp>
#include <brood/wire/status_page.hpp>
#include <brood/worker/call.hpp>
#include <brood/worker/context.hpp>
#include <brood/worker/failure.hpp>
#include <brood/worker/items.hpp>
#include <brood/worker/leave.hpp>

namespace brood::detail {

inline std::uint64_t monotonic_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

/// What one worker works with. Its pipes and its status page belong to it alone.
struct WorkerChannel {
  Fd tasks;
  Fd results;
  Fd status;
};

/// The result pipe, to be known again: a task may close every descriptor, and open its own under our number.
class PipeIdentity {
 public:
  explicit PipeIdentity(int fd) noexcept : fd_(fd) { known_ = ::fstat(fd, &info_) == 0; }

  /// Ends the worker when the descriptor is not what it was: nothing of ours may get into the task's files.
  void require() const noexcept {
    struct stat now {};
    if (known_ && ::fstat(fd_, &now) == 0 && now.st_ino == info_.st_ino && now.st_dev == info_.st_dev) return;
    ::_exit(exit_code_of_broken_worker);
  }

 private:
  int fd_;
  struct stat info_ {};
  bool known_ = false;
};

/// Writes all of it to a pipe that blocks. False when nobody reads any more.
inline bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const Moved moved = write_some(fd, bytes);
    if (moved.ended) return false;
    bytes = bytes.subspan(moved.bytes);
  }
  return true;
}

/// Collects the results of a chunk's items in the log, and sends them when it is full.
///
/// On the wire and in the log: for each item a word (failed in the lowest bit, size above it), then its bytes.
class ItemLog final : public ItemSink {
 public:
  ItemLog(StatusPage& page, int results, const PipeIdentity& identity, FrameHeader task, pid_t worker) noexcept
      : page_(page), results_(results), identity_(identity), task_(task), worker_(worker) {}

  bool start() override {
    if ((task_.flags & FrameHeader::timed) != 0) page_.started_ns.store(monotonic_ns(), std::memory_order_relaxed);
    return page_.start_item();
  }

  void finish(bool failed, std::span<const std::byte> bytes) override {
    if (::getpid() != worker_) ::_exit(0);  // the item forked, and the child has come back here: its twin goes on
    const std::uint64_t word = std::uint64_t{bytes.size()} << 1 | (failed ? 1U : 0U);
    const std::size_t needed = sizeof word + bytes.size();
    if (needed > StatusPage::log_capacity - used_) flush(0);
    if (needed > StatusPage::log_capacity) {
      send(0, 1, {std::as_bytes(std::span(&word, 1)), bytes});
      first_ = ++done_;
      publish();
      return;
    }
    std::memcpy(page_.log() + used_, &word, sizeof word);
    if (!bytes.empty()) std::memcpy(page_.log() + used_ + sizeof word, bytes.data(), bytes.size());
    used_ += needed;
    ++done_;
    publish();
  }

  /// Sends what is left and ends the task.
  void end(std::uint64_t started_ns) {
    task_.number = monotonic_ns() - started_ns;
    flush(FrameHeader::last);
  }

  std::uint32_t done() const noexcept { return done_; }

 private:
  void publish() noexcept {
    page_.items_done.store(std::uint64_t{done_} << 32 | used_, std::memory_order_release);
  }

  void flush(std::uint16_t flags) {
    if (used_ == 0 && flags == 0) return;
    send(flags, done_ - first_, {std::span<const std::byte>(page_.log(), used_), {}});
    first_ = done_;
    used_ = 0;
    publish();
  }

  void send(std::uint16_t flags, std::uint32_t count, std::array<std::span<const std::byte>, 2> parts) {
    FrameHeader header;
    header.type = FrameType::items;
    header.flags = flags;
    header.task = task_.task;
    header.size = parts[0].size() + parts[1].size();
    header.first = first_;
    header.count = count;
    header.number = task_.number;
    identity_.require();
    if (!write_all(results_, std::as_bytes(std::span(&header, 1))) || !write_all(results_, parts[0]) ||
        !write_all(results_, parts[1])) {
      leave(0);
    }
  }

  StatusPage& page_;
  int results_;
  const PipeIdentity& identity_;
  FrameHeader task_;
  pid_t worker_;
  std::uint32_t first_ = 0;
  std::uint32_t done_ = 0;
  std::size_t used_ = 0;
};

/// What a worker is told before its first task.
struct WorkerSetup {
  std::uint32_t index = 0;
  std::uint64_t max_message_bytes = ~std::uint64_t{0};
  std::string name;
  void (*on_start)() = nullptr;

  void write(Writer& out) const {
    out.number(index);
    out.number(max_message_bytes);
    out.text(name);
    out.number(on_start != nullptr);
    if (on_start != nullptr) write_code(out, reinterpret_cast<const void*>(on_start));
    const std::vector<ExceptionType> types = ExceptionRegistry::instance().all();
    out.count(types.size());
    for (const ExceptionType& type : types) {
      out.text(type.name);
      write_code(out, reinterpret_cast<const void*>(type.write));
      write_code(out, reinterpret_cast<const void*>(type.read));
    }
  }

  static WorkerSetup read(Reader& in) {
    WorkerSetup setup;
    setup.index = in.number<std::uint32_t>();
    setup.max_message_bytes = in.number<std::uint64_t>();
    setup.name = in.text();
    if (in.number<bool>()) setup.on_start = reinterpret_cast<void (*)()>(read_code(in));
    for (std::size_t left = in.count(); left != 0; --left) {
      ExceptionType type;
      type.name = in.text();
      type.write = reinterpret_cast<decltype(type.write)>(read_code(in));
      type.read = reinterpret_cast<decltype(type.read)>(read_code(in));
      ExceptionRegistry::instance().add(std::move(type));
    }
    in.finish();
    return setup;
  }
};

class WorkerLoop {
 public:
  WorkerLoop(WorkerChannel channel, const std::vector<PreloadedObject>& preloaded, const void* snapshot)
      : tasks_(std::move(channel.tasks)),
        results_(std::move(channel.results)),
        status_(channel.status.get(), Inherit::yes),
        pid_(::getpid()) {
    context_.page = &status_.page();
    context_.preloaded = &preloaded;
    context_.snapshot = snapshot;
  }

  /// Returns when the host says stop or has gone.
  void run() {
    constexpr std::size_t buffer_size = std::size_t{64} << 10;
    const auto buffer = std::make_unique<std::byte[]>(buffer_size);
    while (!stopped_) {
      const auto direct = reader_.direct_target();
      const auto target = direct.empty() ? std::span(buffer.get(), buffer_size) : direct;
      const Moved moved = read_some(tasks_.get(), target);
      if (moved.ended) return;
      if (direct.empty()) {
        reader_.feed(target.first(moved.bytes), *this);
      } else {
        reader_.commit_direct(moved.bytes, *this);
      }
    }
  }

  // the handler of FrameReader

  void admit(const FrameHeader&) const noexcept {}  // the host is trusted

  void accept(Frame&& frame) {
    switch (frame.header.type) {
      case FrameType::setup: return set_up(frame);
      case FrameType::task:
        if (!stopped_) run_task(frame);
        return;
      default: stopped_ = true;
    }
  }

 private:
  void set_up(const Frame& frame) {
    try {
      Reader in(frame.payload.view());
      const WorkerSetup setup = WorkerSetup::read(in);
      context_.index = setup.index;
      context_.max_result_bytes = setup.max_message_bytes;
      name_process(setup.name.c_str());
      run_hooks(setup);
    } catch (const abi::__forced_unwind&) {
      throw;
    } catch (...) {
      fail(FrameHeader{}, 0, [](Writer& why) { write_current_failure(why); });
      leave(1);
    }
    Bytes bytes;
    begin_frame(bytes);
    FrameHeader hello;
    hello.type = FrameType::hello;
    hello.number = static_cast<std::uint64_t>(pid_);
    send(bytes, hello);
  }

  /// User code, before the first task. The page says which, so that the host can name it when it does not return.
  void run_hooks(const WorkerSetup& setup) {
    const ContextScope scope(context_);
    std::atomic<std::uint64_t>& step = status_.page().start_step;
    for (std::size_t at = 0; at < context_.preloaded->size(); ++at) {
      const PreloadedObject& preload = (*context_.preloaded)[at];
      if (preload.after_fork == nullptr) continue;
      step.store(at + 1, std::memory_order_relaxed);
      preload.after_fork(preload.object);
    }
    if (setup.on_start != nullptr) {
      step.store(StatusPage::in_start_hook, std::memory_order_relaxed);
      setup.on_start();
    }
    step.store(0, std::memory_order_relaxed);
  }

  void run_task(Frame& frame) {
    const FrameHeader& task = frame.header;
    StatusPage& page = status_.page();
    const std::uint64_t started = monotonic_ns();
    page.items_started.store(0, std::memory_order_relaxed);
    page.items_done.store(0, std::memory_order_relaxed);
    page.progress_done.store(0, std::memory_order_relaxed);
    page.progress_total.store(0, std::memory_order_relaxed);
    page.started_ns.store(started, std::memory_order_relaxed);
    if (!page.claim(task.number)) return;
    page.task.store(task.task, std::memory_order_release);

    ItemLog log(page, results_.get(), identity_, task, pid_);
    context_.task = task.task;
    context_.items = &log;
    Writer out;
    begin_frame(out.bytes());
    bool failed = true;
    try {
      Reader in(frame.payload.view());
      const auto thunk = reinterpret_cast<Thunk>(read_code(in));
      thunk(context_, in, out);
      failed = false;
    } catch (const abi::__forced_unwind&) {
      throw;  // pthread_exit: the worker ends
    } catch (...) {
      if (::getpid() != pid_) ::_exit(0);
      fail(task, started, [](Writer& why) { write_current_failure(why); });
    }
    if (::getpid() != pid_) ::_exit(0);  // the task forked, and the child has come back here: its twin answers
    if (!failed) answer(task, started, out, log);
    frame.payload = Bytes();
    page.task.store(0, std::memory_order_release);
  }

  void answer(const FrameHeader& task, std::uint64_t started, Writer& out, ItemLog& log) {
    flush_output(false);  // what a task printed is there when its result is, and no later crash takes it along
    if (task.count != 0) return log.end(started);
    if (out.size() - sizeof(FrameHeader) > context_.max_result_bytes) {
      return fail(task, started, [&](Writer& why) {
        write_failure(why, FailureKind::too_large,
                      "its result has " + std::to_string(out.size() - sizeof(FrameHeader)) +
                          " bytes, more than PoolOptions::max_message_bytes (" +
                          std::to_string(context_.max_result_bytes) + "); raise the limit or return less");
      });
    }
    FrameHeader header;
    header.type = FrameType::result;
    header.task = task.task;
    header.number = monotonic_ns() - started;
    send(out.bytes(), header);
  }

  template <class WriteWhy>
  void fail(const FrameHeader& task, std::uint64_t started, WriteWhy write_why) {
    flush_output(false);
    Writer out;
    begin_frame(out.bytes());
    write_why(out);
    FrameHeader header;
    header.type = FrameType::failed;
    header.task = task.task;
    header.number = monotonic_ns() - started;
    send(out.bytes(), header);
  }

  void send(Bytes& bytes, const FrameHeader& header) {
    end_frame(bytes, header);
    identity_.require();
    if (!write_all(results_.get(), bytes.view())) leave(0);
  }

  Fd tasks_;
  Fd results_;
  PipeIdentity identity_{results_.get()};
  StatusMapping status_;
  pid_t pid_;
  TaskContext context_;
  FrameReader reader_;
  bool stopped_ = false;
};

/// The life of a worker process. Never returns.
[[noreturn]] inline void run_worker(WorkerChannel channel, const std::vector<PreloadedObject>& preloaded,
                                    const void* snapshot) {
  const LeaveAtEnd end;
  try {
    WorkerLoop(std::move(channel), preloaded, snapshot).run();
  } catch (const abi::__forced_unwind&) {
    throw;
  } catch (...) {
    leave(exit_code_of_broken_worker);
  }
  leave(0);
}

}  // namespace brood::detail
