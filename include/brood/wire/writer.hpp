// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/core/bytes.hpp>
#include <brood/core/errors.hpp>
#include <brood/os/fd.hpp>
#include <brood/wire/blocks.hpp>
#include <brood/wire/descriptors.hpp>

namespace brood::inline v0_1 {

/// Where a Serializer<T> writes its value. Numbers keep the byte order of the machine: both ends run the same image.
/// \snippet own_types.cpp Serializer
class Writer {
 public:
  /// Values may be nested this deep: a Reader does not go deeper either.
  static constexpr int max_depth = 128;

  /// The bytes of one number, enum or std::byte.
  template <class T>
    requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void number(T value) {
    std::byte* target = bytes_.extend(sizeof(T));
    if constexpr (std::is_same_v<T, long double> && std::numeric_limits<T>::digits == 64) {
      std::memset(target, 0, sizeof(T));  // ten bytes are the value, the others would be what lay on the stack
      std::memcpy(target, &value, 10);
    } else {
      std::memcpy(target, &value, sizeof(T));
    }
  }

  /// A count of elements or bytes, as 64 bits.
  void count(std::size_t value) { number<std::uint64_t>(value); }

  /// `size` bytes as they are, in one copy.
  void raw(const void* data, std::size_t size) { bytes_.append(data, size); }

  // internal
  void raw(const detail::Bytes& bytes) { raw(bytes.data(), bytes.size()); }

  // internal: bytes of an object that lives until the message was sent, where the message's owner has called note_blocks();
  // then a large one is not copied
  void bulk(const void* data, std::size_t size) {
    if (notes_ != nullptr && size >= detail::block_threshold) {
      notes_->add(bytes_.size() - notes_from_, data, size);
    } else {
      raw(data, size);
    }
  }

  /// A count, then that many bytes.
  void text(std::string_view value) {
    count(value.size());
    raw(value.data(), value.size());
  }

  /// A value of any serializable type. Throws SerializationError if it can't be sent: it is nested too deeply, or has no
  /// value (a std::variant that lost it to an exception). Complexity: linear in the bytes; one copy for arrays, vectors
  /// and strings of numbers.
  template <class T>
  void value(const T& value);

  // internal: keeps an object alive as long as the task may run: for values that name something instead of holding it. It is let
  // go of with the pool's lock held, so its destructor must be the library's own. False when nobody can keep it: only the
  // arguments of a task are written for one, not results, nor buffers of a Serializer's own
  bool keep(const std::shared_ptr<const void>& object) {
    if (!is_call_) return false;
    if (kept_.empty() || kept_.back() != object) kept_.push_back(object);
    return true;
  }

  // internal: a copy of a descriptor travels beside the bytes; returns its number there. Throws SerializationError where none can
  std::uint32_t attach(int fd) {
    std::vector<detail::Fd>* const list = attached_ != nullptr ? attached_ : is_call_ ? &call_attached_ : nullptr;
    if (list == nullptr) fail(detail::why_no_descriptor);
    if (list->size() == detail::max_descriptors) fail("more than " + std::to_string(detail::max_descriptors) + " descriptors");
    list->reserve(list->size() + 1);
    try {
      list->push_back(detail::duplicate(fd));
    } catch (const detail::SystemError& error) {
      fail("descriptor " + std::to_string(fd) + ": " + error.what());
    }
    return static_cast<std::uint32_t>(list->size() - 1);
  }
  // internal: where they are collected, for a result that can have some
  void attach_to(std::vector<detail::Fd>* list) noexcept { attached_ = list; }
  // internal: how many there are
  std::size_t attached() const noexcept { return attached_ != nullptr ? attached_->size() : 0; }
  // internal: takes back what was written and attached beyond that
  void roll_back(std::size_t size, std::size_t attached) noexcept {
    bytes_.truncate(size);
    if (attached_ != nullptr) attached_->resize(std::min(attached, attached_->size()));
  }

  /// Throws SerializationError.
  [[noreturn]] static void fail(const std::string& what) { throw SerializationError("a value can't be sent: " + what); }

  /// One level of nesting, for as long as it lives.
  class Nested {
   public:
    /// One level deeper. Throws SerializationError beyond max_depth.
    explicit Nested(Writer& writer) : writer_(writer) {
      if (writer.depth_ == max_depth) fail("values nested more than " + std::to_string(max_depth) + " deep");
      ++writer.depth_;
    }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    /// One level up.
    ~Nested() { --writer_.depth_; }

   private:
    Writer& writer_;
  };

  // internal: for as long as it lives, everything is copied: code of the user may write what it made a moment ago
  class Copied {
   public:
    explicit Copied(Writer& writer) noexcept : writer_(writer), notes_(std::exchange(writer.notes_, nullptr)) {}
    Copied(const Copied&) = delete;
    Copied& operator=(const Copied&) = delete;
    ~Copied() { writer_.notes_ = notes_; }

   private:
    Writer& writer_;
    detail::BlockNotes* notes_;
  };

  // internal: large arrays of numbers may stay where they are from here on; null ends that. Offsets count from here as well
  void note_blocks(detail::BlockNotes* notes) noexcept {
    notes_ = notes;
    notes_from_ = bytes_.size();
  }
  const detail::BlockNotes* notes() const noexcept { return notes_; }

  /// How many bytes were written.
  std::size_t size() const noexcept { return bytes_.size(); }
  /// What was written, until more is.
  std::span<const std::byte> view() const noexcept { return bytes_.view(); }

  // internal: the buffer itself, for headers in front and lengths that are known later
  detail::Bytes& bytes() noexcept { return bytes_; }
  detail::Bytes take() && noexcept { return std::move(bytes_); }

  // internal: the writer of a call, whose task holds on to what take_kept() returns (null: nothing)
  static Writer of_call() {
    Writer writer;
    writer.is_call_ = true;
    return writer;
  }
  std::shared_ptr<const void> take_kept() {
    if (kept_.empty() && call_attached_.empty()) return nullptr;
    return std::make_shared<const detail::KeptByCall>(detail::KeptByCall{std::move(kept_), std::move(call_attached_)});
  }

 private:
  detail::Bytes bytes_;
  std::vector<std::shared_ptr<const void>> kept_;
  std::vector<detail::Fd> call_attached_;
  std::vector<detail::Fd>* attached_ = nullptr;
  bool is_call_ = false;
  detail::BlockNotes* notes_ = nullptr;
  std::size_t notes_from_ = 0;
  int depth_ = 0;
};

}  // namespace brood
