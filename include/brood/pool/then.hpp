// SPDX-License-Identifier: MIT
// internal
// Future::then.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <brood/pool/future.hpp>
#include <brood/pool/promise.hpp>
#include <brood/worker/call.hpp>

namespace brood::inline v0_1::detail {

template <class T>
inline constexpr bool is_future = false;
template <class R>
inline constexpr bool is_future<Future<R>> = true;

/// What Future<R>::then hands to a function.
enum class Takes : std::uint8_t { value, outcome, future };

template <class Parameters>
struct OnlyParameter {
  using type = void;
};
template <class P>
struct OnlyParameter<Params<P>> {
  using type = std::remove_cvref_t<P>;
};

template <class R, class F>
consteval Takes what_it_takes() {
  using P = typename OnlyParameter<typename Signature<F>::type>::type;  // void: as many others, or not known: a generic lambda
  if constexpr (std::is_same_v<P, Outcome<R>>) {
    return Takes::outcome;
  } else if constexpr (std::is_same_v<P, Future<R>>) {
    return Takes::future;
  } else {
    return Takes::value;
  }
}

/// What f returns when it is called as then does it. Refuses with words what can't be called.
template <class R, class F>
struct ThenTypes {
  static constexpr Takes takes = what_it_takes<R, F>();

  template <class... A>
  static auto result(Types<A...>) {
    constexpr bool fits = std::is_invocable_v<F, A...>;
    static_assert(fits,
                  "brood: Future<R>::then(f): f can't be called with what the task returns. It takes the value (nothing for "
                  "void), or a brood::Outcome<R>, or a brood::Future<R>");
    if constexpr (fits) {
      return std::type_identity<std::remove_cvref_t<std::invoke_result_t<F, A...>>>{};
    } else {
      return std::type_identity<void>{};
    }
  }
  static auto result() {
    if constexpr (takes == Takes::outcome) {
      return result(Types<Outcome<R>>{});
    } else if constexpr (takes == Takes::future) {
      return result(Types<Future<R>>{});
    } else if constexpr (std::is_void_v<R>) {
      return result(Types<>{});
    } else {
      return result(Types<R>{});
    }
  }
  using Returned = typename decltype(result())::type;

  template <class T>
  struct Unwrapped {
    using type = T;
  };
  template <class V>
  struct Unwrapped<Future<V>> {
    using type = V;
  };
  using Value = typename Unwrapped<Returned>::type;
};

/// Ends the reading of a value that others may want, too.
class Unpinned {
 public:
  explicit Unpinned(std::atomic<unsigned>* readers) noexcept : readers_(readers) {}
  Unpinned(const Unpinned&) = delete;
  Unpinned& operator=(const Unpinned&) = delete;
  ~Unpinned() {
    if (readers_ != nullptr) readers_->fetch_sub(1, std::memory_order_release);
  }

 private:
  std::atomic<unsigned>* readers_;
};

/// The outcome of what is beneath, which is resolved, and was pinned if it is not used up.
template <class R>
Outcome<R> outcome_of(Beneath beneath, bool uses_up) {
  const Beneath held = uses_up ? Beneath{} : beneath;
  const Unpinned unpinned(uses_up ? nullptr : &held.readers());
  Future<R> future(std::move(beneath));
  return uses_up ? std::move(future).outcome() : std::as_const(future).outcome();
}

template <class R, class F>
class Then final : public PromiseOf<typename ThenTypes<R, F>::Value> {
  using Types = ThenTypes<R, F>;
  using Value = typename Types::Value;
  static constexpr const char* where = "what was passed to Future::then";

 public:
  template <class G>
  Then(TaskId id, G&& f, bool uses_up) : PromiseOf<Value>(id), f_(std::forward<G>(f)), uses_up_(uses_up) {}

  using Promise::wait_for;

  bool hear(std::size_t number) noexcept override {
    Beneath beneath = this->claim(number);
    if (!beneath) return false;
    std::optional<Outcome<Value>> outcome;
    try {
      Step step = number == 0 ? run(std::move(beneath)) : Step{outcome_of<Value>(std::move(beneath), true), {}};
      if (step.next) {
        if (this->wait_for({step.next}, 1)) step.next.cancel();
        return step.next.watch(this->shared_from_this(), 1) ? false : hear(1);
      }
      outcome.emplace(std::move(*step.outcome));
    } catch (...) {
      outcome.emplace(failure_of(std::current_exception(), this->id(), where));
    }
    this->settle(std::move(*outcome));
    return true;
  }

 private:
  /// What f has led to: an outcome, or a future that has it.
  struct Step {
    std::optional<Outcome<Value>> outcome;
    Beneath next;
  };

  Step run(Beneath beneath) {
    const typename Promise::Running running(*this);
    std::optional<F> f(std::move(f_));  // what it has captured ends before the promise is resolved
    f_.reset();
    if constexpr (Types::takes == Takes::future) {
      return call(*f, Future<R>(std::move(beneath)));
    } else {
      Outcome<R> outcome = outcome_of<R>(std::move(beneath), uses_up_);
      if constexpr (Types::takes == Takes::outcome) {
        return call(*f, std::move(outcome));
      } else {
        if (!outcome) return {outcome.failure(), {}};
        if constexpr (std::is_void_v<R>) {
          return call(*f);
        } else {
          return call(*f, std::move(outcome).value());
        }
      }
    }
  }

  template <class... A>
  static Step call(F& f, A&&... arguments) {
    if constexpr (!std::is_invocable_v<F, A...>) {
      return {};  // refused, with words
    } else if constexpr (is_future<typename Types::Returned>) {
      Step step{std::nullopt, std::invoke(std::move(f), std::forward<A>(arguments)...).beneath()};
      if (!step.next) throw Error("what was passed to Future::then returned a Future that has no task");
      return step;
    } else if constexpr (std::is_void_v<Value>) {
      std::invoke(std::move(f), std::forward<A>(arguments)...);
      return {Outcome<void>{}, {}};
    } else {
      return {Outcome<Value>(std::invoke(std::move(f), std::forward<A>(arguments)...)), {}};
    }
  }

  std::optional<F> f_;
  const bool uses_up_;
};

/// Pins a value for a reader beside its future.
template <class R>
void pin(const Beneath& beneath) {
  if (!can_be_copied<R>() && beneath.promise) {
    throw Error("the value of this Future can't be copied, and was made in the host: there is one, for one taker. Pass the Future "
                "as an rvalue: std::move(future)");
  }
  beneath.readers().fetch_add(1, std::memory_order_relaxed);
}

template <class R, class F>
auto then(Beneath beneath, TaskId id, F&& f, bool uses_up) {
  using Function = std::decay_t<F>;
  auto promise = std::make_shared<Then<R, Function>>(id, std::forward<F>(f), uses_up);
  if (!uses_up) pin<R>(beneath);
  promise->wait_for({beneath});
  if (!beneath.watch(promise, 0)) promise->hear(0);  // nobody follows it yet
  return Future<typename ThenTypes<R, Function>::Value>(std::move(promise));
}

}  // namespace brood::detail

namespace brood::inline v0_1 {

template <class R>
template <class F>
auto Future<R>::then(F&& f) && {
  const TaskId number = id();
  return detail::then<R>(std::move(*this).beneath(), number, std::forward<F>(f), true);
}

template <class R>
template <class F>
auto Future<R>::then(F&& f) const& {
  static_assert(detail::what_it_takes<R, std::decay_t<F>>() != detail::Takes::future,
                "brood: Future<R>::then(f): an f that takes the Future uses it up: std::move(future).then(f)");
  return detail::then<R>(beneath(), id(), std::forward<F>(f), false);
}

}  // namespace brood
