// SPDX-License-Identifier: MIT
// internal
// Dispatcher: large results, which are read from the memory of the worker that waits for that (pull.hpp).
//
// Such a result is whole when the host has read it. A worker that ends before fails its task, and so does one that is killed
// for a deadline; nothing is waited for.
#pragma once

#include <algorithm>

#include <brood/core/config.hpp>
#include <brood/pool/dispatcher.hpp>
#include <brood/wire/block_list.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

/// The worker has said where its result lies. Throws when that can't be.
BROOD_INLINE void Dispatcher::begin_pull(Slot& slot, Task& task, const Frame& frame) {
  Reader in(frame.payload.view());
  LargeMessage message;
  message.blocks = read_blocks(in);
  if (message.blocks.empty()) throw ProtocolError("a large result without anything large");
  const std::uint64_t size = total_size(message.blocks) + in.remaining();
  if (size > options_.max_message_bytes) throw MessageTooLarge("a result of " + std::to_string(size) + " bytes");
  const auto own = in.raw(in.remaining());
  message.own.append(own.data(), own.size());
  if (!pull_stage_) pull_stage_ = std::make_unique_for_overwrite<std::byte[]>(Pull::stage_size);
  pulls_.reserve(pulls_.size() + 1);
  Assembled made;
  if (task.landing) {
    made = assemble_landing(*task.landing, message);
  } else if (task.assemble != nullptr) {
    made = task.assemble(message);
  }
  task.pull = std::make_shared<Pull>(slot.index, slot.generation, std::move(message), std::move(made));
  task.run_ns = frame.header.number;
  pulls_.push_back(task.pull);
}

/// The slot whose first task is that whose result is read; null when that has been given up.
BROOD_INLINE Slot* Dispatcher::slot_of(const Pull& pull) {
  Slot* const slot = find_slot(pull.slot(), pull.generation() & 0xffffffff);
  return slot != nullptr && !slot->assigned.empty() && slot->assigned.front()->pull.get() == &pull ? slot : nullptr;
}

/// What is to be read in this turn: the oldest, and no more of them than leave it short, however many workers there are.
BROOD_INLINE std::vector<PullStep> Dispatcher::due_pulls() {
  std::vector<PullStep> due;
  if (pulls_.empty()) return due;
  constexpr std::size_t most = 8;
  due.reserve(std::min(most, pulls_.size()));
  std::erase_if(pulls_, [&](const std::shared_ptr<Pull>& pull) {
    if (due.size() == most) return false;
    Slot* const slot = slot_of(*pull);
    if (slot == nullptr || slot->state() != SlotState::ready || slot->gone) return true;
    if (!slot->announced) return false;  // its server is about to say which process it is
    if (!slot->pidfd) {
      refuse_pull(*slot);
      return true;
    }
    due.push_back({pull, slot->pid, slot->pidfd.get()});
    return false;
  });
  return due;
}

BROOD_INLINE void Dispatcher::answer_pull(const Slot& slot, StatusPage::Transfer answer) noexcept {
  std::atomic<std::uint32_t>& word = slot.ends.status.page().transfer;
  word.store(static_cast<std::uint32_t>(answer), std::memory_order_release);
  wake_waiter(word);
}

/// The task's result is not to be read, or not to its end. From when this returns, nobody writes into memory of the caller's. It
/// waits for the piece that is being read; whoever gives a task up kills its worker before, so that this ends.
BROOD_INLINE void drop_pull(Task& task) noexcept {
  if (task.pull && task.landing) task.pull->abort();
  task.pull.reset();
}

/// The worker is to use the pipe.
BROOD_INLINE void Dispatcher::refuse_pull(Slot& slot) {
  Task& task = *slot.assigned.front();
  drop_pull(task);
  task.pull_refused = true;
  answer_pull(slot, StatusPage::Transfer::refused);
}

/// A piece was read.
BROOD_INLINE void Dispatcher::settle_pull(const std::shared_ptr<Pull>& pull) {
  if (pull->state() == Pull::State::going) return;
  std::erase(pulls_, pull);
  Slot* const slot = slot_of(*pull);
  if (slot == nullptr) return;
  switch (pull->state()) {
    case Pull::State::going:
    case Pull::State::ended: return;  // how it ended is about to be heard
    case Pull::State::refused: return refuse_pull(*slot);
    case Pull::State::false_address: return violated(*slot, FailureKind::protocol, "a list of memory that it does not have");
    case Pull::State::no_memory: return unreadable(*slot, "this process has no memory for it");
    case Pull::State::whole: break;
  }
  slot->bytes_received += total_size(pull->message().blocks);
  answer_pull(*slot, StatusPage::Transfer::taken);
  const TaskPtr task = slot->assigned.front();
  if (task->landing) {
    task->results.push_back({0, 1, slot->pid, 0, std::move(pull->message().own)});
    task->pull.reset();
  }
  take_output(*slot, *task);
  finish_front(*slot, task->run_ns, std::nullopt);
  after_answers(*slot);
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
