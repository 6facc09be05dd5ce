// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include <brood/wire/codec.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/refusal.hpp>
#include <brood/wire/writer.hpp>

// Numbers, and the standard types that hold a fixed number of values.

namespace brood::inline v0_1::detail {

template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
struct BuiltIn<T> {
  using Parts = Types<>;
  static constexpr std::size_t min_size() { return sizeof(T); }
  static constexpr bool bulk() {
    // a bool is checked, and six bytes of an x87 long double are no value
    if constexpr (std::is_enum_v<T>)
      return BuiltIn<std::underlying_type_t<T>>::bulk();
    else
      return !std::is_same_v<T, bool> && !std::is_same_v<T, long double>;
  }
  static void write(Writer& writer, T value) { writer.number(value); }
  static T read(Reader& reader) { return reader.number<T>(); }
};

template <class A, class B>
struct BuiltIn<std::pair<A, B>> {
  using Parts = Types<A, B>;
  static constexpr std::size_t min_size() { return sum_of_sizes<A, B>(); }
  static void write(Writer& writer, const std::pair<A, B>& value) {
    writer.value<std::remove_const_t<A>>(value.first);
    writer.value<std::remove_const_t<B>>(value.second);
  }
  // in braces, the values are read from left to right
  static std::pair<A, B> read(Reader& reader) {
    return {reader.value<std::remove_const_t<A>>(), reader.value<std::remove_const_t<B>>()};
  }
};

template <class... Ts>
struct BuiltIn<std::tuple<Ts...>> {
  using Parts = Types<Ts...>;
  static constexpr std::size_t min_size() { return sum_of_sizes<Ts...>(); }
  static void write(Writer& writer, const std::tuple<Ts...>& value) {
    std::apply([&writer](const Ts&... parts) { (writer.value<std::remove_const_t<Ts>>(parts), ...); }, value);
  }
  static std::tuple<Ts...> read(Reader& reader) {
    return std::tuple<Ts...>{reader.value<std::remove_const_t<Ts>>()...};
  }
};
template <>
struct BuiltIn<std::tuple<>> {
  using Parts = Types<>;
  static constexpr std::size_t min_size() { return 0; }
  static void write(Writer&, const std::tuple<>&) {}
  static std::tuple<> read(Reader&) { return {}; }
};

/// A bool, then the value if it is true.
template <class T>
struct BuiltIn<std::optional<T>> {
  using Parts = Types<T>;
  static constexpr std::size_t min_size() { return 1; }
  static void write(Writer& writer, const std::optional<T>& value) {
    writer.number(value.has_value());
    if (value) writer.value<std::remove_const_t<T>>(*value);
  }
  static std::optional<T> read(Reader& reader) {
    if (!reader.number<bool>()) return std::nullopt;
    return std::optional<T>(std::in_place, reader.value<std::remove_const_t<T>>());
  }
};

template <>
struct BuiltIn<std::monostate> {
  using Parts = Types<>;
  static constexpr std::size_t min_size() { return 0; }
  static void write(Writer&, std::monostate) {}
  static std::monostate read(Reader&) { return {}; }
};

/// The index, then the value.
template <class... Ts>
struct BuiltIn<std::variant<Ts...>> {
  using Variant = std::variant<Ts...>;
  using Index = std::conditional_t<sizeof...(Ts) <= 256, std::uint8_t, std::uint32_t>;
  using Parts = Types<Ts...>;

  static constexpr std::size_t min_size() { return sizeof(Index); }
  static void write(Writer& writer, const Variant& value) {
    if (value.valueless_by_exception()) Writer::fail("a std::variant has no value");
    writer.number(static_cast<Index>(value.index()));
    std::visit([&writer](const auto& alternative) { writer.value(alternative); }, value);
  }
  static Variant read(Reader& reader) {
    const std::size_t index = reader.number<Index>();
    if (index >= sizeof...(Ts)) Reader::fail("a std::variant has no alternative " + std::to_string(index));
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      using Alternative = Variant (*)(Reader&);
      static constexpr Alternative alternatives[] = {
          [](Reader& from) { return Variant(std::in_place_index<I>, from.value<std::remove_const_t<Ts>>()); }...};
      return alternatives[index](reader);
    }(std::index_sequence_for<Ts...>{});
  }
};

/// A bool, then the value if it is true. Lists and trees are made of it, so it counts as a level of nesting.
template <class T>
struct BuiltIn<std::unique_ptr<T>> {
  using Value = std::remove_const_t<T>;
  using Parts = Types<Pointee<T>>;
  static constexpr std::size_t min_size() { return 1; }
  static void write(Writer& writer, const std::unique_ptr<T>& value) {
    const Writer::Nested nested(writer);
    writer.number(value != nullptr);
    if (value) writer.value<Value>(*value);
  }
  static std::unique_ptr<T> read(Reader& reader) {
    const Reader::Nested nested(reader);
    if (!reader.number<bool>()) return nullptr;
    return std::unique_ptr<T>(new T(reader.value<Value>()));
  }
};

/// Owners that can't be sent, each for a reason of its own.
template <Reason Why>
struct NeverSent {
  using Parts = Types<>;
  static constexpr Reason reason = Why;
};
template <class T>
struct BuiltIn<std::unique_ptr<T[]>> : NeverSent<Reason::array_pointer> {};
template <class T, class Deleter>
struct BuiltIn<std::unique_ptr<T, Deleter>> : NeverSent<Reason::deleter> {};
template <class T>
struct BuiltIn<std::shared_ptr<T>> : NeverSent<Reason::shared_pointer> {};
template <class T>
struct BuiltIn<std::weak_ptr<T>> : NeverSent<Reason::shared_pointer> {};

}  // namespace brood::detail
