// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <utility>

namespace brood::inline v0_1::detail {

/// A growing array of bytes. Unlike std::vector it neither zeroes what it is about to receive nor copies large blocks
/// to grow: realloc(3) moves their pages.
class Bytes {
 public:
  Bytes() noexcept = default;
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  Bytes(Bytes&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Bytes& operator=(Bytes&& other) noexcept {
    Bytes taken(std::move(other));
    taken.swap(*this);
    return *this;
  }
  ~Bytes() { std::free(data_); }

  void swap(Bytes& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  std::span<const std::byte> view() const noexcept { return {data_, size_}; }

  /// Makes room for `count` bytes in all, without changing the size. Throws std::bad_alloc.
  void reserve(std::size_t count) {
    if (count <= capacity_) return;
    void* grown = std::realloc(data_, count);
    if (grown == nullptr) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(grown);
    capacity_ = count;
  }

  /// `count` more bytes at the end, with no particular value. Returns the first. Amortized constant per byte.
  std::byte* extend(std::size_t count) {
    if (count > capacity_ - size_) {
      if (count > max_size - size_) throw std::bad_alloc();
      const std::size_t needed = size_ + count;
      const std::size_t doubled = capacity_ < max_size / 2 ? capacity_ * 2 : needed;
      reserve(needed > doubled ? needed : (doubled < 64 ? 64 : doubled));
    }
    std::byte* first = data_ + size_;
    size_ += count;
    return first;
  }

  void append(const void* source, std::size_t count) {
    if (count != 0) std::memcpy(extend(count), source, count);
  }

  /// Drops what is behind the first `count` bytes. Precondition: count <= size().
  void truncate(std::size_t count) noexcept { size_ = count; }

 private:
  static constexpr std::size_t max_size = static_cast<std::size_t>(-1) / 2;

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace brood::detail
