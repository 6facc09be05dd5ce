// SPDX-License-Identifier: MIT
// internal
// Where the large parts of a result are put together, piece by piece, while they are read from the worker's memory. That is
// done without the dispatcher's lock, and no code of the user runs.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/core/bytes.hpp>
#include <brood/wire/blocks.hpp>
#include <brood/wire/codec.hpp>
#include <brood/wire/containers.hpp>

namespace brood::inline v0_1::detail {

/// The message of a result, whose blocks are here now.
struct LargeMessage {
  Bytes own;
  std::vector<Block> blocks;  ///< in `parts`
  std::vector<Bytes> parts;
};

class Assembly {
 public:
  Assembly() = default;
  Assembly(const Assembly&) = delete;
  Assembly& operator=(const Assembly&) = delete;
  virtual ~Assembly() = default;

  /// The next block. Throws std::bad_alloc.
  virtual void begin(std::size_t size) = 0;
  /// Where the next bytes of the block may be read to: not more than `rest`; `stage` where there is no better place.
  virtual std::span<std::byte> room(std::span<std::byte> stage, std::size_t rest) = 0;
  /// All that room() has offered was read.
  virtual void commit(std::span<const std::byte> bytes) = 0;
};

/// Parts of a value of any type: decoded when somebody asks for the value.
class PartsAssembly final : public Assembly {
 public:
  explicit PartsAssembly(LargeMessage& message) : message_(message) { message_.parts.reserve(message_.blocks.size()); }

  void begin(std::size_t size) override {
    Block& block = message_.blocks[message_.parts.size()];
    message_.parts.emplace_back().reserve(size);
    prefer_huge_pages(message_.parts.back().data(), size);
    block.address = reinterpret_cast<std::uintptr_t>(message_.parts.back().data());
  }
  std::span<std::byte> room(std::span<std::byte> /*stage*/, std::size_t rest) override {
    constexpr std::size_t step = std::size_t{256} << 10;
    Bytes& part = message_.parts.back();
    return {part.data() + part.size(), std::min(rest, step)};
  }
  void commit(std::span<const std::byte> bytes) override { message_.parts.back().extend(bytes.size()); }

 private:
  LargeMessage& message_;
};

/// A std::vector or std::basic_string of plain elements: it is the value itself.
template <class Container>
class ContiguousAssembly final : public Assembly {
  using T = typename Container::value_type;

 public:
  explicit ContiguousAssembly(std::shared_ptr<Container> value) : value_(std::move(value)) {}

  void begin(std::size_t size) override { make_room(*value_, size / sizeof(T)); }
  std::span<std::byte> room(std::span<std::byte> stage, std::size_t rest) override {
    return stage.first(std::min(stage.size(), rest));
  }
  void commit(std::span<const std::byte> bytes) override {
    const T* const first = reinterpret_cast<const T*>(bytes.data());  // stages are aligned
    value_->insert(value_->end(), first, first + bytes.size() / sizeof(T));
  }

 private:
  std::shared_ptr<Container> value_;
};

/// How a result of one type is put together, where that can be done without its user's code. `value` becomes what
/// Future::get returns. Null when the message is not what a value of that type is.
struct Assembled {
  std::unique_ptr<Assembly> assembly;
  std::shared_ptr<void> value;
};
using Assemble = Assembled (*)(const LargeMessage& message);

template <class R>
inline constexpr bool is_plain_contiguous = false;
template <class T>
inline constexpr bool is_plain_contiguous<std::vector<T, std::allocator<T>>> = std::is_arithmetic_v<T> && bulk<T>();
template <class T>
inline constexpr bool is_plain_contiguous<std::basic_string<T, std::char_traits<T>, std::allocator<T>>> =
    std::is_arithmetic_v<T> && bulk<T>();

template <class Container>
Assembled assemble_contiguous(const LargeMessage& message) {
  using T = typename Container::value_type;
  std::uint64_t count = 0;
  if (message.own.size() != sizeof count || message.blocks.size() != 1 || message.blocks[0].offset != sizeof count) return {};
  std::memcpy(&count, message.own.data(), sizeof count);
  if (message.blocks[0].size % sizeof(T) != 0 || message.blocks[0].size / sizeof(T) != count) return {};
  auto value = std::make_shared<Container>();
  return {std::unique_ptr<Assembly>(new ContiguousAssembly<Container>(value)), value};
}

/// For a Task whose result is of type R; null where there is no such way.
template <class R>
constexpr Assemble assemble_of() {
  if constexpr (is_plain_contiguous<R>) {
    return &assemble_contiguous<R>;
  } else {
    return nullptr;
  }
}

}  // namespace brood::detail
