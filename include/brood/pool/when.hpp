// SPDX-License-Identifier: MIT
// Futures of several futures: of all of them, of any, of the first that succeeds. They may belong to different pools.
//
// A range that is an rvalue (std::move(futures)), and futures that are, are used up; others keep their values, and are copied or
// decoded once more. Dropping the future that is returned changes nothing for the others; its cancel() cancels them all.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <brood/pool/future.hpp>
#include <brood/pool/promise.hpp>
#include <brood/pool/then.hpp>
#include <brood/worker/items.hpp>

namespace brood::inline v0_1 {

/// What when_any has: the number of the future that was resolved first, and how it was.
/// \snippet async.cpp when_any
template <class R>
struct AnyResult {
  std::size_t index;   ///< its number in the range, from 0
  Outcome<R> outcome;  ///< what became of it
};

namespace detail {

template <class R>
struct ValueInside<AnyResult<R>> {
  using type = R;
};

/// The outcome of what is beneath; a failure also where its value can't be had.
template <class R>
Outcome<R> whatever_of(Beneath beneath, bool uses_up) {
  try {
    return outcome_of<R>(std::move(beneath), uses_up);
  } catch (...) {
    return failure_of(std::current_exception(), 0, "taking the value of a Future");
  }
}

template <class T>
struct ValueOfFuture {
  static_assert(is_future<T>, "brood: when_all, when_any and first_of take futures, or a range of them");
  using type = void;
};
template <class R>
struct ValueOfFuture<Future<R>> {
  using type = R;
};
template <class T>
using ValueOf = typename ValueOfFuture<std::remove_cvref_t<T>>::type;

/// Whether the elements of a range are there for nobody else.
template <class Range>
inline constexpr bool uses_up_range =
    !std::is_reference_v<std::ranges::range_reference_t<Range>> ||
    (!std::is_lvalue_reference_v<Range> && !std::is_const_v<Range> && !std::ranges::view<std::remove_cvref_t<Range>> &&
     !std::ranges::borrowed_range<Range>);

/// What a future stands for; the future is used up, or its value is pinned.
template <class R, class F>
Beneath beneath_of(F&& future, bool uses_up) {
  Beneath beneath = std::as_const(future).beneath();
  if (!beneath) throw Error("when_all, when_any or first_of was given a Future that has no task: default-made, or moved from");
  if (!uses_up) pin<R>(beneath);
  if constexpr (!std::is_const_v<std::remove_reference_t<F>>) {
    if (uses_up) static_cast<void>(std::move(future).beneath());
  }
  return beneath;
}

template <class R, class Range>
std::vector<Beneath> all_beneath(Range&& range) {
  std::vector<Beneath> all;
  if constexpr (std::ranges::sized_range<Range>) all.reserve(std::ranges::size(range));
  for (auto&& each : range) all.push_back(beneath_of<R>(each, uses_up_range<Range>));
  return all;
}

/// A promise of several, each of which tells once.
template <class Value>
class Gather : public PromiseOf<Value> {
 public:
  explicit Gather(std::size_t count) : PromiseOf<Value>(0), left_(count) {}

  /// Precondition: it is owned.
  void begin(const std::vector<Beneath>& beneath) {
    this->wait_for(beneath);
    for (std::size_t at = 0; at < beneath.size(); ++at) {
      if (!beneath[at].watch(this->shared_from_this(), at)) this->hear(at);  // nobody follows it yet
    }
  }

 protected:
  /// Whether all others have told.
  bool last() noexcept { return left_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  /// Whether the caller is to give it its outcome.
  bool wins() noexcept { return !over_.exchange(true, std::memory_order_acq_rel); }

 private:
  std::atomic<std::size_t> left_;
  std::atomic<bool> over_{false};
};

template <class R>
using AllValues = std::conditional_t<std::is_void_v<R>, void, std::vector<std::conditional_t<std::is_void_v<R>, int, R>>>;

template <class R>
class AllOf final : public Gather<AllValues<R>> {
 public:
  AllOf(std::size_t count, bool uses_up) : Gather<AllValues<R>>(count), uses_up_(uses_up), outcomes_(count) {
    if (count == 0) give(collect());
  }

  bool hear(std::size_t number) noexcept override {
    Beneath beneath = this->claim(number);
    if (!beneath) return false;
    try {
      std::optional<Outcome<R>>& outcome = outcomes_[number];  // nobody else touches this one
      outcome.emplace(whatever_of<R>(std::move(beneath), uses_up_));
      if (!*outcome) return this->wins() && give(outcome->failure());
      if (!this->last() || !this->wins()) return false;
      return give(collect());
    } catch (...) {  // out of memory, or a move that throws
      return this->wins() && give(failure_of(std::current_exception(), 0, "when_all"));
    }
  }

 private:
  Outcome<AllValues<R>> collect() {
    if constexpr (std::is_void_v<R>) {
      return {};
    } else {
      std::vector<R> values;
      values.reserve(outcomes_.size());
      for (auto& each : outcomes_) values.push_back(std::move(*each).value());
      return values;
    }
  }

  bool give(Outcome<AllValues<R>>&& outcome) noexcept {
    this->settle(std::move(outcome));
    return true;
  }

  const bool uses_up_;
  std::vector<std::optional<Outcome<R>>> outcomes_;
};

template <class R>
using NoVoid = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

template <class... R>
class AllOfTuple final : public Gather<std::tuple<NoVoid<R>...>> {
  using Values = std::tuple<NoVoid<R>...>;

 public:
  explicit AllOfTuple(std::array<bool, sizeof...(R)> use_up) : Gather<Values>(sizeof...(R)), use_up_(use_up) {}

  bool hear(std::size_t number) noexcept override {
    const Beneath beneath = this->claim(number);
    if (!beneath) return false;
    try {
      std::optional<Failure> failure;
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        (void(I == number ? failure = take(std::get<I>(outcomes_), beneath, use_up_[I]) : failure), ...);
      }(std::index_sequence_for<R...>{});
      if (failure) return this->wins() && give(std::move(*failure));
      if (!this->last() || !this->wins()) return false;
      return give(std::apply([](auto&... each) { return Values(value(*each)...); }, outcomes_));
    } catch (...) {
      return this->wins() && give(failure_of(std::current_exception(), 0, "when_all"));
    }
  }

 private:
  template <class T>
  static std::optional<Failure> take(std::optional<Outcome<T>>& into, const Beneath& beneath, bool uses_up) {
    into.emplace(whatever_of<T>(beneath, uses_up));
    return *into ? std::nullopt : std::optional<Failure>(into->failure());
  }
  template <class T>
  static NoVoid<T> value(Outcome<T>& outcome) {
    if constexpr (std::is_void_v<T>) {
      return {};
    } else {
      return std::move(outcome).value();
    }
  }
  bool give(Outcome<Values>&& outcome) noexcept {
    this->settle(std::move(outcome));
    return true;
  }

  const std::array<bool, sizeof...(R)> use_up_;
  std::tuple<std::optional<Outcome<R>>...> outcomes_;
};

template <class R>
class AnyOf final : public Gather<AnyResult<R>> {
 public:
  AnyOf(std::size_t count, bool uses_up) : Gather<AnyResult<R>>(count), uses_up_(uses_up) {}

  bool needs_all() const noexcept override { return false; }
  bool hear(std::size_t number) noexcept override {
    Beneath beneath = this->claim(number);
    if (!beneath || !this->wins()) return false;
    this->settle(AnyResult<R>{number, whatever_of<R>(std::move(beneath), uses_up_)});
    return true;
  }

 private:
  const bool uses_up_;
};

template <class R>
class FirstOf final : public Gather<R> {
 public:
  FirstOf(std::vector<Beneath> all, bool uses_up) : Gather<R>(all.size()), uses_up_(uses_up), all_(std::move(all)) {}

  bool needs_all() const noexcept override { return false; }
  bool hear(std::size_t number) noexcept override {
    Beneath beneath = this->claim(number);
    if (!beneath) return false;
    Outcome<R> outcome = whatever_of<R>(std::move(beneath), uses_up_);
    const bool failed = !outcome;
    if (failed && !this->last()) return false;
    if (!this->wins()) return false;
    const std::vector<Beneath> rest = std::move(all_);  // only the winner touches it
    this->settle(std::move(outcome));
    for (std::size_t at = 0; !failed && at < rest.size(); ++at) {
      try {
        if (at != number && !rest[at].resolved()) rest[at].cancel();
      } catch (...) {  // it goes on for nothing
      }
    }
    return true;
  }

 private:
  const bool uses_up_;
  std::vector<Beneath> all_;
};

inline void require_some(const std::vector<Beneath>& all, const char* call) {
  if (all.empty()) throw std::invalid_argument(std::string("brood: ") + call + ": there is no future in the range");
}

}  // namespace detail

/// The future of all values, in order: a std::vector<R>, or void where R is. It fails with the first failure, as soon as that is
/// there, and the others go on. To have each outcome instead, make futures that don't fail: then([](Outcome<R> o) { return o; }).
/// Complexity: linear in the futures, as of those below.
/// \snippet async.cpp when_all
template <std::ranges::input_range Range>
auto when_all(Range&& futures) {
  using R = detail::ValueOf<std::ranges::range_value_t<Range>>;
  const auto all = detail::all_beneath<R>(std::forward<Range>(futures));
  auto promise = std::make_shared<detail::AllOf<R>>(all.size(), detail::uses_up_range<Range>);
  promise->begin(all);
  return Future<detail::AllValues<R>>(std::shared_ptr<detail::PromiseOf<detail::AllValues<R>>>(std::move(promise)));
}

/// The same for futures of different types: a std::tuple, with std::monostate for void.
/// \snippet async.cpp when_all tuple
template <class... F>
  requires(sizeof...(F) > 0 && (detail::is_future<std::remove_cvref_t<F>> && ...))
auto when_all(F&&... futures) {
  using Values = std::tuple<detail::NoVoid<detail::ValueOf<F>>...>;
  constexpr std::array<bool, sizeof...(F)> use_up{!std::is_lvalue_reference_v<F>...};
  const std::vector<detail::Beneath> all{detail::beneath_of<detail::ValueOf<F>>(futures, !std::is_lvalue_reference_v<F>)...};
  auto promise = std::make_shared<detail::AllOfTuple<detail::ValueOf<F>...>>(use_up);
  promise->begin(all);
  return Future<Values>(std::shared_ptr<detail::PromiseOf<Values>>(std::move(promise)));
}

/// The future of the first that is resolved, with a value or a failure, and of its number: an AnyResult<R>. The others go on.
/// Throws std::invalid_argument for an empty range.
/// \snippet async.cpp when_any
template <std::ranges::input_range Range>
auto when_any(Range&& futures) {
  using R = detail::ValueOf<std::ranges::range_value_t<Range>>;
  const auto all = detail::all_beneath<R>(std::forward<Range>(futures));
  detail::require_some(all, "when_any");
  auto promise = std::make_shared<detail::AnyOf<R>>(all.size(), detail::uses_up_range<Range>);
  promise->begin(all);
  return Future<AnyResult<R>>(std::shared_ptr<detail::PromiseOf<AnyResult<R>>>(std::move(promise)));
}

/// A race: the future of the first value. The rest is cancelled then. When all fail it fails with the last failure.
/// Throws std::invalid_argument for an empty range.
/// \snippet async.cpp first_of
template <std::ranges::input_range Range>
auto first_of(Range&& futures) {
  using R = detail::ValueOf<std::ranges::range_value_t<Range>>;
  auto all = detail::all_beneath<R>(std::forward<Range>(futures));
  detail::require_some(all, "first_of");
  auto promise = std::make_shared<detail::FirstOf<R>>(all, detail::uses_up_range<Range>);
  promise->begin(all);
  return Future<R>(std::shared_ptr<detail::PromiseOf<R>>(std::move(promise)));
}

}  // namespace brood

namespace brood::inline v0_1::detail {

/// Starts one task for each item, and has them race.
template <class F, class Range, class Submit>
auto race(Range& range, const Submit& submit) {
  using Item = std::ranges::range_reference_t<Range>;
  const auto start = [&](auto&& item) {
    if constexpr (ItemCall<!PortableCallable<F>, F, Item>::spread) {
      return std::apply(submit, std::forward<decltype(item)>(item));
    } else {
      return submit(std::forward<decltype(item)>(item));
    }
  };
  std::vector<decltype(start(*std::ranges::begin(range)))> futures;
  try {
    for (auto&& item : range) futures.push_back(start(std::forward<decltype(item)>(item)));
  } catch (...) {
    for (auto& each : futures) each.cancel();
    throw;
  }
  return first_of(std::move(futures));
}

}  // namespace brood::detail
