// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include <brood/core/type_name.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/refusal.hpp>
#include <brood/wire/writer.hpp>

// What a type of the standard library looks like on the wire is said by specialisations of BuiltIn (built_in.hpp,
// containers.hpp). Which way a type takes, and whether it can be sent at all, is said in verdict.hpp.

namespace brood::inline v0_1::detail {

/// The ways to the wire, in the order in which they are tried.
enum class Way { serializer, archive, built_in, bitwise, aggregate, stateless, none };

/// The way that T takes. It says nothing of what T is made of.
template <class T>
consteval Way way_of();

/// Whether T and all that it is made of have a way.
template <class T>
consteval bool can_be_sent();

/// How a standard type travels. A specialisation has
///   using Parts = Types<...>;                     what it is made of, to be judged in turn
///   static constexpr std::size_t min_size();      no value takes fewer bytes
///   static void write(Writer&, const T&);
///   static T read(Reader&);
/// and may have
///   static constexpr bool bulk();                 its bytes in memory are its bytes on the wire
///   static constexpr Reason reason;               why it is refused whatever its parts are
template <class T>
struct BuiltIn;

template <class T>
concept HasBuiltIn = requires { typename BuiltIn<T>::Parts; };

/// A part that is not sent but made by default where the container arrives: a comparator, a hasher, an allocator.
template <class T>
struct MadeByDefault {};

/// A part that is held by a pointer: it must not be a base.
template <class T>
struct Pointee {};

template <class T>
inline constexpr bool is_special = false;
template <class T>
inline constexpr bool is_special<MadeByDefault<T>> = true;
template <class T>
inline constexpr bool is_special<Pointee<T>> = true;

/// The fewest bytes that a T takes on the wire. Complexity: constant; a recursive type ends at its container.
template <class T>
consteval std::size_t min_size();

template <class... Ts>
consteval std::size_t sum_of_sizes() {
  return (std::size_t{0} + ... + min_size<std::remove_cv_t<Ts>>());
}

/// Whether a T's bytes in memory are its bytes on the wire, so that many can be copied at once.
template <class T>
consteval bool bulk();

/// Whether T belongs to the standard library. For the few types whose headers are too slow to include here: they are
/// told by their shape and by this.
template <class T>
inline constexpr bool in_std = type_name<T>().starts_with("std::");

/// A member of a struct, which may be a C array.
template <class M>
void write_member(Writer& writer, const M& member);
template <class M>
void read_member(Reader& reader, M& member);

/// An element that may take no byte has one in front of it, so that a count can't exceed the bytes that remain.
template <class T>
inline constexpr bool padded = min_size<T>() == 0;

template <class T>
void write_element(Writer& writer, const T& value) {
  if constexpr (padded<T>) writer.number(std::uint8_t{0});
  writer.value<T>(value);
}

template <class T>
T read_element(Reader& reader) {
  if constexpr (padded<T>) reader.number<std::uint8_t>();
  return reader.value<T>();
}

/// The count of elements that follow.
template <class T>
std::size_t read_count(Reader& reader) {
  return reader.count(padded<T> ? 1 : min_size<T>());
}

/// `size` bytes into `target`.
inline void read_bytes(Reader& reader, void* target, std::size_t size) {
  if (size != 0) std::memcpy(target, reader.raw(size).data(), size);
}

/// One T of which bulk<T>() is true, default-constructible or not.
template <class T>
T read_bulk(Reader& reader) {
  if constexpr (std::is_trivially_default_constructible_v<T>) {
    T value;
    read_bytes(reader, &value, sizeof(T));
    return value;
  } else {
    struct Image {
      alignas(T) std::byte bytes[sizeof(T)];
    } image;
    read_bytes(reader, image.bytes, sizeof(T));
    return __builtin_bit_cast(T, image);
  }
}

}  // namespace brood::detail
