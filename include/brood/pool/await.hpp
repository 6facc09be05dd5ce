// SPDX-License-Identifier: MIT
// co_await for futures, and futures as what a coroutine returns.
//
//   brood::Future<int> total(auto& pool) {            // a coroutine: it runs in the host
//     int half = co_await pool.submit(&work, 1);      // suspended meanwhile; throws what the task threw
//     co_return half + co_await pool.submit(&work, 2);
//   }
//
// A coroutine goes on where its task is resolved: on the thread that waits for it or for another task of the pool, or on the
// pool's helper thread. While it runs there the rest of that thread's callbacks wait. To go on in a loop of one's own, let that
// loop drive the pool (PoolOptions::helper_thread), or hop there afterwards (asio: co_await asio::post(executor)).
#pragma once

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include <brood/pool/future.hpp>
#include <brood/pool/promise.hpp>
#include <brood/pool/then.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// Resumes a coroutine of any kind. It is nobody's future.
class Resumption final : public Promise {
 public:
  explicit Resumption(std::coroutine_handle<> coroutine) noexcept : Promise(0), coroutine_(coroutine) {}

  bool hear(std::size_t /*number*/) noexcept override {
    try {
      coroutine_.resume();
    } catch (...) {  // a callback's failure is its own
    }
    return false;
  }

 private:
  std::coroutine_handle<> coroutine_;
};

/// The future of a coroutine. While that is suspended, what it awaits is beneath.
template <class R>
class CoroutinePromise final : public PromiseOf<R> {
 public:
  CoroutinePromise() noexcept : PromiseOf<R>(0) {}

  bool hear(std::size_t number) noexcept override {
    if (!this->claim(number)) return false;
    bool ended = false;
    ended_ = &ended;
    coroutine_.resume();  // it does not throw: see unhandled_exception
    return ended;
  }

  /// Whether the coroutine is to stay suspended. Each suspension has a number of its own: an old one wakes nobody.
  bool suspend(std::coroutine_handle<> coroutine, const Beneath& awaited) {
    coroutine_ = coroutine;
    const std::size_t number = ++suspensions_;
    if (this->wait_for({awaited}, number)) awaited.cancel();
    if (awaited.watch(this->shared_from_this(), number)) return true;
    return !this->claim(number);  // somebody else may resume it
  }

  /// The coroutine is at its end. Before its first suspension nobody follows it.
  void end(Outcome<R>&& outcome) noexcept {
    bool* const ended = ended_;
    this->settle(std::move(outcome));
    if (ended != nullptr) *ended = true;
  }

 private:
  std::coroutine_handle<> coroutine_;
  std::size_t suspensions_ = 0;
  bool* ended_ = nullptr;  ///< of who has resumed it
};

template <class R>
class CoroutineState {
 public:
  Future<R> get_return_object() { return Future<R>(std::shared_ptr<PromiseOf<R>>(promise_)); }
  std::suspend_never initial_suspend() const noexcept { return {}; }
  std::suspend_never final_suspend() noexcept {
    promise_->end(std::move(*outcome_));
    return {};
  }
  void unhandled_exception() { outcome_.emplace(failure_of(std::current_exception(), 0, "a coroutine")); }
  CoroutinePromise<R>& brood_promise() noexcept { return *promise_; }

 protected:
  std::shared_ptr<CoroutinePromise<R>> promise_ = std::make_shared<CoroutinePromise<R>>();
  std::optional<Outcome<R>> outcome_;
};

template <class R>
class CoroutineResult : public CoroutineState<R> {
 public:
  void return_value(R value) { this->outcome_.emplace(std::move(value)); }
};
template <>
class CoroutineResult<void> : public CoroutineState<void> {
 public:
  void return_void() { outcome_.emplace(); }
};

/// F: Future<R>, which is used up, or const Future<R>&.
template <class R, class F>
class FutureAwaiter {
 public:
  explicit FutureAwaiter(F&& future) noexcept : future_(std::forward<F>(future)) {}

  bool await_ready() const { return future_.ready(); }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> coroutine) {
    const Beneath beneath = std::as_const(future_).beneath();  // once it is watched, the coroutine may go on, and this be gone
    if constexpr (requires { coroutine.promise().brood_promise(); }) {
      const auto promise = coroutine.promise().brood_promise().shared_from_this();
      return coroutine.promise().brood_promise().suspend(coroutine, beneath);
    } else {
      return beneath.watch(std::make_shared<Resumption>(coroutine), 0);
    }
  }
  R await_resume() { return std::forward<F>(future_).get(); }

 private:
  F future_;
};

}  // namespace detail

/// Waits, in a coroutine, for the value of a future; throws what get() throws. An rvalue is used up.
/// \snippet reference.cpp co_await
template <class R>
auto operator co_await(Future<R>&& future) noexcept {
  return detail::FutureAwaiter<R, Future<R>>(std::move(future));
}
/// The same for a future that keeps its value.
/// \snippet reference.cpp co_await
template <class R>
auto operator co_await(const Future<R>& future) noexcept {
  return detail::FutureAwaiter<R, const Future<R>&>(future);
}

}  // namespace brood

/// A coroutine that returns a Future runs at once, up to its first co_await that has to wait. Dropping the future does not end it;
/// its cancel() cancels what it awaits, now and later, which then throws TaskCancelled there.
/// \snippet reference.cpp co_await
template <class R, class... Arguments>
struct std::coroutine_traits<brood::Future<R>, Arguments...> {
  using promise_type = brood::detail::CoroutineResult<R>;
};
