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

namespace brood {

/// Where a Serializer<T> reads its value from. The bytes are a stranger's: every read is checked against what remains,
/// and a violation throws SerializationError. Borrows the bytes.
class Reader {
 public:
  /// Values may be nested this deep (a list of lists of lists ...).
  static constexpr int max_depth = 128;

  explicit Reader(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  std::size_t remaining() const noexcept { return bytes_.size(); }

  // internal: the bytes are a call's. What the process that called names may be opened; what a worker names may not.
  static Reader of_call(std::span<const std::byte> bytes) noexcept {
    Reader reader(bytes);
    reader.is_call_ = true;
    return reader;
  }
  bool is_call() const noexcept { return is_call_; }

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
    if (size > remaining()) {
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
    explicit Nested(Reader& reader) : reader_(reader) {
      if (reader.depth_ == max_depth) fail("values nested more than " + std::to_string(max_depth) + " deep");
      ++reader.depth_;
    }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
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

  static constexpr std::size_t max_empty_elements = std::size_t{1} << 20;

  std::span<const std::byte> bytes_;
  int depth_ = 0;
  bool is_call_ = false;
};

}  // namespace brood
