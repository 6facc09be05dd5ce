// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <system_error>
#include <type_traits>

#include <brood/wire/serializer.hpp>

namespace brood::inline v0_1 {
namespace detail {

template <class T>
consteval bool can_be_shared();

template <class... Ts>
consteval bool all_can_be_shared(Types<Ts...>) {
  return (can_be_shared<Ts>() && ...);
}
template <class... Ms>
consteval bool all_can_be_shared(Members<true, Ms...>) {
  return (can_be_shared<Ms>() && ...);
}
consteval bool all_can_be_shared(...) { return false; }

/// Whether the bytes of a T are its value in every process. Unlike what is sent, it may have gaps, and is not checked.
template <class T>
consteval bool can_be_shared() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_volatile_v<T> || std::is_reference_v<T>) {
    return false;
  } else if constexpr (std::is_array_v<U>) {
    return can_be_shared<std::remove_all_extents_t<U>>();
  } else if constexpr (!Complete<U>) {
    return false;
  } else if constexpr (!std::is_trivially_copyable_v<U>) {
    return false;
  } else if constexpr (bitwise<U>) {
    return true;
  } else if constexpr (std::is_same_v<U, std::error_code> || std::is_same_v<U, std::error_condition>) {
    return false;  // it points to its category
  } else {
    constexpr Way way = way_of<U>();
    if constexpr (way == Way::built_in) {
      if constexpr (requires { BuiltIn<U>::reason; })
        return false;
      else
        return all_can_be_shared(typename BuiltIn<U>::Parts{});
    } else if constexpr (way == Way::aggregate) {
      return all_can_be_shared(MembersOf<U>{});
    } else {
      return way == Way::stateless;
    }
  }
}

}  // namespace detail

/// Whether T can be the element of a SharedArray: it is trivially copyable, and made of nothing that would mean nothing in
/// another process: numbers, enums, std::array, std::complex, std::optional, std::chrono and the like, structs of them, and
/// what brood::bitwise<T> is true for.
/// \snippet reference.cpp Shareable
template <class T>
concept Shareable = detail::can_be_shared<T>();

namespace detail {

/// Does not compile, with words, unless T can be the element of a SharedArray.
template <class T>
struct RequireShareable {
  static_assert(!std::is_volatile_v<T> && !std::is_reference_v<T>, "brood: SharedArray<T>: T is volatile or a reference: name "
                "the type of a value (std::atomic_ref makes accesses to an element atomic)");
  static_assert(std::is_volatile_v<T> || std::is_trivially_copyable_v<T>,
                "brood: SharedArray<T>: T is not trivially copyable: its bytes alone are not its value, so processes can't "
                "share it. Use numbers, enums or a struct of them, or send a std::vector<T>, which is copied");
  static_assert(std::is_volatile_v<T> || !std::is_trivially_copyable_v<T> || Shareable<T>,
                "brood: SharedArray<T>: T has a pointer or another member that means nothing in another process, or members "
                "that can't be seen. Use numbers, enums or a struct of them; or, if its bytes are its value, write `template "
                "<> inline constexpr bool brood::bitwise<T> = true;`");
};

}  // namespace detail
}  // namespace brood
