// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <ios>
#include <string>
#include <system_error>
#include <type_traits>

#include <brood/wire/codec.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/refusal.hpp>
#include <brood/wire/writer.hpp>

// Other types of the standard library. std::complex, bitset and filesystem::path are told by name and shape: to include
// their headers would cost every user of these more than the rest of them.

namespace brood::inline v0_1::detail {

template <class Rep, class Period>
struct BuiltIn<std::chrono::duration<Rep, Period>> {
  using Duration = std::chrono::duration<Rep, Period>;
  using Parts = Types<Rep>;
  static constexpr std::size_t min_size() { return detail::min_size<Rep>(); }
  static constexpr bool bulk() { return detail::bulk<Rep>() && sizeof(Duration) == sizeof(Rep); }
  static void write(Writer& writer, const Duration& value) { writer.value<Rep>(value.count()); }
  static Duration read(Reader& reader) { return Duration(reader.value<Rep>()); }
};

template <class Clock, class Duration>
struct BuiltIn<std::chrono::time_point<Clock, Duration>> {
  using TimePoint = std::chrono::time_point<Clock, Duration>;
  using Parts = Types<Duration>;
  static constexpr std::size_t min_size() { return detail::min_size<Duration>(); }
  static constexpr bool bulk() { return detail::bulk<Duration>() && sizeof(TimePoint) == sizeof(Duration); }
  static void write(Writer& writer, const TimePoint& value) { writer.value<Duration>(value.time_since_epoch()); }
  static TimePoint read(Reader& reader) { return TimePoint(reader.value<Duration>()); }
};

// the shape first: names grow long, and the compiler would have to read those of all types
template <class T>
concept Complex = requires(const T& value) {
  typename T::value_type;
  value.real();
  value.imag();
} && type_name<T>().starts_with("std::complex<");

template <Complex T>
struct BuiltIn<T> {
  using Part = typename T::value_type;
  using Parts = Types<Part>;
  static constexpr std::size_t min_size() { return 2 * detail::min_size<Part>(); }
  static constexpr bool bulk() {
    return detail::bulk<Part>() && std::is_trivially_copyable_v<T> && sizeof(T) == 2 * sizeof(Part);
  }
  static void write(Writer& writer, const T& value) {
    writer.value<Part>(value.real());
    writer.value<Part>(value.imag());
  }
  static T read(Reader& reader) { return T{reader.value<Part>(), reader.value<Part>()}; }
};

template <template <std::size_t> class Bits, std::size_t N>
  requires requires(Bits<N>& bits) { bits.set(0, true).to_ullong(); } && in_std<Bits<N>>
struct BuiltIn<Bits<N>> {
  using Parts = Types<>;
  static constexpr std::size_t min_size() { return (N + 7) / 8; }
  static void write(Writer& writer, const Bits<N>& value) {
    for (std::size_t i = 0; i < N; i += 8) {
      unsigned byte = 0;
      for (std::size_t bit = 0; bit < 8 && i + bit < N; ++bit) byte |= static_cast<unsigned>(value[i + bit]) << bit;
      writer.number(static_cast<std::uint8_t>(byte));
    }
  }
  static Bits<N> read(Reader& reader) {
    const auto bytes = reader.raw(min_size());
    Bits<N> out;
    for (std::size_t i = 0; i != N; ++i) out[i] = ((std::to_integer<unsigned>(bytes[i / 8]) >> (i % 8)) & 1u) != 0;
    return out;
  }
};

template <class T>
concept Path = requires(const T& path) {
  T::preferred_separator;
  { path.native() } -> std::same_as<const std::string&>;
} && in_std<T>;

template <Path T>
struct BuiltIn<T> {
  using Parts = Types<>;
  static constexpr std::size_t min_size() { return sizeof(std::uint64_t); }
  static void write(Writer& writer, const T& value) { writer.text(value.native()); }
  static T read(Reader& reader) { return T(std::string(reader.text())); }
};

/// The error categories that are the same in every process, by their position in this list.
inline const std::error_category& known_category(std::size_t index) {
  switch (index) {
    case 0: return std::generic_category();
    case 1: return std::system_category();
    case 2: return std::iostream_category();
    case 3: return std::future_category();
    default: Reader::fail("an error category has the number " + std::to_string(index));
  }
}

template <class T>
  requires std::is_same_v<T, std::error_code> || std::is_same_v<T, std::error_condition>
struct BuiltIn<T> {
  using Parts = Types<>;
  static constexpr std::size_t min_size() { return sizeof(std::uint8_t) + sizeof(int); }
  static void write(Writer& writer, const T& value) {
    std::uint8_t index = 0;
    while (index != 4 && value.category() != known_category(index)) ++index;
    if (index == 4) {
      Writer::fail("its error category \"" + std::string(value.category().name()) +
                   "\" is not known to the library: send the number and its text instead");
    }
    writer.number(index);
    writer.number(value.value());
  }
  static T read(Reader& reader) {
    const std::error_category& category = known_category(reader.number<std::uint8_t>());
    return T(reader.number<int>(), category);
  }
};

}  // namespace brood::detail
