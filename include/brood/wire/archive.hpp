// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include <brood/core/type_name.hpp>
#include <brood/wire/codec.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/writer.hpp>

// What the functions of types written for cereal or Boost.Serialization get as their archive.

namespace brood::inline v0_1::detail {

/// A value with a name for formats that have names: cereal's kind has members, Boost's has functions.
template <class T>
concept NamedMember = requires(const T& pair) {
  requires std::same_as<decltype(T::name), const char*>;
  pair.value;
};
template <class T>
concept NamedFunction = requires(const T& pair) {
  { pair.name() } -> std::same_as<const char*>;
  pair.value();
};

/// What cereal::base_class<B>(this) returns.
template <class T>
concept BaseOf = requires(const T& base) { *base.base_ptr; };

/// A count on its own: cereal::make_size_tag(n).
template <class T>
concept SizeTag = requires(const T& tag) { tag.size; } && type_name<T>().find("SizeTag<") != std::string_view::npos;

/// Raw bytes: cereal::binary_data(p, size) and boost::serialization::make_array(p, count).
template <class T>
concept BinaryData = requires(const T& binary) {
  binary.data;
  binary.size;
} && type_name<T>().find("BinaryData<") != std::string_view::npos;
template <class T>
concept ArrayOf = requires(const T& array) {
  *array.address();
  { array.count() } -> std::convertible_to<std::size_t>;
};

/// The archive that a type's own functions write to.
class WriteArchive {
 public:
  using is_saving = std::true_type;
  using is_loading = std::false_type;

  explicit WriteArchive(Writer& writer) : writer_(writer) {}

  template <class... Ts>
  WriteArchive& operator()(const Ts&... values) {
    (item(values), ...);
    return *this;
  }
  template <class T>
  WriteArchive& operator&(const T& value) {
    return (*this)(value);
  }
  template <class T>
  WriteArchive& operator<<(const T& value) {
    return (*this)(value);
  }

  void save_binary(const void* data, std::size_t size) { writer_.raw(data, size); }

 private:
  template <class T>
  void item(const T& value) {
    if constexpr (can_be_sent<T>()) {
      write_member(writer_, value);
    } else if constexpr (NamedMember<T>) {
      item(value.value);
    } else if constexpr (NamedFunction<T>) {
      item(value.value());
    } else if constexpr (BaseOf<T>) {
      item(*value.base_ptr);
    } else if constexpr (SizeTag<T>) {
      writer_.number(static_cast<std::uint64_t>(value.size));
    } else if constexpr (BinaryData<T>) {
      writer_.raw(value.data, static_cast<std::size_t>(value.size));
    } else if constexpr (ArrayOf<T>) {
      for (std::size_t i = 0; i != value.count(); ++i) item(value.address()[i]);
    } else {
      write_member(writer_, value);
    }
  }

  Writer& writer_;
};

/// The archive that a type's own functions read from.
class ReadArchive {
 public:
  using is_saving = std::false_type;
  using is_loading = std::true_type;

  explicit ReadArchive(Reader& reader) : reader_(reader) {}

  template <class... Ts>
  ReadArchive& operator()(Ts&&... values) {
    (item(values), ...);
    return *this;
  }
  template <class T>
  ReadArchive& operator&(T&& value) {
    return (*this)(value);
  }
  template <class T>
  ReadArchive& operator>>(T&& value) {
    return (*this)(value);
  }

  void load_binary(void* data, std::size_t size) { read_bytes(reader_, data, size); }

 private:
  template <class T>
  void item(T& value) {
    using Value = std::remove_cv_t<T>;
    if constexpr (can_be_sent<Value>()) {
      read_member(reader_, value);
    } else if constexpr (NamedMember<Value>) {
      item(value.value);
    } else if constexpr (NamedFunction<Value>) {
      item(value.value());
    } else if constexpr (BaseOf<Value>) {
      item(*value.base_ptr);
    } else if constexpr (SizeTag<Value>) {
      // usually handed to resize next, so it is bounded as every count; elements may be single bits
      const auto size = reader_.number<std::uint64_t>();
      if (size / 8 > reader_.remaining()) Reader::fail("a size of " + std::to_string(size));
      value.size = static_cast<std::remove_cvref_t<decltype(value.size)>>(size);
    } else if constexpr (BinaryData<Value>) {
      read_bytes(reader_, value.data, static_cast<std::size_t>(value.size));
    } else if constexpr (ArrayOf<Value>) {
      for (std::size_t i = 0; i != value.count(); ++i) item(value.address()[i]);
    } else {
      read_member(reader_, value);
    }
  }

  Reader& reader_;
};

}  // namespace brood::detail
