// SPDX-License-Identifier: MIT
// internal
// Where the caller wants the elements of a result: in memory of its own (Pool::submit_into). The driver puts them there before
// it resolves the task, and what remains of the result is their number. Whatever resolves the task earlier aborts its Pull
// first, so nobody writes there afterwards.
//
// A result that came through the pipe is copied under the dispatcher's lock, for the task could be resolved otherwise meanwhile.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include <brood/core/bytes.hpp>
#include <brood/core/errors.hpp>
#include <brood/pool/assembly.hpp>

namespace brood::inline v0_1::detail {

struct Landing {
  std::byte* first = nullptr;
  std::uint64_t room = 0;   ///< elements
  std::size_t element = 1;  ///< bytes of one

  /// The number of elements, which is in front of so many bytes. The worker knows how many there is room for: one that sends
  /// others has been overwritten. Throws ProtocolError.
  std::uint64_t count(std::span<const std::byte> own, std::uint64_t bytes) const {
    std::uint64_t count = 0;
    if (own.size() >= sizeof count) std::memcpy(&count, own.data(), sizeof count);
    if (own.size() < sizeof count || bytes % element != 0 || bytes / element != count || count > room) {
      throw ProtocolError("elements for the destination of submit_into of another size than it says");
    }
    return count;
  }

  /// A result that came whole. Returns what is left of it. Throws ProtocolError.
  Bytes land(std::span<const std::byte> result) const {
    constexpr std::size_t front = sizeof(std::uint64_t);
    count(result, result.size() - std::min(result.size(), front));
    if (result.size() != front) std::memcpy(first, result.data() + front, result.size() - front);
    Bytes left;
    left.append(result.data(), front);
    return left;
  }
};

/// A large result is read to where it belongs.
class LandingAssembly final : public Assembly {
 public:
  explicit LandingAssembly(std::byte* first) noexcept : next_(first) {}

  void begin(std::size_t /*size*/) override {}
  std::span<std::byte> room(std::span<std::byte> /*stage*/, std::size_t rest) override {
    constexpr std::size_t step = std::size_t{256} << 10;
    return {next_, std::min(rest, step)};
  }
  void commit(std::span<const std::byte> bytes) override { next_ += bytes.size(); }

 private:
  std::byte* next_;
};

/// Throws ProtocolError when the message is not what it should be.
inline Assembled assemble_landing(const Landing& landing, const LargeMessage& message) {
  constexpr std::size_t front = sizeof(std::uint64_t);
  if (message.blocks.size() != 1 || message.own.size() != front || message.blocks[0].offset != front) {
    throw ProtocolError("elements for the destination of submit_into that lie in several places");
  }
  landing.count(message.own.view(), message.blocks[0].size);
  return {std::unique_ptr<Assembly>(new LandingAssembly(landing.first)), nullptr};
}

}  // namespace brood::detail
