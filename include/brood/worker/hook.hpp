// SPDX-License-Identifier: MIT
// Code of the user's that runs in each worker: PoolOptions::on_worker_start and on_worker_stop.
#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/wire/code_pointer.hpp>
#include <brood/wire/serializer.hpp>
#include <brood/worker/call.hpp>
#include <brood/worker/context.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// The thunk of a hook: what it returns is dropped.
template <class F, class Arguments>
void run_hook(TaskContext& context, Reader& in, Writer& /*out*/) {
  const ContextScope scope(context);
  F f = read_callable<F>(in);
  Arguments arguments = ReadTuple<Arguments>::from(in);
  in.finish();
  static_cast<void>(std::apply(f, std::move(arguments)));
}

/// Runs the bytes of a hook. Throws what it throws.
inline void call_hook(TaskContext& context, std::span<const std::byte> call) {
  Reader in = Reader::of_call(call);
  Writer nowhere;
  reinterpret_cast<Thunk>(read_code(in))(context, in, nowhere);
}

}  // namespace detail

/// A call that each worker makes: a function, a captureless lambda or a functor with serializable members, by itself or, made by
/// worker_hook(f, args...), with arguments. What it returns is dropped.
/// \snippet reference.cpp worker_hook
class WorkerHook {
 public:
  /// None.
  WorkerHook() = default;
  /// None.
  // NOLINTNEXTLINE(google-explicit-constructor): PoolOptions{.on_worker_start = nullptr}
  WorkerHook(std::nullptr_t) noexcept {}

  /// f(). A null function pointer is no hook.
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, WorkerHook>)
  // NOLINTNEXTLINE(google-explicit-constructor): PoolOptions{.on_worker_start = &prepare}
  WorkerHook(F&& f) : WorkerHook(make(f)) {}

  /// Whether there is one.
  explicit operator bool() const noexcept { return call_ != nullptr; }

  // internal

  template <class F, class... Args>
  static WorkerHook make(const F& f, Args&&... args) {
    using namespace detail;
    using Function = std::decay_t<F>;
    static_assert(PortableCallable<Function>,
                  "brood: a worker hook has state that can't travel to a worker (a lambda with captures, a std::function, a "
                  "functor with private members). Pass what it captures as arguments: .on_worker_start = brood::worker_hook([](int n) { "
                  "... }, n); or write a functor struct whose members are serializable");
    WorkerHook hook;
    if constexpr (PortableCallable<Function>) {
      const Function function = f;
      if constexpr (is_function_pointer<Function>) {
        if (function == nullptr) return hook;
      }
      using Arguments = typename CallTypes<Function, Args&&...>::Arguments;
      RequireTuple<Arguments>::check();
      Writer out = Writer::of_call();
      write_code(out, reinterpret_cast<const void*>(&run_hook<Function, Arguments>));
      write_callable<Function>(out, function);
      const Arguments values(std::forward<Args>(args)...);
      std::apply([&](const auto&... each) { (out.value<std::remove_cvref_t<decltype(each)>>(each), ...); }, values);
      hook.kept_ = out.take_kept();
      if (descriptors_of(hook.kept_) != nullptr) Writer::fail(why_no_descriptor);
      hook.call_ = std::make_shared<const Bytes>(std::move(out).take());
    }
    return hook;
  }

  /// Its bytes; empty when there is none.
  std::span<const std::byte> call() const noexcept { return call_ ? call_->view() : std::span<const std::byte>(); }

 private:
  std::shared_ptr<const detail::Bytes> call_;
  std::shared_ptr<const void> kept_;  ///< what the bytes name
};

/// f(args...), for PoolOptions::on_worker_start and on_worker_stop: `.on_worker_start = worker_hook(&open_log, "worker.log")`. The
/// arguments are converted to f's parameter types and serialized now, once for all workers. What can be f, and what its arguments,
/// is as for Pool::submit; a lambda with captures can't, under any policy. Throws what a serializer throws.
/// \snippet reference.cpp worker_hook
template <class F, class... Args>
WorkerHook worker_hook(const F& f, Args&&... args) {
  return WorkerHook::make(f, std::forward<Args>(args)...);
}

}  // namespace brood
