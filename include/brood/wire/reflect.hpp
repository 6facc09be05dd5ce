// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <brood/wire/bindings.hpp>
#include <brood/wire/codec.hpp>
#include <brood/wire/counting.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/refusal.hpp>
#include <brood/wire/writer.hpp>

// Aggregates, taken apart into their members and put together again by aggregate initialisation.

namespace brood::inline v0_1::detail {

template <class T>
concept TupleLike = requires { std::tuple_size<T>::value; };

/// Whether Special, but not NoFiller, is a first clause with up to 32 Fillers behind it, or the other way round: a type
/// that takes anything takes both, and if Special converts to it, only NoFiller.
template <class T, class Special>
consteval bool begins_with() {
  if constexpr (InBraces<T>) {
    return InBraces<T, Special> != InBraces<T, NoFiller>;
  } else {
    return []<std::size_t... N>(std::index_sequence<N...>) {
      return (... || (fits_around<T, 0, Special, N> != fits_around<T, 0, NoFiller, N>));
    }(std::make_index_sequence<max_members>{});
  }
}

/// Whether any of the N members is a union without a name, which a structured binding can't take apart.
template <class T, std::size_t N>
consteval bool has_nameless_union() {
  if constexpr (fits_in_parentheses<T, NoUnionFiller<T>, NoUnionFiller<T>, N>) {
    return false;
  } else {
    return []<std::size_t... I>(std::index_sequence<I...>) {
      return (... || ((fits_empties<T, I, NamelessUnionFiller>() && !fits_empties<T, I, NoFiller>()) ||
                      (fits_around<T, I, NamelessUnionFiller, N - I - 1> && !fits_around<T, I, NoFiller, N - I - 1>)));
    }(std::make_index_sequence<N>{});
  }
}

/// Whether a reference is why the members could not be counted.
template <class T>
consteval bool needs_lvalue() {
  return []<std::size_t... N>(std::index_sequence<N...>) {
    return (... || (fits_in_parentheses<T, ReferenceFiller<T>, ReferenceFiller<T>, N + 1> &&
                    !fits_in_parentheses<T, Filler<T>, Filler<T>, N + 1>));
  }(std::make_index_sequence<max_members>{});
}

/// The answer of `members_of`.
template <Reason Why>
struct NoMembers {
  static constexpr Reason reason = Why;
};

/// The members of the aggregate T as a Members<M...>, or NoMembers<why not>.
template <class T>
consteval auto members_of() {
  if constexpr (TupleLike<T>) {
    return NoMembers<Reason::uncountable>{};  // a structured binding would not show its members
  } else if constexpr (begins_with<T, BaseFiller<T>>()) {
    return NoMembers<Reason::base_class>{};
  } else {
    constexpr std::size_t count = count_members<T>();
    if constexpr (count == 0 && std::is_empty_v<T>) {
      return Members<true>{};
    } else if constexpr (count == 0 || count > max_members) {
      return NoMembers<needs_lvalue<T>() ? Reason::reference_member : Reason::uncountable>{};
    } else if constexpr (has_nameless_union<T, count>()) {
      return NoMembers<Reason::union_type>{};
    } else {
      return decltype(with_members<count>(std::declval<T&>(), [](auto members, const auto&...) { return members; })){};
    }
  }
}

template <class T>
using MembersOf = decltype(members_of<T>());

template <class... Ms>
inline constexpr std::size_t size_of_members = (0 + ... + sizeof(Ms));

template <class... Ms>
inline constexpr bool any_array = (... || std::is_array_v<Ms>);

/// T is made first and its members are then assigned to: for C arrays of any size.
template <class T, class... Ms>
inline constexpr bool fillable =
    std::is_default_constructible_v<T> && std::is_move_constructible_v<T> &&
    (std::is_assignable_v<std::remove_all_extents_t<Ms>&, std::remove_all_extents_t<Ms>> && ...);

/// T is made at once, every element of its C arrays being a clause of its own: for the others, if there are not too many.
template <class... Ms>
inline constexpr std::size_t leaves_of = (0 + ... + (sizeof(Ms) / sizeof(std::remove_all_extents_t<Ms>)));

/// Whether one of the two ways is open to a T with C arrays.
template <class T, class... Ms>
inline constexpr bool readable_arrays = fillable<T, Ms...> || leaves_of<Ms...> <= 256;

/// Which member the leaf with the number `I` belongs to, without its extents.
template <std::size_t I, class M, class... Ms>
consteval auto leaf() {
  constexpr std::size_t leaves = sizeof(M) / sizeof(std::remove_all_extents_t<M>);
  if constexpr (I < leaves) {
    return std::type_identity<std::remove_cv_t<std::remove_all_extents_t<M>>>{};
  } else {
    return leaf<I - leaves, Ms...>();
  }
}

template <class T>
void write_aggregate(Writer& writer, const T& value) {
  if constexpr (MembersOf<T>::count != 0) {
    with_members<MembersOf<T>::count>(
        value, [&writer](auto, const auto&... members) { (write_member(writer, members), ...); });
  }
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-braces"

template <class T, class... Ms>
T read_aggregate(Reader& reader, Members<true, Ms...>) {
  // the clauses of a list in braces are evaluated from left to right
  if constexpr (!any_array<Ms...>) {
    return T{reader.value<std::remove_cv_t<Ms>>()...};
  } else if constexpr (fillable<T, Ms...>) {
    T value{};
    with_members<sizeof...(Ms)>(value, [&reader](auto, auto&... members) { (read_member(reader, members), ...); });
    return value;
  } else {
    return [&reader]<std::size_t... I>(std::index_sequence<I...>) {
      return T{reader.value<typename decltype(leaf<I, Ms...>())::type>()...};
    }(std::make_index_sequence<leaves_of<Ms...>>{});
  }
}

#pragma GCC diagnostic pop

}  // namespace brood::detail
