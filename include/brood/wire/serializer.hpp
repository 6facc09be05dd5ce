// SPDX-License-Identifier: MIT
// How values become bytes, and values again.
#pragma once

#include <type_traits>

#include <brood/wire/built_in.hpp>
#include <brood/wire/codec.hpp>
#include <brood/wire/containers.hpp>
#include <brood/wire/customise.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/reflect.hpp>
#include <brood/wire/standard.hpp>
#include <brood/wire/verdict.hpp>
#include <brood/wire/writer.hpp>

namespace brood::inline v0_1 {

/// Whether values of T can be sent to another process and back. The first of these decides:
///   1. a specialisation of Serializer<T>
///   2. functions of T that were written for cereal or Boost.Serialization: serialize, or save and load
///   3. the known types: numbers, enums, strings, the standard containers, std::pair, tuple, optional, variant,
///      unique_ptr, chrono, complex, filesystem::path, bitset, error_code
///   4. bitwise<T>
///   5. an aggregate of up to 32 members, each of which is Serializable; also an empty class
/// Everything else is refused. Writer::value and Reader::value say why.
/// \snippet reference.cpp Serializable
template <class T>
concept Serializable = detail::VerdictOn<T>::accepted;

template <class T>
void Writer::value(const T& value) {
  detail::require_serializable<T>();
  if constexpr (Serializable<T>) {
    using enum detail::Way;
    constexpr detail::Way way = detail::way_of<T>();
    if constexpr (way == serializer) {
      const Nested nested(*this);
      const Copied copied(*this);
      Serializer<T>::write(*this, value);
    } else if constexpr (way == archive) {
      const Copied copied(*this);
      detail::write_by_archive(*this, value);
    } else if constexpr (way == built_in) {
      detail::BuiltIn<T>::write(*this, value);
    } else if constexpr (detail::bulk<T>()) {
      raw(&value, sizeof(T));
    } else if constexpr (way == aggregate) {
      detail::write_aggregate(*this, value);
    }
  }
}

template <class T>
T Reader::value() {
  using U = std::remove_cv_t<T>;
  detail::require_serializable<U>();
  if constexpr (Serializable<U>) {
    using enum detail::Way;
    constexpr detail::Way way = detail::way_of<U>();
    if constexpr (way == serializer) {
      const Nested nested(*this);
      return Serializer<U>::read(*this);
    } else if constexpr (way == archive) {
      U value{};
      detail::read_by_archive(*this, value);
      return value;
    } else if constexpr (way == built_in) {
      return detail::BuiltIn<U>::read(*this);
    } else if constexpr (detail::bulk<U>()) {
      return detail::read_bulk<U>(*this);
    } else if constexpr (way == aggregate) {
      return detail::read_aggregate<U>(*this, detail::MembersOf<U>{});
    } else {
      return U();
    }
  } else {
    fail("the type is not serializable");
  }
}

template <class M>
void detail::write_member(Writer& writer, const M& member) {
  if constexpr (std::is_array_v<M>) {
    if constexpr (bulk<M>()) {
      writer.raw(member, sizeof(M));
    } else {
      for (const auto& element : member) write_member(writer, element);
    }
  } else if constexpr (way_of<M>() == Way::archive) {
    write_by_archive(writer, member);  // it may be an abstract base of what is being written
  } else {
    writer.value<M>(member);
  }
}

template <class M>
void detail::read_member(Reader& reader, M& member) {
  if constexpr (std::is_array_v<M>) {
    if constexpr (bulk<M>()) {
      read_bytes(reader, member, sizeof(M));
    } else {
      for (auto& element : member) read_member(reader, element);
    }
  } else if constexpr (way_of<M>() == Way::archive) {
    read_by_archive(reader, member);
  } else {
    member = reader.value<M>();
  }
}

}  // namespace brood
