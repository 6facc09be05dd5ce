// SPDX-License-Identifier: MIT
// internal
// What a worker does: reads frames from its task pipe, one task at a time, and answers on its result pipe.
//
//   setup ──▶ hooks ──▶ hello ──▶ { task ──▶ claim ──▶ run ──▶ result | items... | failed } ──▶ stop ──▶ stop hook, or
//                                                                                          end of file
//
// A result is written before the next task starts, so a death can't take it along. A task that was revoked before it
// was claimed is passed over without an answer.
#pragma once

#include <cxxabi.h>
#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <brood/core/config.hpp>
#include <brood/core/loops.hpp>
#include <brood/os/own_process.hpp>
#include <brood/os/pipe.hpp>
#include <brood/os/process.hpp>
#include <brood/wire/block_list.hpp>
#include <brood/wire/code_pointer.hpp>
#include <brood/wire/frame.hpp>
#include <brood/wire/status_page.hpp>
#include <brood/worker/call.hpp>
#include <brood/worker/context.hpp>
#include <brood/worker/descriptor_post.hpp>
#include <brood/worker/failure.hpp>
#include <brood/worker/hook.hpp>
#include <brood/worker/host_memory.hpp>
#include <brood/worker/item_log.hpp>
#include <brood/worker/items.hpp>
#include <brood/worker/large_result.hpp>
#include <brood/worker/leave.hpp>
#include <brood/worker/limits.hpp>
#include <brood/worker/redirect.hpp>
#include <brood/worker/setup.hpp>

namespace brood::inline v0_1::detail {

/// What one worker works with. Its pipes and its status page belong to it alone.
struct WorkerChannel {
  Fd tasks;
  Fd results;
  Fd status;
  Fd output;  ///< takes what it prints, until its set-up; empty when that is not captured
};

#if BROOD_BODIES

class WorkerLoop {
 public:
  WorkerLoop(WorkerChannel channel, const std::vector<PreloadedObject>& preloaded, const void* snapshot)
      : tasks_(std::move(channel.tasks)),
        results_(std::move(channel.results)),
        output_(std::move(channel.output)),
        status_(channel.status.get(), Inherit::yes),
        pid_(::getpid()) {
    channel.status.reset();  // mapped for life: nothing of ours is open that tasks could write to, but the two pipes
    context_.page = &status_.page();
    context_.progress = &status_.page().progress;
    context_.preloaded = &preloaded;
    context_.snapshot = snapshot;
  }

  /// Called in a server: what a forked worker asks for first is there then, and how it is asked for is bound.
  static void warm_up() noexcept {
    try {
      buffer_of_process().extend(buffer_size);
    } catch (const std::bad_alloc&) {  // as slow as without
    }
    monotonic_ns();
    tried("write", [] { return ::write(-1, nullptr, 0); });  // to nowhere
    tried("sched_yield", [] { return ::sched_yield(); });
    static_cast<void>(OwnProcess().same());
    std::uint64_t word = 0;
    read_memory_of(::getpid(), reinterpret_cast<std::uintptr_t>(&word), std::as_writable_bytes(std::span(&word, 1)));
  }

  /// Returns when the host says stop or has gone.
  void run() {
    Bytes& buffer = buffer_of_process();  // not zeroed: what is not used is not touched
    if (buffer.size() < buffer_size) buffer.extend(buffer_size - buffer.size());
    while (!stopped_) {
      const auto direct = reader_.direct_target(*this);
      const auto target = direct.empty() ? std::span(buffer.data(), buffer_size) : direct;
      const Moved moved = read_some(tasks_.get(), target);
      if (moved.ended) return;  // the host has gone
      if (direct.empty()) {
        reader_.feed(target.first(moved.bytes), *this);
      } else {
        reader_.commit_direct(moved.bytes, *this);
      }
    }
    run_stop_hook();
  }

  // the handler of FrameReader

  void admit(const FrameHeader&) const noexcept {}  // the host is trusted

  /// What comes is more than this worker has memory for.
  void dropped(const FrameHeader& header) {
    if (header.type != FrameType::task) leave(exit_code_of_broken_worker);
    const std::uint64_t started = monotonic_ns();
    if (stopped_ || !take(header, started)) return;
    fail(header, started, [](Writer& why) { write_failure(why, std::make_exception_ptr(std::bad_alloc())); });
    end_task(header);
  }

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
  static constexpr std::size_t buffer_size = std::size_t{64} << 10;

  /// For what comes from the host: a server has it ready for its workers.
  static Bytes& buffer_of_process() noexcept {
    static Bytes buffer;
    return buffer;
  }

  void set_up(const Frame& frame) {
    try {
      Reader in(frame.payload.view());
      const WorkerSetup setup = WorkerSetup::read(in);
      context_.index = frame.header.first;
      context_.max_result_bytes = setup.max_message_bytes;
      context_.random.begin(setup.seed);
      name_process(name_ = setup.name, context_.index);
      if (setup.discards_output) output_ = open_null_output();
      if (output_) redirect_output(output_);
      output_.reset();
      if (setup.backtraces) {
        note_crash_in(status_.page().crash());
      } else {
        remove_crash_handler();
      }
      if (setup.leads_group) lead_group();
      limit(setup.limits);
      stop_hook_.append(setup.stop_hook.data(), setup.stop_hook.size());
      if (run_hooks(setup)) flush_output(false);  // what they have printed is no task's
      memory_.set_limit(setup.memory_limit);
      host_.pid = setup.host;
      host_.address = setup.word_address;
      host_.word = setup.word;
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
    reads_host_ = host_.readable();
    if (reads_host_) hello.flags = FrameHeader::reads_host;
    send(bytes, hello);
    if ((frame.header.flags & FrameHeader::spare) != 0) rehearse();
  }

  static void do_nothing(TaskContext&, Reader&, Writer&) {}

  /// What a first task touches is there, and the worker's own, before that task comes.
  void rehearse() noexcept {
    try {
      Writer call;
      write_code(call, reinterpret_cast<const void*>(&do_nothing));
      Reader in(call.view());
      const auto thunk = reinterpret_cast<Thunk>(read_code(in));
      Writer out;
      begin_frame(out.bytes());
      thunk(context_, in, out);
    } catch (const std::exception&) {  // as slow as without
    }
    flush_output(false);
    status_.page().started_ns.store(monotonic_ns(), std::memory_order_relaxed);
  }

  /// User code, before the first task. The page says which, so that the host can name it when it does not return. False
  /// when there is none.
  bool run_hooks(const WorkerSetup& setup) {
    const auto has_hook = [](const PreloadedObject& preload) { return preload.after_fork != nullptr; };
    const std::vector<PreloadedObject>& preloads = *context_.preloaded;
    if (setup.start_hook.empty() && none_of(preloads, has_hook)) return false;
    const ContextScope scope(context_);
    context_.call = TaskRandom::start_hook;
    context_.item = context_.index;
    const pid_t parent = ::getppid();
    std::atomic<std::uint64_t>& step = status_.page().start_step;
    for (std::size_t at = 0; at < context_.preloaded->size(); ++at) {
      const PreloadedObject& preload = (*context_.preloaded)[at];
      if (preload.after_fork == nullptr) continue;
      step.store(at + 1, std::memory_order_relaxed);
      preload.after_fork(preload.object);
    }
    if (!setup.start_hook.empty()) {
      step.store(StatusPage::in_start_hook, std::memory_order_relaxed);
      call_hook(context_, setup.start_hook);
    }
    if (!die_with_parent(parent)) leave(0);  // armed anew: the kernel disarms a process that changes its user
    step.store(0, std::memory_order_relaxed);
    return true;
  }

  /// User code, after the last task. What it throws is nobody's.
  void run_stop_hook() {
    if (stop_hook_.empty()) return;
    context_.task = 0;
    context_.call = TaskRandom::stop_hook;
    context_.item = context_.index;
    try {
      call_hook(context_, stop_hook_.view());
    } catch (const abi::__forced_unwind&) {
      throw;
    } catch (...) {
    }
    if (!own_.same()) ::_exit(0);  // it forked, and the child has come back here
  }

  void limit(const Limits& limits) {
    if (limits.address_space) address_space_limited_ = true;
    const std::uint64_t cpu_end = take_on(limits);
    StatusPage& page = status_.page();
    if (cpu_end == 0 || cpu_end == page.cpu_end_s.load(std::memory_order_relaxed)) return;
    page.cpu_share_s.store(static_cast<std::uint64_t>(limits.cpu_time->count()), std::memory_order_relaxed);
    page.cpu_end_s.store(cpu_end, std::memory_order_relaxed);
  }

  static bool is_listed(const FrameHeader& task) noexcept { return (task.flags & FrameHeader::listed) != 0; }

  /// Claims a task. False when the host takes it back: it has, or does so when it reads our hello.
  bool take(const FrameHeader& task, std::uint64_t started) {
    if (is_listed(task) && !reads_host_) return false;
    if (is_listed(task) && !host_.readable()) leave(0);  // a task has given up the right to: it runs in another worker
    StatusPage& page = status_.page();
    page.begin(task.number, started);
    if (!page.claim(task.number)) {
      if (page.was_taken_back(task.number)) return false;
      leave(exit_code_of_broken_worker);  // a task has written over the page, and nobody would answer for this one
    }
    page.progress.number.store(task.number, std::memory_order_release);
    page.task.store(task.task, std::memory_order_release);
    return true;
  }

  void end_task(const FrameHeader& task) {
    status_.page().task.store(0, std::memory_order_release);
    if ((task.flags & FrameHeader::parting) == 0) return;
    stopped_ = stop_hook_.empty();  // else the host says when
    tried("sched_yield", [] { return ::sched_yield(); });  // a host on this CPU reads the answer before we end, which takes longer
  }

  void run_task(Frame& frame) {
    const FrameHeader& task = frame.header;
    const std::uint64_t started = monotonic_ns();
    if (!take(task, started)) return;
    StatusPage& page = status_.page();
    ItemLog log(page, results_.get(), identity_, task, own_, memory_, post_);
    if (std::exchange(context_.index, task.first) != task.first) name_process(name_, task.first);
    context_.task = task.task;
    context_.items = &log;
    Writer out;
    begin_frame(out.bytes());
    BlockNotes notes;
    LargeResult large(page, results_.get(), identity_, [&](Writer& from) { return result_header(task, started, from); });
    context_.sender = &large;
    if (task.count == 0) out.note_blocks(&notes);
    out.attach_to(post_.outgoing());
    bool failed = true;
    try {
      Reader all(frame.payload.view());
      context_.call = all.number<std::uint64_t>();
      context_.item = all.number<std::uint64_t>();
      const auto blocks = is_listed(task) ? read_blocks(all) : std::vector<Block>();
      Reader in = Reader::of_call(all.raw(all.remaining()), blocks, &host_).with(&post_);
      if ((task.flags & FrameHeader::limited) != 0) limit(read_limits(in));  // the host gives this worker no further task
      const auto thunk = reinterpret_cast<Thunk>(read_code(in));
      thunk(context_, in, out);
      if (own_.same() && !large.sent()) post_.send();
      failed = false;
    } catch (const abi::__forced_unwind&) {
      throw;  // pthread_exit: the worker ends
    } catch (...) {
      if (!own_.same()) ::_exit(0);
      if (!large.sent()) fail(task, started, [](Writer& why) { write_current_failure(why); });
    }
    if (!own_.same()) ::_exit(0);  // the task forked, and the child has come back here: its twin answers
    if (!failed && !large.sent()) answer(task, started, out, log);
    post_.end();
    frame.payload = Bytes();
    end_task(task);
  }

  void answer(const FrameHeader& task, std::uint64_t started, Writer& out, ItemLog& log) {
    flush_output(false);  // what a task printed is there when its result is, and no later crash takes it along
    if (task.count != 0) return log.end(started);
    const std::uint64_t size = size_of(out);
    if (size > context_.max_result_bytes) {
      return fail(task, started, [&](Writer& why) { write_too_large(why, size, context_.max_result_bytes); });
    }
    send(out.bytes(), answer_header(FrameType::result, task, started));
  }

  static std::uint64_t size_of(const Writer& out) noexcept {
    return out.size() - sizeof(FrameHeader) + (out.notes() != nullptr ? total_size(out.notes()->blocks) : 0);
  }

  /// A result is about to be sent from inside of its task. Nothing when it is too large: that is said when the task is done.
  std::optional<FrameHeader> result_header(const FrameHeader& task, std::uint64_t started, const Writer& out) {
    if (!own_.same()) ::_exit(0);
    if (size_of(out) > context_.max_result_bytes) return std::nullopt;
    flush_output(false);
    return answer_header(FrameType::result, task, started);
  }

  FrameHeader answer_header(FrameType type, const FrameHeader& task, std::uint64_t started) {
    FrameHeader header;
    header.type = type;
    header.flags = memory_.full() ? FrameHeader::full : 0;
    if (status_.page().progress.value() != TaskProgress{}) header.flags |= FrameHeader::reported;
    header.task = task.task;
    if (type == FrameType::result) header.first = post_.send();
    header.number = monotonic_ns() - started;
    return header;
  }

  template <class WriteWhy>
  void fail(const FrameHeader& task, std::uint64_t started, WriteWhy write_why) {
    flush_output(false);
    const AddressSpaceLifted room(address_space_limited_);
    Writer out;
    begin_frame(out.bytes());
    write_why(out);
    send(out.bytes(), answer_header(FrameType::failed, task, started));
  }

  void send(Bytes& bytes, const FrameHeader& header) {
    end_frame(bytes, header);
    identity_.require();
    if (!write_all(results_.get(), bytes.view())) leave(0);
  }

  Fd tasks_;
  Fd results_;
  Fd output_;
  PipeIdentity identity_{results_.get()};
  StatusMapping status_;
  pid_t pid_;
  OwnProcess own_;
  std::string name_;  ///< the pool's
  TaskContext context_;
  FrameReader reader_;
  MemoryWatch memory_;
  Bytes stop_hook_;
  HostMemory host_;
  DescriptorPost post_{status_.page(), results_.get(), identity_};
  bool reads_host_ = false;
  bool address_space_limited_ = false;
  bool stopped_ = false;
};

/// The life of a worker process. Never returns. `forked`: from a server that has called end_exit_here.
[[noreturn]] BROOD_INLINE void run_worker(WorkerChannel channel, const std::vector<PreloadedObject>& preloaded,
                                    const void* snapshot, bool forked) {
  const LeaveAtEnd end(forked);
  try {
    WorkerLoop loop(std::move(channel), preloaded, snapshot);
    loop.run();
    leave(0);  // with all that it has: the end of the process gives it back at once
  } catch (const abi::__forced_unwind&) {
    throw;
  } catch (...) {
    leave(exit_code_of_broken_worker);
  }
}

#endif  // BROOD_BODIES

}  // namespace brood::detail
