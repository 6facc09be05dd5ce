// SPDX-License-Identifier: MIT
// What the fuzz targets share.
#pragma once

#include <fcntl.h>
#include <sanitizer/allocator_interface.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

namespace fuzz {

/// A promise was broken: the input is a finding.
[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "fuzz: broken promise: %s\n", what.c_str());
  std::abort();
}

inline void require(bool holds, const char* what) {
  if (!holds) fail(what);
}

/// Says what an input does, with BROOD_FUZZ_TELL in the environment: for reading a finding.
inline void tell(const char* what, std::uint64_t number = 0, std::uint64_t more = 0) {
  static const bool wanted = std::getenv("BROOD_FUZZ_TELL") != nullptr;
  if (wanted) std::fprintf(stderr, "fuzz: %s %llu %llu\n", what, 0ULL + number, 0ULL + more);
}

/// The bytes of one input, taken from the front. An input that is used up gives zeroes.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) noexcept : bytes_(reinterpret_cast<const std::byte*>(data), size) {}

  bool empty() const noexcept { return bytes_.empty(); }
  std::size_t size() const noexcept { return bytes_.size(); }

  template <class T>
    requires std::is_integral_v<T>
  T take() noexcept {
    T value{};
    const auto from = bytes(sizeof value);
    if (!from.empty()) std::memcpy(&value, from.data(), from.size());
    return value;
  }
  std::uint8_t byte() noexcept { return take<std::uint8_t>(); }
  bool flag() noexcept { return (byte() & 1) != 0; }
  /// A number below `bound`, which is at most 256.
  std::size_t below(std::size_t bound) noexcept { return bound == 0 ? 0 : byte() % bound; }
  /// One of a few values.
  template <class T, std::size_t N>
  T choose(const T (&values)[N]) noexcept {
    return values[below(N)];
  }
  /// At most `count` bytes.
  std::span<const std::byte> bytes(std::size_t count) noexcept {
    const auto front = bytes_.first(std::min(count, bytes_.size()));
    bytes_ = bytes_.subspan(front.size());
    return front;
  }
  std::span<const std::byte> rest() noexcept { return bytes(bytes_.size()); }

 private:
  std::span<const std::byte> bytes_;
};

namespace heap {

inline std::size_t live = 0;
inline std::size_t peak = 0;
inline bool watched = false;

inline void allocated(const volatile void*, std::size_t size) {
  if (!watched) return;
  live += size;
  peak = std::max(peak, live);
}
inline void freed(const volatile void* block) {
  if (!watched || block == nullptr) return;
  const std::size_t size = __sanitizer_get_allocated_size(block);
  live -= std::min(live, size);
}
inline const bool installed = __sanitizer_install_malloc_and_free_hooks(&allocated, &freed) != 0;

}  // namespace heap

/// How much memory was asked for, at most at the same time, since this was made. One at a time.
class HeapWatch {
 public:
  HeapWatch() {
    require(heap::installed, "the sanitizer's allocator takes no hooks");
    heap::live = heap::peak = 0;
    heap::watched = true;
  }
  HeapWatch(const HeapWatch&) = delete;
  HeapWatch& operator=(const HeapWatch&) = delete;
  ~HeapWatch() { heap::watched = false; }

  std::size_t peak() const noexcept { return heap::peak; }
  void require_at_most(std::size_t bound, const std::string& who) const {
    heap::watched = false;
    if (heap::peak > bound) {
      fail(who + " had " + std::to_string(heap::peak) + " bytes of memory, more than " + std::to_string(bound));
    }
  }
};

/// No descriptor may be left behind: the lowest free number is the same before and after.
class DescriptorWatch {
 public:
  DescriptorWatch() noexcept : lowest_(lowest_free()) {}
  DescriptorWatch(const DescriptorWatch&) = delete;
  DescriptorWatch& operator=(const DescriptorWatch&) = delete;
  ~DescriptorWatch() { require(lowest_free() == lowest_, "a descriptor was left open"); }

 private:
  static int lowest_free() noexcept {
    const int fd = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    ::close(fd);
    return fd;
  }
  int lowest_;
};

}  // namespace fuzz

/// Speed: what costs most and finds least here. The environment's ASAN_OPTIONS come after it.
extern "C" const char* __asan_default_options() {
  return "detect_stack_use_after_return=0:malloc_context_size=8:quarantine_size_mb=8:thread_local_quarantine_size_kb=256";
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
