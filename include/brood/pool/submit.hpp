// SPDX-License-Identifier: MIT
// internal
// From a call in the host to a task: what travels, and what a closure needs instead.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include <brood/pool/attachment.hpp>
#include <brood/pool/check_options.hpp>
#include <brood/pool/dispatcher.hpp>
#include <brood/pool/future.hpp>
#include <brood/worker/call.hpp>
#include <brood/worker/limits.hpp>

namespace brood::inline v0_1::detail {

/// The bytes that name a thunk, made once for each.
template <auto thunk>
const Bytes& code_of() {
  static const Bytes bytes = [] {
    Writer out;
    write_code(out, reinterpret_cast<const void*>(thunk));
    return std::move(out).take();
  }();
  return bytes;
}

template <class F>
CallableName name_of(const F& f) {
  if constexpr (is_function_pointer<F>) {
    return {type_name<F>(), reinterpret_cast<const void*>(f)};
  } else {
    return {type_name<F>(), nullptr};
  }
}

/// Writes an argument as the type that the parameter has, converting it only where it has another.
template <class To, class From>
void write_argument(Writer& out, From&& from) {
  if constexpr (std::is_same_v<std::remove_cvref_t<From>, To>) {
    out.value<To>(from);
  } else {
    out.value<To>(static_cast<To>(std::forward<From>(from)));
  }
}

/// The same for a call whose large parts may stay where they are. What was moved in stays there as it is; of what was not, the
/// value at this moment is meant, so it is copied.
template <class To, class From>
void write_argument(Writer& out, AttachmentWriter& large, From&& from) {
  if constexpr (std::is_same_v<From, To> && is_plain_contiguous<To>) {
    if (from.size() * sizeof(typename To::value_type) >= block_threshold) {
      large.notes().copy = false;
      out.value<To>(from);
      large.notes().copy = true;
      return large.take(from);
    }
  }
  write_argument<To>(out, std::forward<From>(from));
}

template <class Tuple>
struct WriteArguments;
template <class... T>
struct WriteArguments<std::tuple<T...>> {
  template <class... A>
  static void to(Writer& out, A&&... args) {
    (write_argument<T>(out, std::forward<A>(args)), ...);
  }
  template <class... A>
  static void with_large(Writer& out, AttachmentWriter& large, std::size_t& number, A&&... args) {
    ((++number, write_argument<T>(out, large, std::forward<A>(args))), ...);
  }
};

/// An argument of a call that was taken, descriptors and all, is as gone as a direct call would have left it: who waits for
/// the end of what it has passed must not wait for itself.
template <class To, class From>
void leave_argument(std::remove_reference_t<From>& from) noexcept {
  if constexpr (std::is_same_v<From, To> && std::is_nothrow_move_constructible_v<To> && !std::is_trivially_destructible_v<To> &&
                !is_plain_contiguous<To>) {
    [[maybe_unused]] const To gone(std::move(from));
  }
}

template <class Tuple>
struct LeaveArguments;
template <class... T>
struct LeaveArguments<std::tuple<T...>> {
  template <class... A>
  static void of(std::remove_reference_t<A>&... args) noexcept {
    (leave_argument<T, A>(args), ...);
  }
};

/// Refuses at compile time what the policy can't run.
template <class Policy, class F>
constexpr void require_callable() {
  if constexpr (!PortableCallable<F>) {
    static_assert(PortableCallable<F> || CopiesHost<Policy> || RunsInline<Policy>,
                  "brood: this callable has state that can't travel to a worker (a lambda with captures, a std::function, "
                  "a functor with private members). Pass what it captures as arguments of the task: "
                  "pool.submit([](int n) { ... }, n); or write a functor struct whose members are serializable; or use "
                  "Pool<ForkPolicy>, which runs it in a copy of the host");
  }
}

inline void require_function(const void* f) {
  if (f == nullptr) throw SerializationError("a task can't be a null function pointer");
}

/// Argument `number`, from 1 on, could not be written.
[[noreturn]] inline void refuse_argument(std::size_t number, const CallableName& name, const SerializationError& error) {
  throw SerializationError("argument " + std::to_string(number) + " of " + name.text() + ": " + error.what());
}

/// Empty when a call of that size is not.
inline std::string why_too_large(const Dispatcher& dispatcher, std::uint64_t size) {
  const std::uint64_t limit = dispatcher.options().max_message_bytes;
  if (size <= limit) return {};
  return "it is " + std::to_string(size) + " bytes long, more than PoolOptions::max_message_bytes (" + std::to_string(limit) +
         "); raise the limit, or pass a file name instead of its contents";
}

inline void require_size(const Dispatcher& dispatcher, const CallableName& name, std::uint64_t size) {
  const std::string why = why_too_large(dispatcher, size);
  if (!why.empty()) throw MessageTooLarge("the call of " + name.text() + " can't be sent to a worker: " + why);
}

/// f as an object that lives as long as the call of the pool: itself where it is one that can be changed, else a copy.
template <class F>
using HeldCallable = std::conditional_t<std::is_function_v<std::remove_reference_t<F>> || std::is_const_v<std::remove_reference_t<F>>,
                                        std::decay_t<F>, std::remove_reference_t<F>&>;

/// How a callable reaches the worker. Everything below depends on this and not on the policy, so that policies share it.
enum class Route : std::uint8_t {
  serialized,  ///< it travels
  snapshot,    ///< it is in a copy of the host
  inlined,     ///< it stays in the caller
};

template <class Policy, class F>
inline constexpr Route route_of = PortableCallable<F> ? Route::serialized
                                  : CopiesHost<Policy> ? Route::snapshot
                                                       : Route::inlined;

inline std::shared_ptr<const Bytes> shared_bytes(Writer&& out) {
  return std::make_shared<const Bytes>(std::move(out).take());
}

/// The time that a task may run: its own option, else the pool's; 0: any.
inline std::chrono::nanoseconds timeout_of(const Dispatcher& dispatcher, std::chrono::milliseconds own) {
  const auto wanted = own.count() != 0 ? own : dispatcher.options().task_timeout;
  constexpr auto longest = std::chrono::hours(24 * 365 * 10);  // beyond it, the clock's arithmetic
  return wanted > longest ? std::chrono::nanoseconds(0) : std::chrono::nanoseconds(wanted);
}

inline constexpr std::size_t usual_call = 128;  ///< bytes: a function and a few small arguments

/// Submits one call.
template <Route route, class F, class Types, class... Args>
void submit_call(const std::shared_ptr<Dispatcher>& dispatcher, const TaskPtr& task, const TaskOptions& options, F& f,
                 Args&&... args) {
  using Arguments = typename Types::Arguments;
  using Result = typename Types::Result;
  task->name = name_of<std::remove_const_t<F>>(f);
  task->timeout = timeout_of(*dispatcher, options.timeout);
  task->retries = options.retries;
  task->priority = options.priority;
  task->where = options.where;
  AttachmentWriter large;
  Writer out = Writer::of_call();
  out.bytes().reserve(usual_call);
  if (!dispatcher->policy().runs_inline) out.note_blocks(&large.notes());
  if (options.limits != Limits{} && !dispatcher->policy().runs_inline) {
    task->limited = true;
    write_limits(out, options.limits);
  }
  if constexpr (route == Route::serialized) {
    if constexpr (is_function_pointer<F>) require_function(reinterpret_cast<const void*>(f));
    out.raw(code_of<&run_call<F, Arguments, Result>>());
    if (task->landing) out.number(task->landing->room);
    write_callable<F>(out, f);
    std::size_t argument = 0;
    try {
      WriteArguments<Arguments>::with_large(out, large, argument, std::forward<Args>(args)...);
    } catch (const SerializationError& error) {
      refuse_argument(argument, task->name, error);
    }
    task->attachment = large.complete();
    task->kept = out.take_kept();
    const bool passes = descriptors_of(task->kept) != nullptr;
    require_size(*dispatcher, task->name, out.size() + (task->attachment ? task->attachment->size : 0));
    task->payload = shared_bytes(std::move(out));
    try {
      dispatcher->enqueue(task, Dispatcher::Caller::leaves);
    } catch (...) {
      if (task->id != 0) large.accepted();
      throw;
    }
    large.accepted();
    if (passes) LeaveArguments<Arguments>::template of<Args...>(args...);
  } else {
    // the state stays here: the snapshot, taken below, has it at the same address
    ClosureCall<F, Arguments> state{f, Arguments(std::forward<Args>(args)...)};
    out.raw(code_of<&run_closure<F, Arguments, Result>>());
    if (task->landing) out.number(task->landing->room);
    if constexpr (route == Route::snapshot && TravellingArguments<Arguments>::any) {
      TravellingArguments<Arguments>::write(out, state.arguments);
      task->kept = out.take_kept();
    }
    task->payload = shared_bytes(std::move(out));
    if constexpr (route == Route::snapshot) {
      const SnapshotLease lease(dispatcher, &state);
      task->source = lease.id();
      dispatcher->enqueue(task, Dispatcher::Caller::leaves);
    } else {
      dispatcher->enqueue(task, Dispatcher::Caller::leaves, &state);
    }
  }
}

/// The same under a policy; refuses at compile time what can't work. `Types` is what CallTypes says about the call.
template <class Policy, class Types, class F, class... Args>
void submit_task(const std::shared_ptr<Dispatcher>& dispatcher, const TaskPtr& task, const TaskOptions& options, F&& f,
                 Args&&... args) {
  using Function = std::decay_t<F>;
  require_callable<Policy, Function>();
  check_options(options);
  constexpr Route route = route_of<Policy, Function>;
  if constexpr (route == Route::serialized) RequireTuple<typename Types::Arguments>::check();
  HeldCallable<F> function = f;
  submit_call<route, Function, Types>(dispatcher, task, options, function, std::forward<Args>(args)...);
}

/// Whether a policy can run a callable.
template <class Policy, class F>
inline constexpr bool runs = PortableCallable<F> || CopiesHost<Policy> || RunsInline<Policy>;

/// Whether a policy can run a call of f, and what travels for the arguments can, as can what it returns.
template <class Policy, class F, class Types>
consteval bool can_be_submitted() {
  if constexpr (!Objection<Types>::none || !runs<Policy, F>) {
    return false;
  } else {
    using Result = typename Types::Result;
    if constexpr (route_of<Policy, F> == Route::serialized && !RequireTuple<typename Types::Arguments>::fits) {
      return false;
    } else if constexpr (std::is_void_v<Result>) {
      return true;
    } else {
      return can_be_sent<Result>();
    }
  }
}

/// Does not compile, with the one reason why a call can't be submitted.
template <class Policy, class F, class Types>
constexpr void refuse_call() {
  if constexpr (!Objection<Types>::none) {
    Objection<Types>::tell();
  } else if constexpr (!runs<Policy, F>) {
    require_callable<Policy, F>();
  } else if constexpr (route_of<Policy, F> == Route::serialized && !RequireTuple<typename Types::Arguments>::fits) {
    RequireTuple<typename Types::Arguments>::check();
  } else {
    require_serializable<typename Types::Result>();
  }
}

/// What a refused call returns, so that nothing more is said about it.
template <class F>
using RefusedResult = std::remove_cvref_t<typename Signature<F>::result>;

/// Submits a call whose result is a value.
template <class Policy, class F, class... Args>
auto submit_under(const std::shared_ptr<Dispatcher>& dispatcher, const TaskOptions& options, F&& f, Args&&... args) {
  using Types = CallTypes<std::decay_t<F>, Args&&...>;
  if constexpr (!can_be_submitted<Policy, std::decay_t<F>, Types>()) {
    refuse_call<Policy, std::decay_t<F>, Types>();
    return Future<RefusedResult<std::decay_t<F>>>();
  } else {
    using Result = typename Types::Result;
    const TaskPtr task = dispatcher->make_task();
    if constexpr (!std::is_void_v<Result>) task->assemble = assemble_of<Result>();
    submit_task<Policy, Types>(dispatcher, task, options, std::forward<F>(f), std::forward<Args>(args)...);
    return Future<Result>(task);
  }
}

}  // namespace brood::detail
