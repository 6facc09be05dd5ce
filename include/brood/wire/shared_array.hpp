// SPDX-License-Identifier: MIT
// SharedArray: an array in memory that host and workers share.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/core/errors.hpp>
#include <brood/os/shared_memory.hpp>
#include <brood/wire/shareable.hpp>

namespace brood::inline v0_1 {

/// An array in memory that processes share: what is in it is never copied. As an argument of a task it costs the same
/// whatever its size; the task sees what the host has in it, and the host what the task writes. When to use: large inputs
/// that many tasks read, outputs that tasks write where they belong, state that tasks of one pool have in common.
///
/// As std::span has it, SharedArray<T> can be written to and SharedArray<const T> only read; the one converts to the other,
/// and a worker has no right to write to what is passed as the other. A copy refers to the same memory, as a
/// std::shared_ptr does, and so does a part of it (subspan, split). Nothing guards against two processes that write to an
/// element at the same time: give each task a part of its own, or use std::atomic_ref.
///
/// It may be an argument of a task (by value or const reference, within structs and containers, an item of map) and of a
/// Preload (preload_args), not a result. The host holds one descriptor for each array. A task that waits or runs holds on to
/// its arrays, so the host may drop its own. Workers open them through /proc: it must be mounted, and host and worker be
/// processes of the same user. The pages come into being as they are written to: where memory runs out, whoever writes is
/// killed. Complexity: constant whatever the size, but for the constructor from a range, which copies it, and split.
/// \snippet reference.cpp SharedArray
template <class T>
class SharedArray {
  static constexpr detail::RequireShareable<std::remove_const_t<T>> element_can_be_shared{};

 public:
  using element_type = T;
  using value_type = std::remove_const_t<T>;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using pointer = T*;
  using reference = T&;
  using iterator = T*;
  using reverse_iterator = std::reverse_iterator<iterator>;

  /// No elements, no memory.
  SharedArray() noexcept = default;

  /// `count` elements whose bytes are zero; no constructor runs. Throws SharedMemoryError. Complexity: constant.
  explicit SharedArray(std::size_t count)
    requires(!std::is_const_v<T>)
  {
    if (count == 0) return;
    const std::size_t bytes = bytes_of(count);
    own(count, [&] { return std::make_shared<detail::SharedMemory>(bytes); });
  }

  /// A copy of the data. For const T nobody can change it any more, as after freeze(). Throws SharedMemoryError.
  explicit SharedArray(std::span<const value_type> data) {
    if (data.empty()) return;
    using Access = detail::SharedMemory::Access;
    own(data.size(), [&] {
      return std::make_shared<detail::SharedMemory>(std::as_bytes(data), std::is_const_v<T> ? Access::read : Access::write);
    });
  }

  SharedArray(const SharedArray&) noexcept = default;
  SharedArray& operator=(const SharedArray&) noexcept = default;
  SharedArray(SharedArray&& other) noexcept
      : memory_(std::move(other.memory_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  SharedArray& operator=(SharedArray&& other) noexcept {
    SharedArray taken(std::move(other));
    std::swap(memory_, taken.memory_);
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    return *this;
  }
  ~SharedArray() = default;

  /// The same memory, to be read only.
  template <std::same_as<value_type> U>
    requires std::is_const_v<T>
  SharedArray(SharedArray<U> other) noexcept  // NOLINT(google-explicit-constructor): as a span converts
      : memory_(std::move(other.memory_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

  /// What can only be read does not become writable, and no other array is converted: `SharedArray<T>(other.span())` is a copy.
  template <class U>
    requires(!std::is_same_v<U, T> && !std::is_same_v<const U, T>)
  SharedArray(const SharedArray<U>&) = delete;

  /// The same memory, which nobody can change any more, in no process; data() stays what it was. Throws SharedMemoryError
  /// and changes nothing when somebody else may write to it: another SharedArray of the memory, a task that has not
  /// resolved, a process that has mapped it (a copy of the host has: the workers of a ForkPolicy pool that was made later
  /// than the array).
  /// \snippet reference.cpp freeze
  SharedArray<const value_type> freeze() && {
    if (memory_ && !memory_->frozen()) {
      const std::string what = "a SharedArray of " + std::to_string(memory_->size()) + " bytes can't be frozen: ";
      if (memory_.use_count() != 1) {
        throw SharedMemoryError(what + "other SharedArrays in this process, parts of it among them, or tasks that are not "
                                       "resolved refer to its memory; drop them, and wait for the tasks, first", 0);
      }
      try {
        memory_->freeze();
      } catch (const detail::SystemError& error) {
        if (error.code().value() == EBUSY) {
          throw SharedMemoryError(what + "another process has mapped it and can write to it: a task that keeps it, a worker that "
                                         "was just killed, or a copy of this process, as the server and the workers of a "
                                         "ForkPolicy pool are; freeze the array before such a pool is made", EBUSY);
        }
        *this = SharedArray();  // there may be nothing at its place any more
        throw SharedMemoryError(what + error.what(), error.code().value());
      }
    }
    SharedArray<const value_type> frozen;
    frozen.memory_ = std::move(memory_);
    frozen.data_ = std::exchange(data_, nullptr);
    frozen.size_ = std::exchange(size_, 0);
    return frozen;
  }

  /// Whether nobody can change it any more.
  bool frozen() const noexcept { return memory_ != nullptr && memory_->frozen(); }

  /// The first element; null when there are none.
  T* data() const noexcept { return data_; }
  /// How many elements.
  std::size_t size() const noexcept { return size_; }
  /// How many bytes they take.
  std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
  /// Whether there are none.
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  /// Precondition: index < size().
  T& operator[](std::size_t index) const noexcept { return data_[index]; }
  /// Throws std::out_of_range.
  T& at(std::size_t index) const {
    if (index >= size_) out_of_range("element " + std::to_string(index));
    return data_[index];
  }
  /// The first element. Precondition: not empty().
  T& front() const noexcept { return *data_; }
  /// The last element. Precondition: not empty().
  T& back() const noexcept { return data_[size_ - 1]; }

  /// The elements, in order.
  T* begin() const noexcept { return data_; }
  /// Behind the last element.
  T* end() const noexcept { return data_ + size_; }
  /// The elements from the last to the first.
  reverse_iterator rbegin() const noexcept { return reverse_iterator(end()); }
  /// Before the first element.
  reverse_iterator rend() const noexcept { return reverse_iterator(begin()); }
  /// All of it; refers to the memory, and does not keep it.
  std::span<T> span() const noexcept { return {data_, size_}; }

  /// `count` elements from number `offset` on (std::dynamic_extent: all behind it), in the same memory. Throws
  /// std::out_of_range.
  SharedArray subspan(std::size_t offset, std::size_t count = std::dynamic_extent) const {
    if (offset > size_ || (count != std::dynamic_extent && count > size_ - offset)) {
      out_of_range(count == std::dynamic_extent ? "offset " + std::to_string(offset)
                                                : std::to_string(count) + " elements at " + std::to_string(offset));
    }
    SharedArray part;
    part.memory_ = memory_;
    part.data_ = data_ + offset;
    part.size_ = count == std::dynamic_extent ? size_ - offset : count;
    return part;
  }

  /// All of it in at most `parts` parts, one after the other, whose sizes differ by one at most; none is empty. For map:
  /// `pool.map(&fill, array.split(64))`.
  /// \snippet reference.cpp SharedArray
  std::vector<SharedArray> split(std::size_t parts) const {
    std::vector<SharedArray> all;
    all.reserve(std::min(parts, size_));
    for (std::size_t left = std::min(parts, size_), offset = 0; left != 0; --left) {
      const std::size_t count = (size_ - offset) / left;
      all.push_back(subspan(offset, count));
      offset += count;
    }
    return all;
  }

 private:
  template <class U>
  friend class SharedArray;
  friend struct Serializer<SharedArray>;

  static constexpr detail::SharedMemory::Access access =
      std::is_const_v<T> ? detail::SharedMemory::Access::read : detail::SharedMemory::Access::write;

  static std::size_t bytes_of(std::size_t count) {
    constexpr std::size_t most = static_cast<std::size_t>(PTRDIFF_MAX) / sizeof(T);
    if (count > most) {
      throw SharedMemoryError("a SharedArray of " + std::to_string(count) + " elements of " + std::to_string(sizeof(T)) +
                              " bytes can't be made: no process has so much memory", 0);
    }
    return count * sizeof(T);
  }

  template <class Make>
  void own(std::size_t count, Make make) {
    try {
      memory_ = make();
    } catch (const detail::SystemError& error) {
      throw SharedMemoryError("a SharedArray of " + std::to_string(count * sizeof(T)) + " bytes can't be made: " + error.what() +
                              "; it takes a descriptor (ulimit -n), address space (ulimit -v) and, once it is written to, memory",
                              error.code().value());
    }
    data_ = reinterpret_cast<T*>(memory_->data());
    size_ = count;
  }

  [[noreturn]] void out_of_range(const std::string& what) const {
    throw std::out_of_range("SharedArray: " + what + ", of " + std::to_string(size_) + " elements");
  }

  std::shared_ptr<detail::SharedMemory> memory_;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

template <std::ranges::contiguous_range Range>
SharedArray(const Range&) -> SharedArray<std::ranges::range_value_t<Range>>;
template <class T>
SharedArray(const SharedArray<T>&) -> SharedArray<T>;

/// How many elements; if there are any, where the memory is to be had, and where in it they are.
template <class T>
struct Serializer<SharedArray<T>> {
  static void write(Writer& writer, const SharedArray<T>& array) {
    writer.count(array.size_);
    if (array.size_ == 0) return;
    if (!writer.keep(array.memory_)) {
      Writer::fail("a SharedArray can be an argument of a task, but not (part of) its result, nor be written to a buffer that a "
                   "Serializer made: nobody would hold on to its memory. Make it in the host, pass it to the task, and let "
                   "the task write into it");
    }
    const detail::MemoryAddress& address = array.memory_->address();
    writer.number(address.process);
    writer.number(address.descriptor);
    writer.number(address.device);
    writer.number(address.inode);
    writer.number(address.bytes);
    writer.number(address.seals);
    const auto* const base = reinterpret_cast<const T*>(array.memory_->data());
    writer.count(static_cast<std::size_t>(array.data_ - base));
  }

  static SharedArray<T> read(Reader& reader) {
    SharedArray<T> array;
    const auto count = reader.number<std::uint64_t>();
    if (count == 0) return array;
    detail::MemoryAddress address;
    address.process = reader.number<pid_t>();
    address.descriptor = reader.number<int>();
    address.device = reader.number<std::uint64_t>();
    address.inode = reader.number<std::uint64_t>();
    address.bytes = reader.number<std::uint64_t>();
    address.seals = reader.number<int>();
    const auto offset = reader.number<std::uint64_t>();
    if (!reader.is_call()) Reader::fail("a SharedArray comes from a worker, or from a buffer that a Serializer made");
    const std::uint64_t room = address.bytes / sizeof(T);
    if (offset > room || count > room - offset) Reader::fail("a SharedArray reaches beyond its memory");
    try {
      array.memory_ = detail::SharedMemory::at(address, SharedArray<T>::access);
    } catch (const detail::SystemError& error) {
      const std::string whose = std::to_string(address.bytes) + " bytes of process " + std::to_string(address.process);
      if (error.code().value() == ESTALE) {
        Reader::fail("the SharedArray (" + whose + ") is not there any more: a task had kept it, or made it in a copy of that "
                     "process, or somebody closed its descriptor");
      }
      Reader::fail("the SharedArray (" + whose + ") can't be reached: " + error.what() +
                   "; a worker opens it as /proc/<pid>/fd/<number>, so /proc must be mounted, and that process have the user and "
                   "no more capabilities than the worker, and be dumpable (PR_SET_DUMPABLE). Else send a std::vector");
    }
    array.data_ = reinterpret_cast<T*>(array.memory_->data()) + offset;
    array.size_ = count;
    return array;
  }
};

template <class T>
inline constexpr bool detail::argument_only<SharedArray<T>> = true;

}  // namespace brood
