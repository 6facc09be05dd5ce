// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <brood/wire/archive.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/writer.hpp>

// Types that were written for cereal or Boost.Serialization are taken as they are. Of those libraries nothing is needed;
// a few of their names are declared, and used once their own headers have defined them.

namespace cereal {
class access;
namespace detail {
struct Versions;
template <class T>
class StaticObject;
}  // namespace detail
}  // namespace cereal

namespace boost::serialization {
class access;
template <class T>
struct version;
}  // namespace boost::serialization

namespace brood::inline v0_1::detail {

template <class T>
concept Complete = requires { sizeof(T); };

// a base with the same name makes it ambiguous, whether or not the member could be called from here
struct SerializeName {
  int serialize;
};
template <class T>
struct WithSerializeName : T, SerializeName {};

/// Whether the class T has a member `serialize` that can't be called from here; as far as can be told.
template <class T>
concept HidesSerialize = std::is_class_v<T> && !std::is_final_v<T> && !std::is_polymorphic_v<T> &&
                         !requires { &WithSerializeName<T>::serialize; } && !requires { &T::serialize; };

/// The version with which T is registered in one of the libraries; else 0, which is what they would pass too.
template <class T, class Boost = boost::serialization::version<T>,
          class Cereal = ::cereal::detail::StaticObject<::cereal::detail::Versions>>
std::uint32_t version_of() {
  if constexpr (requires { Boost::value; }) {
    if constexpr (Boost::value != 0) return static_cast<std::uint32_t>(Boost::value);
  }
  if constexpr (requires { Cereal::getInstance().mapping; }) {
    const auto& versions = Cereal::getInstance().mapping;
    const auto found = versions.find(typeid(T).hash_code());
    if (found != versions.end()) return found->second;
  }
  return 0;
}

/// The overloads of `call_archive` are tried from the highest rank down.
template <int N>
struct Rank : Rank<N - 1> {};
template <>
struct Rank<0> {};
using FirstRank = Rank<8>;

template <class Archive, class T>
auto call_archive(Rank<8>, Archive& archive, T& value) -> decltype(void(value.serialize(archive))) {
  value.serialize(archive);
}
template <class Archive, class T>
auto call_archive(Rank<7>, Archive& archive, T& value) -> decltype(void(value.serialize(archive, version_of<T>()))) {
  value.serialize(archive, version_of<T>());
}
template <class Archive, class T>
auto call_archive(Rank<6>, Archive& archive, T& value) -> decltype(void(serialize(archive, value))) {
  serialize(archive, value);
}
template <class Archive, class T>
auto call_archive(Rank<5>, Archive& archive, T& value) -> decltype(void(serialize(archive, value, version_of<T>()))) {
  serialize(archive, value, version_of<T>());
}

template <class T>
auto call_archive(Rank<4>, WriteArchive& archive, T& value) -> decltype(void(std::as_const(value).save(archive))) {
  std::as_const(value).save(archive);
}
template <class T>
auto call_archive(Rank<4>, ReadArchive& archive, T& value) -> decltype(void(value.load(archive))) {
  value.load(archive);
}
template <class T>
auto call_archive(Rank<3>, WriteArchive& archive, T& value)
    -> decltype(void(std::as_const(value).save(archive, version_of<T>()))) {
  std::as_const(value).save(archive, version_of<T>());
}
template <class T>
auto call_archive(Rank<3>, ReadArchive& archive, T& value) -> decltype(void(value.load(archive, version_of<T>()))) {
  value.load(archive, version_of<T>());
}

template <class T>
auto call_archive(Rank<2>, WriteArchive& archive, T& value) -> decltype(void(save(archive, std::as_const(value)))) {
  save(archive, std::as_const(value));
}
template <class T>
auto call_archive(Rank<2>, ReadArchive& archive, T& value) -> decltype(void(load(archive, value))) {
  load(archive, value);
}
template <class T>
auto call_archive(Rank<1>, WriteArchive& archive, T& value)
    -> decltype(void(save(archive, std::as_const(value), version_of<T>()))) {
  save(archive, std::as_const(value), version_of<T>());
}
template <class T>
auto call_archive(Rank<1>, ReadArchive& archive, T& value) -> decltype(void(load(archive, value, version_of<T>()))) {
  load(archive, value, version_of<T>());
}

// Through the class that a type with private functions befriends, once its header has been included.
template <class Archive, class T, class Access = ::cereal::access>
auto call_access(Rank<3>, Archive& archive, T& value) -> decltype(void(Access::member_serialize(archive, value))) {
  Access::member_serialize(archive, value);
}
template <class Archive, class T, class Access = ::cereal::access>
auto call_access(Rank<2>, Archive& archive, T& value)
    -> decltype(void(Access::member_serialize(archive, value, version_of<T>()))) {
  Access::member_serialize(archive, value, version_of<T>());
}
template <class T, class Access = ::cereal::access>
auto call_access(Rank<1>, WriteArchive& archive, T& value) -> decltype(void(Access::member_save(archive, value))) {
  Access::member_save(archive, value);
}
template <class T, class Access = ::cereal::access>
auto call_access(Rank<1>, ReadArchive& archive, T& value) -> decltype(void(Access::member_load(archive, value))) {
  Access::member_load(archive, value);
}
// Boost's answers yes to any class, so the member must be seen to be there
template <class Archive, class T, class Access = boost::serialization::access>
  requires HidesSerialize<T>
auto call_access(Rank<0>, Archive& archive, T& value)
    -> decltype(void(Access::serialize(archive, value, version_of<T>()))) {
  Access::serialize(archive, value, version_of<T>());
}
template <class Archive, class T>
auto call_archive(Rank<0>, Archive& archive, T& value) -> decltype(call_access(Rank<3>{}, archive, value)) {
  call_access(Rank<3>{}, archive, value);
}

/// Whether T has functions for both archives.
template <class T>
concept HasArchiveFunctions = requires(WriteArchive& writing, ReadArchive& reading, T& value) {
  call_archive(FirstRank{}, writing, value);
  call_archive(FirstRank{}, reading, value);
};

template <class T>
void write_by_archive(Writer& writer, const T& value) {
  const Writer::Nested nested(writer);
  WriteArchive archive(writer);
  // one serialize does for both directions and is no const member; writing, it changes nothing
  call_archive(FirstRank{}, archive, const_cast<T&>(value));
}

template <class T>
void read_by_archive(Reader& reader, T& value) {
  const Reader::Nested nested(reader);
  ReadArchive archive(reader);
  call_archive(FirstRank{}, archive, value);
}

}  // namespace brood::detail
