// SPDX-License-Identifier: MIT
// internal
// How a worker sends a result whose large parts stay where the task left them: it tells the host where they lie and waits
// until the host has read them, which is one copy in all. A host that can't read them says so, and they go through the pipe,
// from where they lie.
//
// What the task has made is destroyed after that. So a result that was read wins over a destructor that crashes.
#pragma once

#include <exception>
#include <optional>
#include <span>
#include <utility>

#include <brood/os/foreign_memory.hpp>
#include <brood/wire/block_list.hpp>
#include <brood/wire/frame.hpp>
#include <brood/wire/status_page.hpp>
#include <brood/wire/writer.hpp>
#include <brood/worker/context.hpp>
#include <brood/worker/item_log.hpp>
#include <brood/worker/leave.hpp>

namespace brood::inline v0_1::detail {

/// `Header` makes the header of the answer, when it is about to be sent, or nothing where the result must not be sent.
template <class Header>
class LargeResult final : public ResultSender {
 public:
  LargeResult(StatusPage& page, int results, const PipeIdentity& identity, Header header) noexcept
      : page_(page), results_(results), identity_(identity), header_(std::move(header)) {}

  bool sent() const noexcept { return sent_; }

  void send_result(Writer& out) override {
    std::optional<FrameHeader> header = header_(out);
    if (!header) return;
    const std::span<const Block> blocks = out.notes()->blocks;
    const std::span<const std::byte> own = out.view().subspan(sizeof(FrameHeader));
    Bytes offer;
    begin_frame(offer);
    write_blocks(offer, blocks);
    offer.append(own.data(), own.size());
    FrameHeader asking = *header;
    asking.type = FrameType::large;
    end_frame(offer, asking);
    sent_ = true;  // whatever happens now, no other answer may follow
    page_.transfer.store(static_cast<std::uint32_t>(StatusPage::Transfer::offered), std::memory_order_relaxed);
    identity_.require();
    write(offer.view());
    switch (wait()) {
      case StatusPage::Transfer::taken: return;
      case StatusPage::Transfer::refused: break;
      default: leave(exit_code_of_broken_worker);  // a task has written over the page
    }
    header->size = own.size() + total_size(blocks);
    write(std::as_bytes(std::span(&*header, 1)));
    each_part(own, blocks, 0, [this](std::span<const std::byte> part) {
      write(part);
      return true;
    });
  }

 private:
  /// From the first byte on nobody else answers for the task: where that can't be done the worker ends.
  void write(std::span<const std::byte> bytes) {
    try {
      if (write_all(results_, bytes)) return;
    } catch (const std::exception&) {  // the task has taken the right to read its result from itself
      leave(exit_code_of_broken_worker);
    }
    leave(0);
  }

  StatusPage::Transfer wait() noexcept {
    constexpr auto offered = static_cast<std::uint32_t>(StatusPage::Transfer::offered);
    std::uint32_t word = page_.transfer.load(std::memory_order_acquire);
    while (word == offered) {
      wait_for_change(page_.transfer, offered);
      word = page_.transfer.load(std::memory_order_acquire);
    }
    return static_cast<StatusPage::Transfer>(word);
  }

  StatusPage& page_;
  int results_;
  const PipeIdentity& identity_;
  Header header_;
  bool sent_ = false;
};

}  // namespace brood::detail
