// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>

#include <brood/core/type_name.hpp>
#include <brood/wire/archive_functions.hpp>
#include <brood/wire/codec.hpp>
#include <brood/wire/customise.hpp>
#include <brood/wire/reflect.hpp>
#include <brood/wire/refusal.hpp>

// Which way a type takes to the wire, and if there is none, why.

namespace brood::inline v0_1::detail {

template <class T>
consteval Way way_of() {
  if constexpr (std::is_void_v<T> || std::is_reference_v<T> || std::is_function_v<T> || std::is_array_v<T> ||
                std::is_const_v<T> || std::is_volatile_v<T>) {
    return Way::none;
  } else if constexpr (HasSerializer<T>) {
    return Way::serializer;
  } else if constexpr (std::is_scalar_v<T> && !std::is_enum_v<T>) {
    return HasBuiltIn<T> ? Way::built_in : Way::none;
  } else if constexpr (HasArchiveFunctions<T>) {
    return Way::archive;
  } else if constexpr (HasBuiltIn<T>) {
    return Way::built_in;
  } else if constexpr (bitwise<T>) {
    return Way::bitwise;
  } else if constexpr (std::is_union_v<T>) {
    return Way::none;
  } else if constexpr (std::is_aggregate_v<T>) {
    return Way::aggregate;
  } else if constexpr (std::is_empty_v<T> && std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T> &&
                       !in_std<T>) {
    return Way::stateless;
  } else {
    return Way::none;
  }
}

template <class T>
consteval std::size_t min_size() {
  constexpr Way way = way_of<std::remove_cv_t<T>>();
  if constexpr (std::is_array_v<T>) {
    return std::extent_v<T> * min_size<std::remove_extent_t<T>>();
  } else if constexpr (way == Way::built_in) {
    return BuiltIn<T>::min_size();
  } else if constexpr (way == Way::bitwise) {
    return sizeof(T);
  } else if constexpr (way == Way::aggregate) {
    return []<class... Ms>(Members<true, Ms...>) { return sum_of_sizes<Ms...>(); }(MembersOf<T>{});
  } else {
    return 0;  // what a Serializer or an archive writes is not known
  }
}

template <class T>
consteval bool bulk() {
  constexpr Way way = way_of<std::remove_cv_t<T>>();
  if constexpr (std::is_array_v<T>) {
    return bulk<std::remove_cv_t<std::remove_all_extents_t<T>>>();
  } else if constexpr (way == Way::built_in) {
    if constexpr (requires { BuiltIn<T>::bulk(); })
      return BuiltIn<T>::bulk();
    else
      return false;
  } else if constexpr (way == Way::bitwise) {
    return true;
  } else if constexpr (way == Way::aggregate && std::is_trivially_copyable_v<T>) {
    // without a gap, the members one after the other are the struct
    return []<class... Ms>(Members<true, Ms...>) {
      return sizeof...(Ms) != 0 && size_of_members<Ms...> == sizeof(T) && (bulk<std::remove_cv_t<Ms>>() && ...);
    }(MembersOf<T>{});
  } else {
    return false;
  }
}

/// Whether bytes of T belong to no member, as far as its members are known.
template <class T, class... Ms>
consteval bool gap(Members<true, Ms...>) {
  return sizeof...(Ms) != 0 && size_of_members<Ms...> < sizeof(T);
}
template <class T>
consteval bool gap(...) {
  return false;
}

template <class T>
consteval Reason why_not_bitwise() {
  if constexpr (!std::is_trivially_copyable_v<T>) {
    return Reason::bitwise_not_copyable;
  } else if constexpr (std::is_aggregate_v<T> && !std::is_union_v<T> && !std::has_unique_object_representations_v<T>) {
    // the trait is false for a float as well: only the members tell
    return gap<T>(MembersOf<T>{}) ? Reason::bitwise_padding : Reason::none;
  } else {
    return Reason::none;
  }
}

/// Whether the name of the standard template T, without its arguments, is or ends with one of these.
template <class T, std::size_t N>
consteval bool named(const char* const (&names)[N]) {
  constexpr std::string_view whole = type_name<T>();
  constexpr std::string_view name = whole.substr(0, whole.find('<'));
  for (std::string_view end : names) {
    if (name.ends_with(end)) return true;
  }
  return false;
}

/// Why a class of the standard library that has no BuiltIn can't be sent.
template <class T>
consteval Reason why_no_standard_class() {
  if (named<T>({"_view", "::span", "::initializer_list", "::reference_wrapper", "::subrange"})) return Reason::view;
  if (named<T>({"::function", "::any", "::move_only_function"})) return Reason::function_object;
  if (named<T>({"mutex", "lock", "lock_guard", "thread", "atomic", "atomic_flag", "atomic_ref", "future", "promise",
                "condition_variable", "condition_variable_any", "semaphore", "latch", "barrier", "stop_source",
                "stop_token", "stream", "packaged_task", "once_flag"})) {
    return Reason::synchronisation;
  }
  return Reason::unknown_standard;
}

/// Why a T that has no way can't be sent.
template <class T>
consteval Reason why_none() {
  if constexpr (std::is_void_v<T>) {
    return Reason::void_type;
  } else if constexpr (std::is_reference_v<T>) {
    return Reason::reference;
  } else if constexpr (std::is_volatile_v<T>) {
    return Reason::volatile_type;
  } else if constexpr (std::is_array_v<T>) {
    return Reason::array;
  } else if constexpr (std::is_function_v<std::remove_pointer_t<T>>) {
    return Reason::function;
  } else if constexpr (std::is_pointer_v<T> || std::is_null_pointer_v<T>) {
    return Reason::pointer;
  } else if constexpr (std::is_member_pointer_v<T>) {
    return Reason::member_pointer;
  } else if constexpr (std::is_union_v<T>) {
    return Reason::union_type;
  } else if constexpr (in_std<T>) {
    return why_no_standard_class<T>();
  } else if constexpr (std::is_abstract_v<T>) {
    return Reason::abstract;
  } else if constexpr (std::is_polymorphic_v<T>) {
    return Reason::polymorphic;
  } else if constexpr (HidesSerialize<T>) {
    return Reason::private_serialize;
  } else if constexpr (std::ranges::enable_borrowed_range<T> || std::ranges::enable_view<T>) {
    return Reason::view;
  } else {
    // "name::<lambda(int)>" or "name::(lambda at file:1:2)"
    constexpr std::string_view name = type_name<T>();
    constexpr bool lambda = (name.ends_with(")>") && name.find("<lambda(") != name.npos) ||
                            (name.ends_with(')') && name.find("(lambda at") != name.npos);
    return lambda ? Reason::lambda : Reason::private_state;
  }
}

template <class T, class... Open>
consteval auto judge();

/// The first of two that is a refusal.
template <Reason A, class X, Reason B, class Y>
consteval auto operator||(Verdict<A, X> first, Verdict<B, Y> second) {
  if constexpr (A != Reason::none)
    return first;
  else
    return second;
}

/// The verdict on the first part that is refused.
template <class... Open, class... Parts>
consteval auto judge_parts(Types<Parts...>) {
  return (Accepted{} || ... || judge<Parts, Open...>());
}

template <class T, class... Open, class... Ms>
consteval auto judge_members(Members<true, Ms...>) {
  if constexpr ((... || std::is_reference_v<Ms>)) {
    return Verdict<Reason::reference_member, T>{};
  } else if constexpr (any_array<Ms...> && !readable_arrays<T, Ms...>) {
    return Verdict<Reason::array_member, T>{};
  } else {
    return judge_parts<Open...>(Types<std::remove_all_extents_t<Ms>...>{});
  }
}
template <class T, class... Open, class... Ms>
consteval auto judge_members(Members<false, Ms...>) {
  return Verdict<Reason::bit_field, T>{};
}
template <class T, class... Open, Reason Why>
consteval auto judge_members(NoMembers<Why>) {
  return Verdict<Why, T>{};
}

// the parts that are no values of their own
template <class... Open, class T>
consteval auto judge_special(MadeByDefault<T>) {
  constexpr bool can_be_made = std::is_default_constructible_v<T> && !std::is_pointer_v<T>;  // it would be null
  return Verdict<can_be_made ? Reason::none : Reason::made_by_default, T>{};
}
template <class... Open, class T>
consteval auto judge_special(Pointee<T>) {
  if constexpr (Complete<T>) {
    if constexpr (std::is_polymorphic_v<T> && !std::is_final_v<T>)
      return Verdict<Reason::sliced_pointer, T>{};
    else
      return judge<T, Open...>();
  } else {
    return judge<T, Open...>();
  }
}
template <class T>
inline constexpr bool is_number = std::is_arithmetic_v<T> && !std::is_volatile_v<T>;
template <class T>
inline constexpr bool is_number<MadeByDefault<T>> = judge_special(MadeByDefault<T>{}).accepted;

/// Whether T is a number or a known type made of numbers: accepted wherever it is found, so that a std::string is not
/// judged anew for every struct that holds one.
template <class T>
inline constexpr bool is_plain = [] {
  if constexpr (is_number<T>) {
    return true;
  } else if constexpr (way_of<T>() == Way::built_in) {
    if constexpr (!requires { BuiltIn<T>::reason; }) {
      return []<class... Parts>(Types<Parts...>) { return (is_number<Parts> && ...); }(typename BuiltIn<T>::Parts{});
    }
  }
  return false;
}();

/// Whether a T can be sent. The types in `Open` contain it and are being judged: a type that contains itself (a tree)
/// is not judged twice.
template <class T, class... Open>
consteval auto judge() {
  using U = std::remove_const_t<T>;
  if constexpr ((... || std::is_same_v<U, Open>)) {
    return Accepted{};
  } else if constexpr (is_special<U>) {
    return judge_special<Open...>(U{});
  } else if constexpr (std::is_class_v<U> && !Complete<U>) {
    return Verdict<Reason::incomplete, U>{};
  } else if constexpr (is_plain<U>) {
    return Accepted{};
  } else {
    constexpr Way way = way_of<U>();
    if constexpr (way == Way::serializer) {
      return Verdict<ValidSerializer<U> ? Reason::none : Reason::wrong_serializer, U>{};
    } else if constexpr (way == Way::archive) {
      return Verdict<std::is_default_constructible_v<U> ? Reason::none : Reason::serialize_needs_default, U>{};
    } else if constexpr (way == Way::built_in) {
      if constexpr (requires { BuiltIn<U>::reason; })
        return Verdict<BuiltIn<U>::reason, U>{};
      else
        return judge_parts<U, Open...>(typename BuiltIn<U>::Parts{});
    } else if constexpr (way == Way::bitwise) {
      return Verdict<why_not_bitwise<U>(), U>{};
    } else if constexpr (way == Way::aggregate) {
      return judge_members<U, U, Open...>(MembersOf<U>{});
    } else if constexpr (way == Way::stateless) {
      return Accepted{};
    } else {
      return Verdict<why_none<U>(), U>{};
    }
  }
}

template <class T>
using VerdictOn = decltype(judge<T>());

template <class T>
consteval bool can_be_sent() {
  return VerdictOn<T>::accepted;
}

/// Does not compile, with a reason in words, unless T can be sent.
template <class T>
constexpr void require_serializable() {
  static_cast<void>(sizeof(typename VerdictOn<T>::Explained));
}

}  // namespace brood::detail
