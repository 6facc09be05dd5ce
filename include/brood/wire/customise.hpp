// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <type_traits>

#include <brood/wire/reader.hpp>
#include <brood/wire/writer.hpp>

namespace brood::inline v0_1 {

/// How values of T become bytes and values again. Specialise it for a type that is not known by itself:
/// \snippet own_types.cpp Serializer
/// `read` must take exactly what `write` wrote. It reads a stranger's bytes: what Reader hands out is checked, anything
/// else that the type demands is its own business, and `brood::Reader::fail("why")` refuses the message. Not
/// specialised, it hands over to Writer::value and Reader::value, so a partial specialisation can build upon it.
template <class T>
struct Serializer {
  using Unspecialised = T;

  static void write(Writer& writer, const T& value) { writer.value(value); }
  static auto read(Reader& reader) { return reader.template value<T>(); }
};

/// `template <> inline constexpr bool brood::bitwise<Vec3> = true;` says that the bytes of a Vec3 are its value: no
/// pointer, no handle, nothing that another process could not use. It must be trivially copyable; vectors of it are
/// copied at once. A gap between members is refused where it can be seen (in a struct with public members); in a class
/// with private ones it is not visible, and what happens to lie in it would travel too: leave none. A bool or an enum
/// inside is not checked on arrival.
/// \snippet own_types.cpp bitwise
template <class T>
inline constexpr bool bitwise = false;

namespace detail {

/// Whether a T can be an argument of a task but not its result.
template <class T>
inline constexpr bool argument_only = false;

/// Whether a T owns what it is made from: no argument of another type may become one unsaid.
template <class T>
inline constexpr bool takes_over = false;

/// Whether an argument of type T travels in a message also where a closure's arguments are inherited.
template <class T>
inline constexpr bool always_travels = false;

// T itself is compared, since a specialisation may derive from the Serializer of another type
template <class T>
concept HasSerializer = !requires { requires std::same_as<typename Serializer<T>::Unspecialised, T>; };

template <class T>
concept ValidSerializer = requires(Writer& writer, Reader& reader, const T& value) {
  Serializer<T>::write(writer, value);
  { Serializer<T>::read(reader) } -> std::same_as<T>;
};

}  // namespace detail
}  // namespace brood
