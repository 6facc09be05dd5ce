// SPDX-License-Identifier: MIT
// internal
// A call on the wire: the code of a thunk that knows the types, the callable, and its arguments. The thunk lives in the
// module that made the call, so it is the same template instance on both sides. Callables are of four kinds:
//
//   function    a function pointer: travels as {module, offset}
//   empty       a captureless lambda or an empty functor: nothing travels
//   value       a functor whose members are serializable: travels as a value
//   closure     anything else: can't travel; runs in a snapshot of the host, which holds it already (copied_host)
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/core/errors.hpp>
#include <brood/core/type_name.hpp>
#include <brood/wire/code_pointer.hpp>
#include <brood/wire/serializer.hpp>
#include <brood/worker/context.hpp>
#include <brood/worker/elements.hpp>

namespace brood::inline v0_1::detail {

/// Runs one task: reads callable and arguments, calls, writes the result. Throws what any of them throws.
using Thunk = void (*)(TaskContext& context, Reader& in, Writer& out);

// ---- signatures ----------------------------------------------------------------------------------------------------

template <class... P>
struct Params {
  static constexpr std::size_t count = sizeof...(P);
};

/// The parameters of a function, or of the only operator() of a functor, and what it returns; `void` and `int` when they can't be
/// known (a generic lambda, overloads).
template <class F>
struct Signature {
  using type = void;
  using result = int;
};
template <class R, class... P>
struct Signature<R (*)(P...)> {
  using type = Params<P...>;
  using result = R;
};
template <class R, class... P>
struct Signature<R (*)(P...) noexcept> : Signature<R (*)(P...)> {};

template <class M>
struct MemberSignature;
template <class R, class C, class... P>
struct MemberSignature<R (C::*)(P...)> {
  using type = Params<P...>;
  using result = R;
};
template <class R, class C, class... P>
struct MemberSignature<R (C::*)(P...) const> : MemberSignature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct MemberSignature<R (C::*)(P...)&> : MemberSignature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct MemberSignature<R (C::*)(P...) const&> : MemberSignature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct MemberSignature<R (C::*)(P...) noexcept> : MemberSignature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct MemberSignature<R (C::*)(P...) const noexcept> : MemberSignature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct MemberSignature<R (C::*)(P...) & noexcept> : MemberSignature<R (C::*)(P...)> {};
template <class R, class C, class... P>
struct MemberSignature<R (C::*)(P...) const & noexcept> : MemberSignature<R (C::*)(P...)> {};

template <class F>
  requires requires { typename MemberSignature<decltype(&F::operator())>::type; }
struct Signature<F> : MemberSignature<decltype(&F::operator())> {};

template <class F>
inline constexpr bool is_function_pointer = std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>;

template <class F>
inline constexpr bool is_empty_callable = std::is_class_v<F> && std::is_empty_v<F> && std::default_initializable<F>;

template <class F>
concept PortableCallable = is_function_pointer<F> || is_empty_callable<F> || (std::is_class_v<F> && Serializable<F>);

// ---- what travels for an argument ----------------------------------------------------------------------------------

// none of these is a concept: a compiler would say at length why one is not met
// what a reference binds to need not be copied: only its bytes are
template <class A, class P>
inline constexpr bool converts_to = (std::is_reference_v<P> && std::is_convertible_v<A, P> &&
                                     std::is_same_v<std::remove_cvref_t<A>, std::remove_cvref_t<P>>) ||
                                    std::is_convertible_v<A, std::remove_cvref_t<P>> ||
                                    std::is_constructible_v<std::remove_cvref_t<P>, A>;
template <class P>
inline constexpr bool takes_value = !std::is_lvalue_reference_v<P> || std::is_const_v<std::remove_reference_t<P>>;
template <class A, class P>
inline constexpr bool taken_over = !takes_over<std::remove_cvref_t<P>> ||
                                   std::is_same_v<std::remove_cvref_t<A>, std::remove_cvref_t<P>>;

/// One parameter P and the argument A that is given for it. `Param` void: the parameter's type is not known.
template <class P, class A>
struct Carried {
  static_assert(takes_value<P>,
                "brood: the task takes a parameter by non-const reference; a change of it would be lost in the worker. "
                "Take it by value or by const reference, and return what changed");
  static_assert(!takes_value<P> || converts_to<A, P>,
                "brood: an argument can't be converted to the parameter of the task: Carried<parameter, argument> names them. Pass a "
                "value of the parameter's type, or convert it at the call");
  static_assert(!converts_to<A, P> || taken_over<A, P>,
                "brood: the task takes a brood::Fd, and is given a number: hand the descriptor over with brood::Fd(fd), or a copy "
                "of it with brood::Fd::duplicate(fd)");
  using type = std::remove_cvref_t<P>;
};
template <class A>
struct Carried<void, A> {
  using type = std::decay_t<A>;
};

/// Of the wrong number of arguments, which was refused by then: nothing, so that no further error is told.
template <class Signature, class... A>
struct CarriedTuple {
  using type = std::tuple<>;
};

template <class... P, class... A>
  requires(sizeof...(P) == sizeof...(A))
struct CarriedTuple<Params<P...>, A...> {
  using type = std::tuple<typename Carried<P, A>::type...>;
};
template <class... A>
struct CarriedTuple<void, A...> {
  using type = std::tuple<typename Carried<void, A>::type...>;
};

template <class Signature, class... A>
inline constexpr bool arity_fits = true;
template <class... P, class... A>
inline constexpr bool arity_fits<Params<P...>, A...> = sizeof...(P) == sizeof...(A);

template <class Signature, class... A>
inline constexpr bool all_carried = true;
template <class... P, class... A>
  requires(sizeof...(P) == sizeof...(A))
inline constexpr bool all_carried<Params<P...>, A...> = ((takes_value<P> && converts_to<A, P> && taken_over<A, P>) && ...);

template <class F, class Tuple>
struct Applied;
template <class F, class... T>
struct Applied<F, std::tuple<T...>> {
  static constexpr bool invocable = std::is_invocable_v<F&, T&&...>;
  template <bool ok = invocable>
  static auto result() {
    if constexpr (ok) {
      return std::type_identity<std::invoke_result_t<F&, T&&...>>{};
    } else {
      return std::type_identity<void>{};
    }
  }
};

/// Everything about the call f(args...): what travels, and what comes back. Refuses what can't work, with words.
template <class F, class... A>
struct CallTypes {
  using Sig = typename Signature<F>::type;

  static_assert(!std::is_member_pointer_v<F>,
                "brood: a pointer to a member can't be a task; write a lambda that calls it: [](const T& object) { "
                "return object.member(); }");
  static_assert(arity_fits<Sig, A...>, "brood: the task is called with the wrong number of arguments; pass one for each parameter, also where it has a default");

  using Arguments = typename CarriedTuple<Sig, A...>::type;
  static_assert(!arity_fits<Sig, A...> || Applied<F, Arguments>::invocable,
                "brood: the task can't be called with these arguments (they arrive by value, as the types they have)");

  using Returned = typename decltype(Applied<F, Arguments>::result())::type;
  static_assert(!std::is_reference_v<Returned>,
                "brood: the task returns a reference, which would refer to the worker's memory; return a value");
  static_assert(!argument_only<std::remove_cv_t<Returned>>,
                "brood: a task can't return a SharedArray: its worker may end before the host has taken it. Make it in the "
                "host, pass it to the task, and let the task write into it");
  using Result = std::remove_cvref_t<Returned>;
};

/// Whether CallTypes has no objection.
template <class F, class... A>
consteval bool call_fits() {
  using Sig = typename Signature<F>::type;
  if constexpr (std::is_member_pointer_v<F> || !arity_fits<Sig, A...> || !all_carried<Sig, A...>) {
    return false;
  } else {
    using Call = Applied<F, typename CarriedTuple<Sig, A...>::type>;
    using Returned = typename decltype(Call::result())::type;
    return Call::invocable && !std::is_reference_v<Returned> && !argument_only<std::remove_cv_t<Returned>>;
  }
}

/// What is to be said against a call, as one error: a compiler that went on would say more, and none of it would help. `Types` that
/// are not CallTypes object themselves.
template <class Types>
struct Objection {
  static constexpr bool none = true;
};
template <class F, class... A>
struct Objection<CallTypes<F, A...>> {
  using Sig = typename Signature<F>::type;
  static constexpr bool none = call_fits<F, A...>();
  static constexpr void tell() {
    if constexpr (!std::is_member_pointer_v<F> && arity_fits<Sig, A...> && !all_carried<Sig, A...>) {
      static_cast<void>(sizeof(CarriedTuple<Sig, A...>));
    } else {
      static_cast<void>(sizeof(CallTypes<F, A...>));
    }
  }
};

template <class Tuple>
struct RequireTuple;
template <class... T>
struct RequireTuple<std::tuple<T...>> {
  static constexpr bool fits = (can_be_sent<T>() && ...);

  static constexpr bool check() {
    (require_serializable<T>(), ...);
    return true;
  }
};

// ---- thunks --------------------------------------------------------------------------------------------------------

template <class F>
void write_callable(Writer& out, const F& f) {
  if constexpr (is_function_pointer<F>) {
    write_code(out, reinterpret_cast<const void*>(f));
  } else if constexpr (!is_empty_callable<F>) {
    out.value(f);
  }
}

/// The callable as the worker has it.
template <class F>
F read_callable(Reader& in) {
  if constexpr (is_function_pointer<F>) {
    return reinterpret_cast<F>(read_code(in));
  } else if constexpr (is_empty_callable<F>) {
    return F();
  } else {
    return in.value<F>();
  }
}

template <class T>
struct ReadTuple;
template <class... T>
struct ReadTuple<std::tuple<T...>> {
  static std::tuple<T...> from(Reader& in) { return std::tuple<T...>{in.value<T>()...}; }
};
template <>
struct ReadTuple<std::tuple<>> {
  static std::tuple<> from(Reader&) { return {}; }
};

/// What a call returns. It lives until its large parts were sent, longer than the arguments.
template <class Result>
class Returned {
 public:
  Returned() = default;
  Returned(const Returned&) = delete;
  Returned& operator=(const Returned&) = delete;
  ~Returned() {
    if (there_) value().~Result();
  }

  template <class F, class Tuple>
  const Result& from(F& f, Tuple&& arguments) {
    ::new (static_cast<void*>(room_)) Result(std::apply(f, std::move(arguments)));
    there_ = true;
    return value();
  }

  // how it travels: what the call says about it in front of the rest, and what it is on the wire
  void expect(Reader& /*in*/) noexcept {}
  void write(Writer& out, const Result& result) { out.value<Result>(result); }

 private:
  Result& value() noexcept { return *std::launder(reinterpret_cast<Result*>(room_)); }

  alignas(Result) std::byte room_[sizeof(Result)];
  bool there_ = false;
};
template <>
class Returned<void> {
 public:
  void expect(Reader& /*in*/) noexcept {}
};
template <class R>
class Returned<Elements<R>> : public Returned<R> {
 public:
  void expect(Reader& in) { room_ = in.number<std::uint64_t>(); }
  void write(Writer& out, const R& result) { write_for_room(out, result, room_); }

 private:
  std::uint64_t room_ = 0;
};

/// Calls, and writes what comes back.
template <class Result, class F, class Tuple>
void invoke_into(Writer& out, Returned<Result>& returned, F& f, Tuple&& arguments) {
  if constexpr (!Applied<F, std::remove_cvref_t<Tuple>>::invocable) {
    static_cast<void>(out);  // refused at the call, with words
  } else if constexpr (std::is_void_v<Result>) {
    std::apply(f, std::move(arguments));
  } else {
    returned.write(out, returned.from(f, std::move(arguments)));
  }
}
template <class Result, class F, class Tuple>
void invoke_into(Writer& out, F& f, Tuple&& arguments) {
  Returned<Result> returned;
  invoke_into(out, returned, f, std::move(arguments));
}

/// Sends a result that has large parts; the worker sends any other when the thunk has returned.
inline void send_large(TaskContext& context, Writer& out) {
  if (out.notes() != nullptr && !out.notes()->blocks.empty()) context.sender->send_result(out);
}

/// The thunk of a single call.
template <class F, class Arguments, class Result>
void run_call(TaskContext& context, Reader& in, Writer& out) {
  const ContextScope scope(context);
  Returned<Result> returned;
  returned.expect(in);
  {
    F f = read_callable<F>(in);
    Arguments arguments = ReadTuple<Arguments>::from(in);
    in.finish();
    invoke_into(out, returned, f, std::move(arguments));
  }
  send_large(context, out);
}

/// A call that stays where it is made.
template <class F, class Arguments>
struct ClosureCall {
  F& f;
  Arguments arguments;
};

/// The arguments of a closure that travel all the same (channels: the snapshot's copies are closed). In a task that runs in its
/// caller they stay where they are.
template <class Tuple, class Indices = std::make_index_sequence<std::tuple_size_v<Tuple>>>
struct TravellingArguments;
template <class... T, std::size_t... I>
struct TravellingArguments<std::tuple<T...>, std::index_sequence<I...>> {
  static constexpr bool any = (always_travels<T> || ...);

  static void write(Writer& out, const std::tuple<T...>& arguments) {
    const auto one = [&]<class U>(const U& value) {
      if constexpr (always_travels<U>) out.value<U>(value);
    };
    (one(std::get<I>(arguments)), ...);
  }
  static void read(Reader& in, std::tuple<T...>& arguments, bool stays) {
    const auto one = [&]<class U>(U& value) {
      if constexpr (always_travels<U>) {
        if (stays) return Serializer<U>::stay(value);
        ::new (static_cast<void*>(&value)) U(in.value<U>());  // what is there means nothing here, and closes nothing
      }
    };
    (one(std::get<I>(arguments)), ...);
  }
};

/// The thunk of a single call in a snapshot, or in the caller: callable and arguments are there already.
template <class F, class Arguments, class Result>
void run_closure(TaskContext& context, Reader& in, Writer& out) {
  const ContextScope scope(context);
  Returned<Result> returned;
  returned.expect(in);
  auto& call = *static_cast<ClosureCall<F, Arguments>*>(const_cast<void*>(context.snapshot));
  if constexpr (TravellingArguments<Arguments>::any) {
    TravellingArguments<Arguments>::read(in, call.arguments, context.page == nullptr);
  }
  in.finish();
  invoke_into(out, returned, call.f, std::move(call.arguments));
  send_large(context, out);
}

}  // namespace brood::detail
