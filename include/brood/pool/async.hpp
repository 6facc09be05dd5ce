// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

#include <brood/pool/pool.hpp>

namespace brood::inline v0_1 {
namespace detail {

template <class Policy, class F, class... Args>
auto async_at(std::source_location where, F&& f, Args&&... args) {
  PoolOptions options;
  options.workers = 1;
  constexpr bool closure = !PortableCallable<std::decay_t<F>> && CopiesHost<Policy>;
  auto dispatcher = make_dispatcher(std::move(options), Policy{}, !RunsInline<Policy> && !closure);
  auto future = submit_under<Policy>(dispatcher, TaskOptions{.where = where}, std::forward<F>(f), std::forward<Args>(args)...);
  if constexpr (!RunsInline<Policy>) dispatcher->shut_down_when_idle();
  return future;
}

}  // namespace detail

/// Runs f(args...) in a process of its own, started by Policy for this call. The process and its server end when the
/// call is done, whether or not the future is kept. Costs what a pool and a call cost: for several calls make a pool. Throws what
/// the constructor of a Pool and what Pool::submit throw. Failures say where a call of up to four arguments was made.
/// \snippet reference.cpp async
template <class Policy, class F>
auto async(F&& f, std::source_location where = std::source_location::current()) {
  return detail::async_at<Policy>(where, std::forward<F>(f));
}
template <class Policy, class F, class A>
auto async(F&& f, A&& a, std::source_location where = std::source_location::current()) {
  return detail::async_at<Policy>(where, std::forward<F>(f), std::forward<A>(a));
}
template <class Policy, class F, class A, class B>
auto async(F&& f, A&& a, B&& b, std::source_location where = std::source_location::current()) {
  return detail::async_at<Policy>(where, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b));
}
template <class Policy, class F, class A, class B, class C>
auto async(F&& f, A&& a, B&& b, C&& c, std::source_location where = std::source_location::current()) {
  return detail::async_at<Policy>(where, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c));
}
template <class Policy, class F, class A, class B, class C, class D>
auto async(F&& f, A&& a, B&& b, C&& c, D&& d, std::source_location where = std::source_location::current()) {
  return detail::async_at<Policy>(where, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c),
                                  std::forward<D>(d));
}
template <class Policy, class F, class A, class B, class C, class D, class E, class... More>
auto async(F&& f, A&& a, B&& b, C&& c, D&& d, E&& e, More&&... more) {
  return detail::async_at<Policy>({}, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c),
                                  std::forward<D>(d), std::forward<E>(e), std::forward<More>(more)...);
}

}  // namespace brood
