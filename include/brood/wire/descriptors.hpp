// SPDX-License-Identifier: MIT
// internal
// Descriptors that belong to a message. Its bytes hold their places in a list; the list itself takes another way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <brood/core/errors.hpp>
#include <brood/os/descriptor_socket.hpp>
#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

inline constexpr const char* why_no_descriptor =
    "a descriptor can be (part of) an argument of a task, of an item, or of a result, but not of a preload_args, of a "
    "worker_hook, of an exception, nor of a buffer that a Serializer made";

/// What the task of a call holds on to, behind the `const void` of Writer::take_kept: what the call names, and what goes along.
struct KeptByCall {
  std::vector<std::shared_ptr<const void>> objects;
  mutable std::vector<Fd> descriptors;  ///< given up when the one worker that may run the task has them
};

/// Those of a call; null: none.
inline std::vector<Fd>* descriptors_of(const std::shared_ptr<const void>& kept) noexcept {
  if (!kept) return nullptr;
  std::vector<Fd>& all = static_cast<const KeptByCall*>(kept.get())->descriptors;
  return all.empty() ? nullptr : &all;
}

/// Where a Reader gets descriptors from.
class DescriptorSource {
 public:
  /// The one of that number. Throws SerializationError when there is none.
  virtual Fd take(std::uint32_t number) = 0;
  /// Whether the message is read by the process, and in the thread, that wrote it.
  virtual bool here() const noexcept { return false; }

 protected:
  ~DescriptorSource() = default;
};

[[noreturn]] inline void no_such_descriptor(std::uint32_t number, std::size_t count) {
  throw SerializationError("bytes can't be decoded: they name descriptor " + std::to_string(number) + " of a message that has " +
                           std::to_string(count));
}

[[noreturn]] inline void descriptors_were_lost(int error) {
  throw SerializationError("its descriptors can't be received: " + std::generic_category().message(error) +
                           "; raise the limit of open files (ulimit -n), or keep fewer open");
}

/// Descriptors that are here already. Each use gets a copy.
class ListedDescriptors final : public DescriptorSource {
 public:
  /// `lost`: an errno; why there are none.
  explicit ListedDescriptors(const std::vector<Fd>* list, bool inlined = false, int lost = 0) noexcept
      : list_(list), inlined_(inlined), lost_(lost) {}

  Fd take(std::uint32_t number) override {
    if (lost_ != 0) descriptors_were_lost(lost_);
    const std::size_t count = list_ != nullptr ? list_->size() : 0;
    if (number >= count) no_such_descriptor(number, count);
    return duplicate((*list_)[number].get());
  }
  bool here() const noexcept override { return inlined_; }

 private:
  const std::vector<Fd>* list_;
  bool inlined_;
  int lost_;
};

/// The same, for a message that is decoded once.
class TakenDescriptors final : public DescriptorSource {
 public:
  TakenDescriptors(std::vector<Fd>& list, int lost) noexcept : list_(list), lost_(lost) {}

  Fd take(std::uint32_t number) override {
    if (lost_ != 0) descriptors_were_lost(lost_);
    if (number >= list_.size()) no_such_descriptor(number, list_.size());
    if (!list_[number]) throw SerializationError("bytes can't be decoded: they name a descriptor twice");
    return std::move(list_[number]);
  }

 private:
  std::vector<Fd>& list_;
  int lost_;
};

}  // namespace brood::detail
