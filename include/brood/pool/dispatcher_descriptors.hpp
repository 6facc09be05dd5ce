// SPDX-License-Identifier: MIT
// internal
// The host's part in passing descriptors: a worker that has started a task asks for a connection, and gets those of the call
// through it. Those of the result wait in it when the answer has come. Nothing here waits for the worker.
#pragma once

#include <utility>

#include <brood/core/config.hpp>
#include <brood/os/descriptor_socket.hpp>
#include <brood/os/foreign_memory.hpp>
#include <brood/pool/slot.hpp>
#include <brood/pool/task.hpp>

#if BROOD_BODIES

namespace brood::inline v0_1::detail {

/// The worker has asked. Its descriptor is taken where it may be looked into, which lets nobody else in; else it is asked for a
/// name, and says the secret of that first.
BROOD_INLINE StatusPage::Post connect_passage(Slot& slot) {
  const StatusPage& page = slot.ends.status.page();
  if (slot.passage_asks == 2) {
    slot.passage = SocketName(page.post_name.load(std::memory_order_relaxed)).connect();
    return StatusPage::Post::connected;
  }
  try {
    if (slot.pidfd) slot.passage = descriptor_of(slot.pidfd.get(), page.post_end.load(std::memory_order_relaxed));
  } catch (const SystemError& error) {
    if (error.code().value() == EMFILE || error.code().value() == ENFILE) throw;
  }
  if (slot.passage && is_packet_socket(slot.passage.get())) return StatusPage::Post::taken;
  slot.passage.reset();
  return StatusPage::Post::name_wanted;
}

BROOD_INLINE void answer_post(Slot& slot, Task& task) {
  slot.passage_due = !slot.announced;
  if (slot.passage_due) return;  // its server is about to say which process it is
  StatusPage& page = slot.ends.status.page();
  std::vector<Fd>* const given = descriptors_of(task.kept);
  ++slot.passage_asks;
  std::uint32_t answer = 0;
  try {
    answer = static_cast<std::uint32_t>(connect_passage(slot));
    if (slot.passage) {
      send_descriptors(slot.passage.get(), page.post_secret.load(std::memory_order_relaxed),
                       given != nullptr ? std::span<const Fd>(*given) : std::span<const Fd>());
      // no other worker will ask: who waits for the end of what was passed must not wait for us
      if (given != nullptr && task.items == 0 && task.retries == 0) given->clear();
    }
  } catch (const SystemError& error) {
    slot.passage.reset();
    slot.passage_asks = 2;
    answer = StatusPage::post_refused + static_cast<std::uint32_t>(error.code().value());
  }
  slot.answered = Slot::Clock::now();
  page.post.store(answer, std::memory_order_release);
  wake_waiter(page.post);
}

/// What a worker has sent through its connection: nothing, and an errno, where this process has no numbers for it. Then the
/// connection has parts of it still, and ends: what the worker would send next can't be told from these.
BROOD_INLINE std::optional<std::vector<Fd>> receive_passed(Slot& slot, int& error) {
  if (!slot.passage) return std::nullopt;
  try {
    return receive_descriptors(slot.passage.get(), 0);
  } catch (const SystemError& refused) {
    error = refused.code().value();
    slot.passage.reset();
    return std::nullopt;
  }
}

/// The descriptors of a result that has come. Throws ProtocolError when they are not those that the worker says it has sent.
BROOD_INLINE void take_descriptors(Slot& slot, Task& task, const FrameHeader& header) {
  if (header.first == 0 || (task.pull_refused && (header.first == task.received.size() || task.received_error != 0))) return;
  std::optional<std::vector<Fd>> all;
  if (task.received.empty()) all = receive_passed(slot, task.received_error);
  if (task.received_error != 0) return;
  if (!all || all->size() != header.first) throw ProtocolError("a result with descriptors that it did not send");
  task.received = std::move(*all);
}

/// The same for results of items: where they have any it is one item's, and its worker waits until it knows that they are here.
BROOD_INLINE void take_item_descriptors(Slot& slot, ResultBytes& item, const FrameHeader& header) {
  if ((header.flags & FrameHeader::attached) == 0) return;
  auto all = receive_passed(slot, item.received_error);
  if (item.received_error == 0) {
    if (!all || all->size() != header.number) throw ProtocolError("an item's result with descriptors that it did not send");
    item.received = std::move(*all);
  }
  StatusPage& page = slot.ends.status.page();
  slot.answered = Slot::Clock::now();
  page.post.store(static_cast<std::uint32_t>(StatusPage::Post::taken), std::memory_order_release);
  wake_waiter(page.post);
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
