// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>

#include <brood/core/type_name.hpp>
#include <brood/wire/bindings.hpp>

// How many members has an aggregate? Asked of the compiler, in the ways in which it lets the aggregate be initialised:
//   {}       fits a member that can be default-made; it is exactly one member, also when that is a C array
//   Filler   fits any member but a C array; in parentheses it is exactly one member, in braces one leaf of an array
// The answer is confirmed by a structured binding, which does not compile with a wrong number.

namespace brood::inline v0_1::detail {

/// Not a number of members.
inline constexpr std::size_t uncounted = static_cast<std::size_t>(-1);

template <class Aggregate, class Except>
struct Filler;

/// Whether U has a constructor that takes anything at all, such as that of std::optional: a Filler which converted to U
/// as well would be ambiguous.
template <class Aggregate, class U>
inline constexpr bool takes_anything = std::is_convertible_v<Filler<Aggregate, U>, U>;

/// Converts to any type but the aggregate itself.
template <class Aggregate, class Except = void>
struct Filler {
  template <class U>
    requires(!std::is_same_v<U, Except> && !std::is_same_v<std::remove_cv_t<U>, Aggregate> &&
             !takes_anything<Aggregate, U>)
  operator U() const;
};

/// As Filler, but not to a union.
template <class Aggregate>
struct NoUnionFiller {
  template <class U>
    requires(!std::is_union_v<U> && !std::is_same_v<std::remove_cv_t<U>, Aggregate> && !takes_anything<Aggregate, U>)
  operator U() const;
};

/// Converts to a union without a name, and to nothing else.
struct NamelessUnionFiller {
  template <class U>
    requires(std::is_union_v<U> && (type_name<U>().find("unnamed union") != std::string_view::npos ||
                                    type_name<U>().find("anonymous union") != std::string_view::npos))
  operator U() const;
};

/// Converts to a base of the aggregate, and to nothing else.
template <class Aggregate>
struct BaseFiller {
  template <class U>
    requires(std::is_base_of_v<U, Aggregate> && !std::is_same_v<std::remove_cv_t<U>, Aggregate>)
  operator U() &&;  // exactly as good as a constructor that takes anything: ambiguous
};

/// Converts to an lvalue of anything, and to nothing else.
template <class Aggregate>
struct ReferenceFiller {
  template <class U>
    requires(!std::is_same_v<std::remove_cv_t<U>, Aggregate>)
  operator U&() const;
};

/// Converts to nothing: fits a member that takes anything.
struct NoFiller {};

template <std::size_t, class T>
using Repeated = T;

template <class T, class... Clauses>
concept InParentheses = requires { T(std::declval<Clauses>()...); };

template <class T, class... Clauses>
concept InBraces = requires { T{std::declval<Clauses>()...}; };

/// T(First, Fill ...), N clauses, each for one member.
template <class T, class First, class Fill, std::size_t N>
inline constexpr bool fits_in_parentheses = []<std::size_t... I>(std::index_sequence<I...>) {
  return InParentheses<T, First, Repeated<I, Fill>...>;
}(std::make_index_sequence<N - 1>{});

/// T(Filler (N times), {})
template <class T, std::size_t N>
inline constexpr bool fits_before_empty = []<std::size_t... I>(std::index_sequence<I...>) {
  return requires { T(std::declval<Repeated<I, Filler<T>>>()..., {}); };
}(std::make_index_sequence<N>{});

/// T{Filler (Before times), Middle, Filler (Behind times)}, each for one leaf.
template <class T, std::size_t Before, class Middle, std::size_t Behind>
inline constexpr bool fits_around =
    []<std::size_t... I, std::size_t... J>(std::index_sequence<I...>, std::index_sequence<J...>) {
      return InBraces<T, Repeated<I, Filler<T>>..., Middle, Repeated<J, Filler<T>>...>;
    }(std::make_index_sequence<Before>{}, std::make_index_sequence<Behind>{});

/// T{Filler (Before times), {Filler (Inside times)}, Filler (Behind times)}
template <class T, std::size_t Before, std::size_t Inside, std::size_t Behind>
inline constexpr bool fits_around_braces =
    []<std::size_t... I, std::size_t... J, std::size_t... K>(std::index_sequence<I...>, std::index_sequence<J...>,
                                                             std::index_sequence<K...>) {
      return requires {
        T{std::declval<Repeated<I, Filler<T>>>()...,
          {std::declval<Repeated<J, Filler<T>>>()...},
          std::declval<Repeated<K, Filler<T>>>()...};
      };
    }(std::make_index_sequence<Before>{}, std::make_index_sequence<Inside>{}, std::make_index_sequence<Behind>{});

/// T{{} (N times), Last()...}: braces can't be a pack's pattern, hence the staircase.
template <class T, std::size_t N, class... Last>
consteval bool fits_empties() {
  // clang-format off
  if constexpr (N == 0) return requires { T{std::declval<Last>()...}; };
  else if constexpr (N == 1) return requires { T{{}, std::declval<Last>()...}; };
  else if constexpr (N == 2) return requires { T{{}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 3) return requires { T{{}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 4) return requires { T{{}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 5) return requires { T{{}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 6) return requires { T{{}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 7) return requires { T{{}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 8) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 9) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 10) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 11) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...};
      };
  else if constexpr (N == 12) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      std::declval<Last>()...}; };
  else if constexpr (N == 13) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      std::declval<Last>()...}; };
  else if constexpr (N == 14) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      std::declval<Last>()...}; };
  else if constexpr (N == 15) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      std::declval<Last>()...}; };
  else if constexpr (N == 16) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      std::declval<Last>()...}; };
  else if constexpr (N == 17) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      std::declval<Last>()...}; };
  else if constexpr (N == 18) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, std::declval<Last>()...}; };
  else if constexpr (N == 19) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 20) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 21) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 22) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 23) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 24) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 25) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 26) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 27) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 28) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 29) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 30) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 31) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 32) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else if constexpr (N == 33) return requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
      {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::declval<Last>()...}; };
  else return false;
  // clang-format on
}

/// The largest N for which T{{} (N times)} is well-formed; uncounted if not even T{} is.
template <class T, std::size_t N = 0>
consteval std::size_t most_empties() {
  if constexpr (N <= max_members && fits_empties<T, N>()) {
    constexpr std::size_t more = most_empties<T, N + 1>();
    return more == uncounted ? N : more;
  } else {
    return uncounted;
  }
}

/// The largest N for which T(Filler (N times)) is well-formed; uncounted if there is none.
template <class T, std::size_t N = max_members + 1>
consteval std::size_t most_fillers() {
  if constexpr (N == 0) {
    return uncounted;
  } else if constexpr (fits_in_parentheses<T, Filler<T>, Filler<T>, N>) {
    return N;
  } else {
    return most_fillers<T, N - 1>();
  }
}

/// Structs with more leaves than this are not counted by them.
inline constexpr std::size_t max_leaves = 128;

/// The largest N for which T{Filler (N times)} is well-formed: every element of a C array is a leaf of its own.
template <class T, std::size_t N = (sizeof(T) < max_leaves ? sizeof(T) : max_leaves)>
consteval std::size_t count_leaves() {
  if constexpr (N == 0) {
    return uncounted;
  } else if constexpr (fits_around<T, 0, Filler<T>, N - 1>) {
    return N == max_leaves ? uncounted : N;
  } else {
    return count_leaves<T, N - 1>();
  }
}

/// How many of the leaves the member that begins at leaf `At` has: 1, or those of a C array; 0 if there is no answer.
template <class T, std::size_t Leaves, std::size_t At, std::size_t Size = 1>
consteval std::size_t leaves_at() {
  if constexpr (At + Size > Leaves) {
    return 0;
  } else if constexpr (fits_around_braces<T, At, 0, Leaves - At - Size>) {
    return Size;
  } else if constexpr (Size > 1 && fits_around_braces<T, At, Size, Leaves - At - Size> &&
                       !fits_around_braces<T, At, Size, Leaves - At - 1>) {
    return Size;  // an array of what can't be default-made, not a constructor with as many parameters
  } else {
    constexpr std::size_t longer = leaves_at<T, Leaves, At, Size + 1>();
    return longer == 0 && Size == 1 ? 1 : longer;
  }
}

template <class T, std::size_t Leaves, std::size_t At = 0>
consteval std::size_t count_by_leaves() {
  if constexpr (Leaves == uncounted) {
    return uncounted;
  } else if constexpr (At == Leaves) {
    return 0;
  } else {
    constexpr std::size_t rest = count_by_leaves<T, Leaves, At + leaves_at<T, Leaves, At>()>();
    return rest == uncounted ? uncounted : rest + 1;
  }
}

/// The number of members (and bases) of an aggregate; `uncounted` if it isn't certain.
template <class T>
consteval std::size_t count_members() {
  constexpr std::size_t empties = most_empties<T>();
  if constexpr (empties != uncounted) {
    // what follows may not take {} but have an initialiser of its own
    if constexpr (!fits_empties<T, empties, Filler<T>>())
      return empties;
    else if constexpr (empties == max_members)
      return uncounted;
    else
      return count_by_leaves<T, count_leaves<T>()>();
  } else {
    constexpr std::size_t fillers = most_fillers<T>();
    if constexpr (fillers == uncounted)
      return count_by_leaves<T, count_leaves<T>()>();
    else if constexpr (!fits_before_empty<T, fillers>)
      return fillers;
    else
      return count_by_leaves<T, count_leaves<T>()>();
  }
}

}  // namespace brood::detail
