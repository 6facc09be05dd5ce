// SPDX-License-Identifier: MIT
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/core/errors.hpp>
#include <brood/core/type_name.hpp>
#include <brood/wire/code_pointer.hpp>
#include <brood/wire/serializer.hpp>
#include <brood/worker/context.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// Builds a Preload in the server from its arguments. It lives as long as the process.
using BuildPreload = const void* (*)(Reader& arguments);

template <class T, class... Args>
const void* build_preload(Reader& in) {
  std::tuple<Args...> values{in.value<Args>()...};  // braces: read from left to right
  in.finish();
  return std::apply([](Args&... each) { return static_cast<const void*>(new T(std::move(each)...)); }, values);
}

/// Whether T has a member with the name after_fork, of whatever kind and access: then the name is ambiguous in a class
/// that inherits another one. A final class shows only what can be named.
template <class T>
consteval bool names_after_fork() {
  if constexpr (std::is_class_v<T> && !std::is_final_v<T>) {
    struct Other {
      int after_fork;
    };
    struct Both : T, Other {};
    return !requires { &Both::after_fork; };
  } else {
    return requires(T& object) { &T::after_fork; } || requires(T& object) { object.after_fork(); };
  }
}

/// The hook of a Preload, or null. It may change the object: a worker's copy is its own.
template <class T>
constexpr auto after_fork_of() -> void (*)(const void* object) {
  if constexpr (names_after_fork<T>()) {
    constexpr bool fits = requires(T& object) {
      { object.after_fork() } -> std::same_as<void>;
    };
    static_assert(fits, "brood: ForkServerPolicy<...>: after_fork of a Preload is called in each worker and must be a public "
                        "`void after_fork()`, const or not; rename the member if it is something else");
    if constexpr (fits) {
      return [](const void* object) { static_cast<T*>(const_cast<void*>(object))->after_fork(); };
    }
  }
  return nullptr;
}

}  // namespace detail

/// The constructor arguments of a Preload, on their way to the server. Made by preload_args<T>().
/// \snippet reference.cpp ForkServerPolicy
template <class T>
class PreloadArgs {
 public:
  /// No arguments.
  PreloadArgs() requires std::default_initializable<T> : build_(&detail::build_preload<T>) {}

  /// What preload_args does, with arguments of the types that are to travel.
  template <class... Args>
  static PreloadArgs make(const Args&... args) {
    PreloadArgs result(&detail::build_preload<T, Args...>);
    Writer out = Writer::of_call();
    (out.value(args), ...);
    result.kept_ = out.take_kept();
    if (detail::descriptors_of(result.kept_) != nullptr) Writer::fail(detail::why_no_descriptor);
    result.arguments_ = std::string(reinterpret_cast<const char*>(out.view().data()), out.size());
    return result;
  }

  // internal
  detail::BuildPreload build() const noexcept { return build_; }
  const std::string& arguments() const noexcept { return arguments_; }
  const std::shared_ptr<const void>& kept() const noexcept { return kept_; }

 private:
  explicit PreloadArgs(detail::BuildPreload builder) : build_(builder) {}

  detail::BuildPreload build_;
  std::string arguments_;
  std::shared_ptr<const void> kept_;
};

namespace detail {

template <class Arg>
auto as_preload_argument(Arg&& arg) {
  if constexpr (std::convertible_to<Arg, std::string> && std::is_pointer_v<std::decay_t<Arg>>) {
    return std::string(arg);  // a text literal
  } else {
    return std::decay_t<Arg>(std::forward<Arg>(arg));
  }
}

}  // namespace detail

/// Constructor arguments for the Preload T: `ForkServerPolicy<Model>{preload_args<Model>("m.bin")}`. They are serialized
/// to the server, as their decayed types; text literals travel as std::string. Throws what their serializers throw.
/// \snippet reference.cpp ForkServerPolicy
template <class T, class... Args>
PreloadArgs<T> preload_args(Args&&... args) {
  static_assert(std::constructible_from<T, decltype(detail::as_preload_argument(std::forward<Args>(args)))...>,
                "brood: preload_args<T>(args...): T has no constructor for these arguments");
  return PreloadArgs<T>::make(detail::as_preload_argument(std::forward<Args>(args))...);
}

/// The server's T under ForkServerPolicy<..., T, ...>, shared copy-on-write by all its workers. Under the other policies
/// it is default-built at its first use, once in each worker (InlinePolicy: once in the host, and what it was given
/// preload_args for by each pool), so that code does not change with the policy. Complexity: linear in the number of
/// Preloads, no system call. Throws Error when T is no Preload of the pool and has no default constructor, and what its
/// constructor throws.
/// \snippet reference.cpp ForkServerPolicy
template <class T>
const T& preloaded() {
  static_assert(std::is_same_v<T, std::remove_cvref_t<T>>, "brood: preloaded<T>(): name the type without const and &");
  const auto* const context = detail::current_context();
  if (context != nullptr && context->preloaded != nullptr) {
    for (const detail::PreloadedObject& each : *context->preloaded) {
      if (each.type != detail::type_name<T>()) continue;
      if (!detail::is_local_name(each.type) || each.key == detail::type_key<T>()) return *static_cast<const T*>(each.object);
    }
  }
  if constexpr (std::default_initializable<T>) {
    static const T* const own = new T();  // never destroyed: a worker leaves without running destructors
    return *own;
  } else {
    throw Error("preloaded<" + std::string(detail::type_name<T>()) +
                ">(): this pool's policy does not preload it, and it can't be built here because it has no default "
                "constructor; name it in ForkServerPolicy<...>, or give InlinePolicy its preload_args");
  }
}

/// A text as a template argument: the file name of SharedLibrary.
/// \snippet reference.cpp SharedLibrary
template <std::size_t N>
struct FixedString {
  /// From a text literal.
  // NOLINTNEXTLINE(google-explicit-constructor): SharedLibrary<"libfoo.so"> needs the conversion
  consteval FixedString(const char (&literal)[N]) { std::copy_n(literal, N, text); }
  /// The text, with its 0.
  char text[N];
};

/// A Preload that opens a shared library (dlopen(3), RTLD_NOW | RTLD_GLOBAL) in the server, so that no worker has to:
/// `ForkServerPolicy<SharedLibrary<"libfoo.so">>`. Throws Error with the dynamic linker's reason.
/// \snippet reference.cpp SharedLibrary
template <FixedString Path>
class SharedLibrary {
 public:
  /// Opens it. Throws Error.
  SharedLibrary() : handle_(::dlopen(Path.text, RTLD_NOW | RTLD_GLOBAL)) {
    if (handle_ == nullptr) throw Error(reason());
  }
  SharedLibrary(const SharedLibrary&) = delete;
  SharedLibrary& operator=(const SharedLibrary&) = delete;
  /// Closes it.
  ~SharedLibrary() { ::dlclose(handle_); }

  /// The function or object with this name: `preloaded<SharedLibrary<"libm.so.6">>().symbol<double(double)>("cos")`.
  /// Its type is taken on trust. Throws Error when there is none.
  template <class T>
  T* symbol(const char* name) const {
    void* const found = ::dlsym(handle_, name);
    if (found == nullptr) throw Error(reason());
    return reinterpret_cast<T*>(found);
  }

 private:
  static std::string reason() {
    const char* const text = ::dlerror();
    return std::string("SharedLibrary: ") + (text != nullptr ? text : Path.text);
  }

  void* handle_;
};

}  // namespace brood
