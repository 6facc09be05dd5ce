// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <type_traits>

#include <brood/pool/outcome.hpp>
#include <brood/wire/serializer.hpp>

namespace brood::inline v0_1::detail {

template <class T, class... Open>
consteval bool can_be_copied();

template <class... Open, class... Parts>
consteval bool parts_can_be_copied(Types<Parts...>) {
  return (can_be_copied<std::remove_cv_t<std::remove_all_extents_t<Parts>>, Open...>() && ...);
}
template <class... Open, bool whole, class... Ms>
consteval bool members_can_be_copied(Members<whole, Ms...>) {
  return parts_can_be_copied<Open...>(Types<Ms...>{});
}
template <class... Open, Reason Why>
consteval bool members_can_be_copied(NoMembers<Why>) {
  return true;
}

/// The type of the value in one of the library's own types.
template <class T>
struct ValueInside;
template <class R>
struct ValueInside<Outcome<R>> {
  using type = R;
};

/// Whether a copy of a T compiles. std::is_copy_constructible can't tell: it is true of a std::vector<std::unique_ptr<int>>, and
/// of a struct that has one. `Open` are the types that contain it: a tree is looked at once.
template <class T, class... Open>
consteval bool can_be_copied() {
  if constexpr (std::is_void_v<T> || std::is_scalar_v<T> || (... || std::is_same_v<T, Open>)) {
    return true;
  } else if constexpr (is_special<T>) {
    return true;
  } else if constexpr (!std::is_copy_constructible_v<T>) {
    return false;
  } else if constexpr (requires { typename ValueInside<T>::type; }) {
    return can_be_copied<typename ValueInside<T>::type, T, Open...>();
  } else if constexpr (way_of<T>() == Way::built_in) {
    return parts_can_be_copied<T, Open...>(typename BuiltIn<T>::Parts{});
  } else if constexpr (way_of<T>() == Way::aggregate) {
    return members_can_be_copied<T, Open...>(MembersOf<T>{});
  } else {
    return true;
  }
}

}  // namespace brood::detail
