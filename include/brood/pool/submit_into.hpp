// SPDX-License-Identifier: MIT
// internal
// Calls whose results go to memory that the caller has.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include <brood/pool/submit.hpp>
#include <brood/worker/elements.hpp>

namespace brood::inline v0_1::detail {

template <class Destination>
constexpr auto require_destination(Destination&& destination) {
  constexpr bool lasts = requires { std::span(std::forward<Destination>(destination)); };
  static_assert(lasts,
                "brood: submit_into: the destination must be memory that lasts: a std::span<T>, or a std::vector, std::array or "
                "array that has a name");
  if constexpr (lasts) return std::span(std::forward<Destination>(destination));
}

/// Refuses, with words, elements that can't be put into place as bytes.
template <class T, class Result>
constexpr bool require_elements() {
  static_assert(!std::is_const_v<T>,
                "brood: submit_into: the destination is const; pass a std::span of elements that can be written");
  using Element = std::remove_cv_t<T>;
  static_assert(bulk<Element>() && std::is_trivially_copyable_v<Element>,
                "brood: submit_into: the elements of the destination must be nothing but their bytes: numbers, or structs or "
                "arrays of numbers without gaps. Return others as a value: pool.submit(f).get()");
  constexpr bool same = std::is_same_v<typename ElementOf<Result>::type, Element>;
  static_assert(same,
                "brood: submit_into: the task must return a std::vector<T>, std::array<T, N> or std::basic_string<T>, where T is "
                "the type of the destination's elements");
  return !std::is_const_v<T> && bulk<Element>() && std::is_trivially_copyable_v<Element> && same;
}

/// What CallTypes says, for a result of which the elements travel.
template <class Types>
struct IntoTypes {
  using Arguments = typename Types::Arguments;
  using Result = Elements<typename Types::Result>;
};

template <class Policy, class Destination, class F, class... Args>
Future<std::size_t> submit_into_under(const std::shared_ptr<Dispatcher>& dispatcher, const TaskOptions& options,
                                      Destination&& destination, F&& f, Args&&... args) {
  using Room = decltype(require_destination(std::forward<Destination>(destination)));
  if constexpr (!std::is_void_v<Room>) {
    using T = typename Room::element_type;
    using Types = CallTypes<std::decay_t<F>, Args&&...>;
    if constexpr (require_elements<T, typename Types::Result>()) {
      const Room room = require_destination(std::forward<Destination>(destination));
      const TaskPtr task = dispatcher->make_task();
      task->landing = std::make_unique<const Landing>(Landing{reinterpret_cast<std::byte*>(room.data()), room.size(), sizeof(T)});
      submit_task<Policy, IntoTypes<Types>>(dispatcher, task, options, std::forward<F>(f), std::forward<Args>(args)...);
      return Future<std::size_t>(task);
    }
  }
  return {};  // it does not compile
}

}  // namespace brood::detail
