// SPDX-License-Identifier: MIT
// Helpers of the serialization tests: out and back, cut off anywhere, and with any byte changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <brood/core/errors.hpp>
#include <brood/wire/serializer.hpp>

namespace wire_test {

using Image = std::vector<std::byte>;

template <class T>
Image encode(const T& value) {
  brood::Writer writer;
  writer.value(value);
  return Image(writer.view().begin(), writer.view().end());
}

/// Reads a T that must take all bytes.
template <class T>
T decode(std::span<const std::byte> bytes) {
  brood::Reader reader(bytes);
  T value = reader.value<T>();
  reader.finish();
  return value;
}

/// The bytes end where the memory ends, so that a sanitizer sees a read behind them.
template <class T>
T decode_exactly(std::span<const std::byte> bytes) {
  const Image copy(bytes.begin(), bytes.end());
  return decode<T>(copy);
}

/// Every proper prefix is refused, and no changed byte does more than give another value or a refusal.
template <class T>
void check_hostile(const Image& image) {
  for (std::size_t size = 0; size < image.size(); ++size) {
    CHECK_THROWS_AS(static_cast<void>(decode_exactly<T>(std::span(image).first(size))), brood::SerializationError);
  }
  for (std::size_t i = 0; i < image.size(); ++i) {
    for (unsigned change : {0x01u, 0x80u, 0xffu}) {
      Image changed = image;
      changed[i] ^= static_cast<std::byte>(change);
      try {
        static_cast<void>(decode_exactly<T>(changed));
      } catch (const brood::SerializationError&) {
      }
    }
  }
}

/// Out and back, from memory of any alignment, and hostile.
template <class T>
void check_round_trip(const T& value) {
  const Image image = encode(value);
  CHECK(decode_exactly<T>(image) == value);
  for (std::size_t shift = 1; shift < 8; ++shift) {
    Image shifted(shift);
    shifted.insert(shifted.end(), image.begin(), image.end());
    CHECK(decode<T>(std::span<const std::byte>(shifted).subspan(shift)) == value);
  }
  check_hostile<T>(image);
}

/// Bytes of the machine's representation, one number after the other.
template <class... Numbers>
Image bytes(Numbers... numbers) {
  brood::Writer writer;
  (writer.number(numbers), ...);
  return Image(writer.view().begin(), writer.view().end());
}

/// Remembers the largest block that anybody asked for.
struct Largest {
  static inline std::size_t block = 0;
};
template <class T>
struct Watched {
  using value_type = T;
  Watched() = default;
  template <class U>
  Watched(const Watched<U>&) noexcept {}
  T* allocate(std::size_t count) {
    if (count * sizeof(T) > Largest::block) Largest::block = count * sizeof(T);
    return std::allocator<T>().allocate(count);
  }
  void deallocate(T* pointer, std::size_t count) noexcept { std::allocator<T>().deallocate(pointer, count); }
  friend bool operator==(const Watched&, const Watched&) { return true; }
};

/// A count of 2^20 and more, with nothing to back it up, is refused before memory is asked for.
template <class T>
void check_counts(std::size_t bytes_behind = 64) {
  for (int shift = 20; shift < 64; ++shift) {
    for (std::uint64_t more : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
      Image image = bytes((std::uint64_t{1} << shift) + more);
      image.resize(image.size() + bytes_behind);
      Largest::block = 0;
      CHECK_THROWS_AS(static_cast<void>(decode<T>(image)), brood::SerializationError);
      CHECK(Largest::block <= 64 * image.size());
    }
  }
}

}  // namespace wire_test
