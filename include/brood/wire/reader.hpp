// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include <brood/core/errors.hpp>
#include <brood/wire/blocks.hpp>
#include <brood/wire/descriptors.hpp>

namespace brood::inline v0_1 {

/// Where a Serializer<T> reads its value from. The bytes are a stranger's: every read is checked against what remains,
/// and a violation throws SerializationError. Borrows the bytes.
/// \snippet own_types.cpp Serializer
class Reader {
 public:
  /// Values may be nested this deep (a list of lists of lists ...).
  static constexpr int max_depth = 128;

  /// Reads these bytes, which must live as long as it, and what raw() and text() have returned.
  explicit Reader(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  // internal: a message some of whose bytes lie elsewhere: in this process, or where `source` gets them from
  Reader(std::span<const std::byte> bytes, std::span<const detail::Block> blocks, detail::BlockSource* source = nullptr) noexcept
      : bytes_(bytes), blocks_(blocks), source_(source), end_(bytes.size()), elsewhere_(detail::total_size(blocks)) {}

  /// How many bytes were not read yet.
  std::size_t remaining() const noexcept { return bytes_.size() + static_cast<std::size_t>(elsewhere_); }

  // internal: the bytes are a call's. What the process that called names may be opened; what a worker names may not.
  static Reader of_call(std::span<const std::byte> bytes, std::span<const detail::Block> blocks = {},
                        detail::BlockSource* source = nullptr) noexcept {
    Reader reader(bytes, blocks, source);
    reader.is_call_ = true;
    return reader;
  }
  bool is_call() const noexcept { return is_call_; }

  // internal: where descriptors of the message come from
  Reader& with(detail::DescriptorSource* descriptors) noexcept {
    descriptors_ = descriptors;
    return *this;
  }
  detail::DescriptorSource* descriptors() const noexcept { return descriptors_; }
  detail::Fd descriptor(std::uint32_t number) {
    if (descriptors_ == nullptr) fail(detail::why_no_descriptor);
    return descriptors_->take(number);
  }

  /// One number or enum. A bool is checked. An enum holds any value of its underlying type; an unscoped one that names
  /// no such type has no range that could be asked for, and is taken as it comes.
  template <class T>
    requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  T number() {
    if constexpr (std::is_same_v<T, bool>) {
      const auto byte = number<std::uint8_t>();
      if (byte > 1) fail("a bool holds " + std::to_string(byte));
      return byte == 1;
    } else if constexpr (is_bool<T>) {
      return static_cast<T>(number<bool>());
    } else {
      T value;
      std::memcpy(&value, raw(sizeof(T)).data(), sizeof(T));
      return value;
    }
  }

  /// A count of elements that take at least `bytes_each` bytes each (0: an element may take no byte): refused when
  /// they can't be there, so that nobody reserves memory for them.
  std::size_t count(std::size_t bytes_each = 1) {
    const auto value = number<std::uint64_t>();
    const std::size_t limit = bytes_each == 0 ? max_empty_elements : remaining() / bytes_each;
    if (value > limit) fail("a count of " + std::to_string(value) + " elements, more than the message can hold");
    return static_cast<std::size_t>(value);
  }

  /// The next `size` bytes, borrowed from the message.
  std::span<const std::byte> raw(std::size_t size) {
    if (!blocks_.empty() && size > before_block()) return whole_block(size);
    if (size > bytes_.size()) {
      fail(std::to_string(size) + " bytes wanted, " + std::to_string(remaining()) + " left");
    }
    const auto front = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return front;
  }

  /// A count, then that many bytes, borrowed from the message.
  std::string_view text() {
    const auto bytes = raw(count());
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  // internal: whether the next `size` bytes are a block of another process; then fetch() reads parts of them, and
  // pass_block() goes on behind it
  bool at_foreign_block(std::size_t size) const noexcept {
    return source_ != nullptr && !blocks_.empty() && before_block() == 0 && blocks_.front().size == size && size != 0;
  }
  void fetch(std::uint64_t from, std::span<std::byte> target) { source_->read(blocks_.front().address + from, target); }
  void pass_block() noexcept {
    elsewhere_ -= blocks_.front().size;
    blocks_ = blocks_.subspan(1);
  }

  /// A value of any serializable type. Throws SerializationError if the bytes are not one. Complexity: linear in the
  /// bytes; the memory it takes is bounded by a multiple of them that depends on T only.
  template <class T>
  T value();

  /// Throws SerializationError unless everything has been read.
  void finish() const {
    if (remaining() != 0) fail(std::to_string(remaining()) + " bytes too many");
  }

  /// Throws SerializationError.
  [[noreturn]] static void fail(const std::string& what) {
    throw SerializationError("bytes can't be decoded: " + what);
  }

  /// One level of nesting, for as long as it lives.
  class Nested {
   public:
    /// One level deeper. Throws SerializationError beyond max_depth.
    explicit Nested(Reader& reader) : reader_(reader) {
      if (reader.depth_ == max_depth) fail("values nested more than " + std::to_string(max_depth) + " deep");
      ++reader.depth_;
    }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    /// One level up.
    ~Nested() { --reader_.depth_; }

   private:
    Reader& reader_;
  };

 private:
  /// bool, or an enum in place of one.
  template <class T>
  static constexpr bool is_bool = [] {
    if constexpr (std::is_enum_v<T>)
      return std::is_same_v<std::underlying_type_t<T>, bool>;
    else
      return std::is_same_v<T, bool>;
  }();

  /// How many bytes of the message are in front of the next block.
  std::size_t before_block() const noexcept {
    return static_cast<std::size_t>(blocks_.front().offset) - (end_ - bytes_.size());
  }

  /// Reads can't go past the border of a block.
  std::span<const std::byte> whole_block(std::size_t size) {
    if (before_block() != 0 || blocks_.front().size != size || source_ != nullptr) {
      fail(std::to_string(size) + " bytes wanted, where others begin that lie elsewhere");
    }
    const auto whole = blocks_.front().view();
    pass_block();
    return whole;
  }

  static constexpr std::size_t max_empty_elements = std::size_t{1} << 20;

  std::span<const std::byte> bytes_;
  std::span<const detail::Block> blocks_;  ///< those that are not read yet
  detail::BlockSource* source_ = nullptr;
  detail::DescriptorSource* descriptors_ = nullptr;
  std::size_t end_ = 0;
  std::uint64_t elsewhere_ = 0;  ///< bytes in blocks_
  int depth_ = 0;
  bool is_call_ = false;
};

}  // namespace brood
