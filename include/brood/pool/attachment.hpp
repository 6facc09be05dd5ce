// SPDX-License-Identifier: MIT
// internal
// The large parts of a call: they stay in the host's memory, and the worker reads them from there when it runs the task. The
// host never writes into a worker. Where a worker can't read, they go through the pipe, from where they lie.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <brood/core/bytes.hpp>
#include <brood/wire/block_list.hpp>
#include <brood/wire/blocks.hpp>

namespace brood::inline v0_1::detail {

/// Lives until the task is resolved, and no worker that was told of it can read it any more.
struct Attachment {
  BlockNotes notes;
  std::vector<std::shared_ptr<void>> owners;  ///< of arguments that were moved in
  Bytes list;                                 ///< the blocks as a worker is told of them
  std::uint64_t size = 0;                     ///< bytes in all blocks
};

/// The large parts of a call that is being written. A call that is not taken gives back what was moved in.
class AttachmentWriter {
 public:
  AttachmentWriter() { notes_.copy = true; }
  AttachmentWriter(const AttachmentWriter&) = delete;
  AttachmentWriter& operator=(const AttachmentWriter&) = delete;
  ~AttachmentWriter() {
    for (const Moved& each : moved_) each.give_back(each.owner.get(), each.from);
  }

  BlockNotes& notes() noexcept { return notes_; }

  /// Takes over an argument. What it holds stays where it is in memory.
  template <class Container>
  void take(Container& from) {
    moved_.push_back({std::make_shared<Container>(), &from, nullptr});
    moved_.back().give_back = [](void* owner, void* to) {
      if (!static_cast<Container*>(owner)->empty()) static_cast<Container*>(to)->swap(*static_cast<Container*>(owner));
    };
    static_cast<Container*>(moved_.back().owner.get())->swap(from);
  }

  /// Null when nothing is large.
  std::shared_ptr<const Attachment> complete() {
    if (notes_.blocks.empty()) return nullptr;
    auto made = std::make_shared<Attachment>();
    for (const Moved& each : moved_) made->owners.push_back(each.owner);
    write_blocks(made->list, notes_.blocks);
    made->size = total_size(notes_.blocks);
    made->notes = std::move(notes_);
    return made;
  }

  /// The call was taken, and with it the arguments.
  void accepted() noexcept { moved_.clear(); }

 private:
  struct Moved {
    std::shared_ptr<void> owner;
    void* from;
    void (*give_back)(void* owner, void* to);
  };

  BlockNotes notes_;
  std::vector<Moved> moved_;
};

}  // namespace brood::detail
