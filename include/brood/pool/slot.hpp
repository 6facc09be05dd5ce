// SPDX-License-Identifier: MIT
// internal
// One worker as the host sees it: what one process after another is followed by.
//
//   vacant ──start──▶ starting ──hello──▶ ready ──stop──▶ retiring ──▶ vacant
//                        │                  │                │
//                        └──kill, or its end─┴──▶ doomed ◀────┘  ──▶ vacant (each on the report of its end)
//
// A doomed worker is one that was killed, or one whose end was seen before its server has told how it came about. Its
// tasks are resolved with the report. A worker that the kernel can't end, or whose server does not report, is given up
// in bounded time: its tasks are resolved, its place is free.
//
// Tasks may be assigned while it is starting: their frames wait in the pipe. The first in `assigned` is the one that
// may be running; those behind it have not started unless the first has answered.
//
// Beside its state a worker has a seat: one of the pool's places, where it is given tasks, a spare one, where it waits for
// a place, or none, while it leaves and its place is another's.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <brood/os/process.hpp>
#include <brood/policy/worker_policy.hpp>
#include <brood/pool/attachment.hpp>
#include <brood/pool/outgoing.hpp>
#include <brood/pool/output_tail.hpp>
#include <brood/pool/task.hpp>
#include <brood/wire/frame.hpp>

namespace brood::inline v0_1::detail {

enum class SlotState : std::uint8_t { vacant, starting, ready, retiring, doomed };

enum class Seat : std::uint8_t { none, place, spare };

/// Why a worker is being killed.
enum class Doom : std::uint8_t {
  none,           ///< nobody's doing: it has ended
  cancelled,      ///< for the task that it runs
  violated,       ///< it broke the protocol
  stuck,          ///< it does not take the tasks that it is given
  lost,           ///< it closed its result pipe and lives on
  timed_out,      ///< the task that it runs has passed its deadline
  start_overdue,  ///< it did not come up in time
  stop_overdue,   ///< it did not leave in time
};

constexpr bool transition_allowed(SlotState from, SlotState to) noexcept {
  switch (to) {
    case SlotState::vacant: return from != SlotState::vacant;
    case SlotState::starting: return from == SlotState::vacant;
    case SlotState::ready: return from == SlotState::starting;
    case SlotState::retiring: return from == SlotState::starting || from == SlotState::ready;
    case SlotState::doomed: return from != SlotState::vacant && from != SlotState::doomed;
  }
  return false;
}

class Slot {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Slot(std::uint32_t number) noexcept : index(number) {}

  const std::uint32_t index;  ///< among all slots: a part of the ticket
  std::uint64_t generation = 0;
  Seat seat = Seat::none;
  std::uint32_t place = 0;    ///< where in the pool, or, of a spare, among the spares
  bool snapshot = false;      ///< it is a copy of the host for one call
  bool was_spare = false;
  std::uint32_t source = 0;
  pid_t pid = 0;
  Fd pidfd;
  WorkerEnds ends;
  Fd passage;                  ///< the connection for the descriptors of the task that runs
  unsigned passage_asks = 0;   ///< how often it was asked for by that task, and answered
  Clock::time_point answered{};  ///< when the worker, which waited, was last told where its descriptors go
  bool passage_due = false;    ///< it was asked for before the process was known
  OutputTail output;  ///< what the task that runs has printed
  std::deque<TaskPtr> assigned;
  std::uint64_t next_number = 1;
  std::uint64_t tasks_given = 0, tasks_done = 0;
  bool announced = false;  ///< `started` has been heard: pid and pidfd are known
  bool tree = false;       ///< what it starts ends with it, so it gets nothing to do before the host can see to that
  bool greeted = false;    ///< hello has been heard
  bool reads_host = true;  ///< it can read large arguments from our memory, or may be able to
  Doom doom = Doom::none;
  unsigned looks_at_unstarted = 0;  ///< how often in a row its first task, of this number, had not started
  std::pair<std::uint64_t, std::uint64_t> unstarted{};  ///< and how much it had been sent
  bool told_to_leave = false, watching_out = false;
  bool gone = false;       ///< its process has ended; how is for its server to say
  bool abandoned = false;  ///< it would not end: its tasks are resolved, its place is another's
  unsigned looks = 0;      ///< how often its end was overdue
  std::exception_ptr start_cause;  ///< why it could not come up, where it said so
  bool lost = false;        ///< its result pipe has ended
  bool receiving = true;    ///< false after it broke the protocol: nothing more is read
  bool listed_idle = false;
  bool surplus = false;     ///< its place is no more: it leaves behind the task that it runs
  bool full = false;        ///< it has said that it has more memory than it may
  bool last_given = false;  ///< no task follows the last that it was given
  std::uint64_t last_number = 0;  ///< that one's, as it was sent
  std::uint64_t heard = 0;  ///< the number of the task of which it has sent something, which has started whatever the page says
  bool parted = false;      ///< it has answered that one, and leaves by itself
  std::uint64_t cpu_ms = 0;  ///< of a worker that has ended
  Clock::time_point born{};  ///< when it was asked for
  std::uint64_t busy_ns = 0;  ///< of tasks that it has run, by its own account
  std::uint64_t lent_bytes = 0;      ///< that it was to read from our memory
  std::uint64_t bytes_received = 0;  ///< read from its memory, too
  Clock::time_point deadline = Clock::time_point::max();  ///< of its start, or of its leaving
  Clock::time_point idle_until = Clock::time_point::max();  ///< when to look whether it has been idle for too long
  Clock::time_point idle_since{};
  Clock::time_point task_check = Clock::time_point::max();  ///< when to look whether a task has passed its deadline

  SlotState state() const noexcept { return state_; }
  Ticket ticket() const noexcept { return {index, generation}; }

  void move_to(SlotState next) noexcept {
    assert(transition_allowed(state_, next));
    state_ = next;
  }

  bool idle() const noexcept { return state_ == SlotState::ready && seat == Seat::place && assigned.empty() && !lost; }
  /// Whether a spare one can take a place. One that is not up yet can: what it is given waits for it.
  bool fit() const noexcept { return (state_ == SlotState::starting || state_ == SlotState::ready) && !lost; }

  /// Makes the slot ready for its next worker.
  void begin(WorkerEnds fresh, std::uint32_t from, Clock::time_point until) {
    move_to(SlotState::starting);
    source = from;
    ends = std::move(fresh);
    deadline = until;
    born = Clock::now();
  }

  /// Forgets the worker that has ended.
  void clear() noexcept {
    move_to(SlotState::vacant);
    seat = Seat::none;
    was_spare = false;
    pid = 0;
    pidfd.reset();
    answered = {};
    end_passage();
    ends = WorkerEnds{};
    output.clear();
    setup_sent_ = false;
    assigned.clear();
    outbox_.clear();
    lent_.clear();
    reads_host = true;
    reader_ = FrameReader();
    next_number = 1;
    tasks_given = tasks_done = 0;
    announced = greeted = watching_out = lost = told_to_leave = gone = abandoned = false;
    receiving = true;
    full = last_given = parted = surplus = false;
    cpu_ms = busy_ns = lent_bytes = bytes_received = last_number = heard = 0;
    doom = Doom::none;
    looks = looks_at_unstarted = 0;
    unstarted = {};
    bytes_sent_ = 0;
    start_ = {};
    start_cause = nullptr;
    deadline = task_check = idle_until = Clock::time_point::max();
  }

  /// Whether one more claim fits on the status page beside that of the task that may be running.
  bool has_claim_room() const noexcept {
    return assigned.empty() || next_number - assigned.front()->number < StatusPage::claim_count;
  }

  /// Hands a task to the worker: offers it on the status page, then sends it. `number`: what its this_worker::index() is;
  /// `most`: how many tasks it may be given, 0 for any number. Where it throws nothing has happened.
  void assign(const TaskPtr& task, std::uint32_t number, std::uint64_t most) {
    assert(has_claim_room());
    const bool listed = task->attachment && reads_host;
    if (listed) lent_.reserve(lent_.size() + 1);
    outbox_.emplace_back();
    try {
      assigned.push_back(task);
    } catch (...) {
      outbox_.pop_back();
      throw;
    }
    task->state = Task::State::assigned;  // from here on nothing throws
    task->slot = index;
    task->number = next_number++;
    ends.status.page().offer(task->number);
    tasks_given += std::max(task->items, 1U);
    FrameHeader header;
    if (task->timeout.count() != 0) {
      header.flags = FrameHeader::timed;
      task->assigned_at = Clock::now();
    }
    if (task->limited) header.flags |= FrameHeader::limited;
    if (task->limited || (most != 0 && tasks_given >= most)) {
      header.flags |= FrameHeader::parting;
      last_given = true;
      last_number = task->number;
    }
    header.type = FrameType::task;
    header.task = task->id;
    header.first = number;
    header.count = task->items;
    header.number = task->number;
    if (listed) {
      header.flags |= FrameHeader::listed;
      lent_.push_back({task->number, task->attachment});
      lent_bytes += task->attachment->size;
    }
    outbox_.back() = outgoing(header, task->payload, task->attachment, {task->call, task->first_item});
  }

  /// Takes a task back that the worker has not started. False when it has.
  bool revoke(const Task& task) noexcept {
    if (task.number == heard || !ends.status.page().revoke(task.number)) return false;
    give_back(task.number);
    return true;
  }

  /// The worker does not read the large parts of that task any more. Else it may, until it has ended: also those of a task
  /// that is resolved meanwhile, which must not become something else under its hands.
  void give_back(std::uint64_t number) noexcept {
    std::erase_if(lent_, [&](const Lent& lent) { return lent.number == number; });
  }

  /// Once, and once more when the first way was refused.
  bool may_ask_for_passage() const noexcept { return !passage && !passage_due && passage_asks < 2; }

  /// The task has answered, or will not.
  void end_passage() noexcept {
    passage_asks = 0;
    passage_due = false;
    passage.reset();
  }

  bool has_started(const Task& task) const noexcept {
    return task.number == heard || ends.status.page().may_have_started(task.number);
  }

  void count_busy(std::uint64_t ns) noexcept { busy_ns = ns > ~busy_ns ? ~std::uint64_t{0} : busy_ns + ns; }
  std::chrono::nanoseconds life(Clock::time_point now) const noexcept { return now - born; }
  /// What of its life it has spent on tasks that are done.
  std::chrono::nanoseconds busy_time(Clock::time_point now) const noexcept {
    return std::min(life(now), std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(busy_ns, ~std::uint64_t{0} >> 1))));
  }

  /// Sees how far a task has come that it runs, or has run last.
  void look_at_progress(Task& task) const noexcept {
    if (const auto told = ends.status.page().progress.of(task.number)) task.progress = *told;
  }

  /// How many items of a chunk have results, those that the worker has yet to send among them.
  std::uint64_t items_done_of(const Task& task) const noexcept {
    const StatusPage& page = ends.status.page();
    const std::uint64_t finished = page.items_done.load(std::memory_order_acquire) >> 32;
    if (page.progress.number.load(std::memory_order_acquire) != task.number) return task.items_done;
    return std::clamp<std::uint64_t>(finished, task.items_done, std::max(task.items, task.items_done));
  }

  /// When a task that runs, or the item of it that runs, has started. The worker is believed once, in a chunk once for each
  /// item: no task can put its own deadline off again and again.
  Clock::time_point start_of(const Task& task) noexcept {
    const StatusPage& page = ends.status.page();
    // before started_ns, which the worker writes before it counts the item
    const std::uint64_t items = page.items_started.load(std::memory_order_acquire) & ~StatusPage::halted_bit;
    const bool same_item = items <= start_.items || items > task.items;
    if (start_.number == task.number && same_item) return std::max(start_.time, answered);
    const auto told = page.started_ns.load(std::memory_order_acquire);
    const auto now = Clock::now();
    const auto since_boot = std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch()).count();
    start_ = {task.number, std::min<std::uint64_t>(items, task.items), task.assigned_at};
    if (told <= static_cast<std::uint64_t>(since_boot)) {  // else it lies
      start_.time = std::max(start_.time, Clock::time_point(std::chrono::nanoseconds(static_cast<std::int64_t>(told))));
    }
    return std::max(start_.time, answered);
  }

  /// Puts a frame behind those that are to be sent.
  void post(FrameHeader header, std::shared_ptr<const Bytes> payload) {
    outbox_.push_back(outgoing(header, std::move(payload), nullptr, {}));
  }

  std::uint64_t bytes_sent() const noexcept { return bytes_sent_; }
  bool has_output() const noexcept { return !outbox_.empty() && !(tree && !announced) && !holds_tasks(); }

  /// What a start hook prints can be told from what the first task prints only if that task is sent when the hook is done.
  bool holds_tasks() const noexcept { return ends.output && setup_sent_ && !greeted; }

  /// Writes as much as the pipe takes, many frames at once. Never waits.
  void flush() {
    while (has_output()) {
      std::array<iovec, 32> parts;
      std::size_t count = 0;
      for (const Outgoing& each : outbox_) {
        bool whole = true;
        each.visit_rest([&](std::span<const std::byte> part) {
          if (part.empty()) return true;
          whole = count < parts.size() && part.size() <= max_transfer / 4;
          if (count < parts.size()) {
            parts[count++] = {const_cast<std::byte*>(part.data()), std::min(part.size(), max_transfer / 4)};
          }
          return whole;
        });
        if (!whole || (ends.output && !setup_sent_)) break;
      }
      const ssize_t sent =
          retried("writev", [&] { return ::writev(ends.tasks.get(), parts.data(), static_cast<int>(count)); });
      if (sent < 0) {
        if (errno == EAGAIN) return;
        throw SystemError("writev", errno);
      }
      auto left = static_cast<std::size_t>(sent);
      bytes_sent_ += left;
      while (left != 0) {
        Outgoing& front = outbox_.front();
        const std::size_t size = sizeof(FrameHeader) + front.head.frame.size;
        const std::size_t taken = std::min(left, size - front.sent);
        front.sent += taken;
        left -= taken;
        if (front.sent == size) {
          outbox_.pop_front();
          setup_sent_ = true;  // it is the first
        }
      }
    }
  }

  /// Reads what the worker has printed by now, and no more: somebody may write without end. Returns whether nobody is left
  /// who could write. Throws SystemError.
  bool receive_output() {
    std::array<std::byte, std::size_t{16} << 10> piece;
    std::size_t left = bytes_waiting(ends.output.get());
    for (bool again = false;;) {
      const Moved moved = read_some(ends.output.get(), piece);
      if (moved.ended) return true;
      if (moved.blocked && (left == 0 || std::exchange(again, true))) return false;  // beside bytes that wait: once more
      output.append(std::span(piece).first(moved.bytes));
      left -= std::min(left, moved.bytes);
      if (left == 0) return false;
    }
  }

  /// Reads what the worker has sent and hands frames to the handler. Never waits. As long as there is
  /// something, it goes on for `bytes`: without bound for a worker that has ended, else no longer than it has room to write
  /// what it may write before the host looks again. Returns whether the pipe has ended. Throws what the handler throws.
  template <class Handler>
  bool receive(std::span<std::byte> scratch, Handler& handler, std::size_t bytes) {
    for (;;) {
      const auto direct = reader_.direct_target(handler);
      const auto target = direct.empty() ? scratch : direct;
      const Moved moved = read_some(ends.results.get(), target);
      if (moved.blocked) return false;
      if (moved.ended) return true;
      bytes_received += moved.bytes;
      if (direct.empty()) {
        reader_.feed(scratch.first(moved.bytes), handler);
      } else {
        reader_.commit_direct(moved.bytes, handler);
      }
      bytes -= std::min(bytes, moved.bytes);
      if (bytes == 0 && moved.bytes < target.size()) return false;
    }
  }

 private:
  /// The start that was believed.
  struct Start {
    std::uint64_t number = 0;  ///< of the task
    std::uint64_t items = 0;   ///< how many items of it had started
    Clock::time_point time;
  };

  SlotState state_ = SlotState::vacant;
  Start start_;
  FrameReader reader_;
  std::deque<Outgoing> outbox_;
  struct Lent {
    std::uint64_t number;  ///< of a claim
    std::shared_ptr<const Attachment> attachment;
  };
  std::vector<Lent> lent_;
  std::uint64_t bytes_sent_ = 0;
  bool setup_sent_ = false;
};

}  // namespace brood::detail
