// SPDX-License-Identifier: MIT
// internal
// A result whose elements go to memory that the caller has: in the place of its type stands Elements<R>, and on the wire are a
// count and the bytes of the elements, whatever R is. The worker knows for how many there is room, and sends no more.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <brood/core/errors.hpp>
#include <brood/wire/containers.hpp>
#include <brood/wire/serializer.hpp>

namespace brood::inline v0_1::detail {

template <class R>
struct Elements {};

/// The type of the elements of R, where R owns them and they lie side by side; else void.
template <class R>
struct ElementOf {
  using type = void;
};
template <class T, class Allocator>
struct ElementOf<std::vector<T, Allocator>> {
  using type = T;
};
template <class Allocator>
struct ElementOf<std::vector<bool, Allocator>> {
  using type = void;
};
template <class T, std::size_t N>
struct ElementOf<std::array<T, N>> {
  using type = std::remove_const_t<T>;
};
template <class C, class Traits, class Allocator>
struct ElementOf<std::basic_string<C, Traits, Allocator>> {
  using type = C;
};

/// The result has more elements than there is room for. Nothing of it was sent.
class NoRoom : public MessageTooLarge {
 public:
  NoRoom(std::uint64_t count, std::uint64_t room, std::size_t element)
      : MessageTooLarge("its result has " + text(count, element) + ", and the destination of submit_into has room for " +
                        text(room, element) + "; make it larger or return less") {}

 private:
  static std::string text(std::uint64_t count, std::size_t element) {
    return std::to_string(count) + " elements (" + std::to_string(count * element) + " bytes)";
  }
};

template <class R>
void write_for_room(Writer& out, const R& value, std::uint64_t room) {
  using T = typename ElementOf<R>::type;
  if (value.size() > room) throw NoRoom(value.size(), room, sizeof(T));
  out.count(value.size());
  if constexpr (requires { typename R::allocator_type; }) {
    write_contiguous(out, value);
  } else {
    out.bulk(value.data(), value.size() * sizeof(T));
  }
}

}  // namespace brood::detail
