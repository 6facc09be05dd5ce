// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include <brood/core/bytes.hpp>
#include <brood/pool/attachment.hpp>
#include <brood/wire/frame.hpp>

namespace brood::inline v0_1::detail {

/// A frame that is to be sent, and how much of it was.
struct Outgoing {
  struct Head {
    FrameHeader frame;
    TaskStream stream;  ///< of a task
  } head;
  std::shared_ptr<const Bytes> payload;
  std::shared_ptr<const Attachment> attachment;
  std::size_t sent = 0;

  /// What is still to be sent, part after part, as long as visit(part) is true.
  template <class Visit>
  void visit_rest(Visit visit) const {
    std::size_t skip = sent;
    const auto part = [&](std::span<const std::byte> bytes) {
      const std::size_t skipped = std::min(skip, bytes.size());
      skip -= skipped;
      return visit(bytes.subspan(skipped));
    };
    const auto body = payload ? payload->view() : std::span<const std::byte>();
    const bool task = head.frame.type == FrameType::task;
    if (!part(std::as_bytes(std::span(&head, 1)).first(task ? sizeof head : sizeof head.frame))) return;
    if (!attachment) return void(part(body));
    if ((head.frame.flags & FrameHeader::listed) != 0) return void(part(attachment->list.view()) && part(body));
    each_part(body, attachment->notes.blocks, 0, part);
  }
};

/// Its header says how long it is.
inline Outgoing outgoing(FrameHeader header, std::shared_ptr<const Bytes> payload,
                         std::shared_ptr<const Attachment> attachment, TaskStream stream) noexcept {
  const bool listed = (header.flags & FrameHeader::listed) != 0;
  header.size = (payload ? payload->size() : 0) + (!attachment ? 0 : listed ? attachment->list.size() : attachment->size);
  if (header.type == FrameType::task) header.size += sizeof stream;
  return {{header, stream}, std::move(payload), std::move(attachment), 0};
}

}  // namespace brood::detail
