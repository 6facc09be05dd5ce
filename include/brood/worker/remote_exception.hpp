// SPDX-License-Identifier: MIT
// Exceptions as data: what a task throws is taken apart in the worker and put together again in the host, with its
// type where the host knows how. An exception on the wire is a chain, the outermost first (std::throw_with_nested):
//
//   name of the type, what() (cut at 64 KiB), the bytes to rebuild it from (empty: can't be rebuilt), whether a nested
//   one follows
#pragma once

#include <cxxabi.h>

#include <concepts>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

#include <brood/core/errors.hpp>
#include <brood/core/type_name.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/serializer.hpp>
#include <brood/wire/writer.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// Where an exception comes from.
struct Origin {
  pid_t pid = 0;
  TaskId task = 0;
};

/// E as it is thrown in the host. Has the text of the original where what() is E's to choose, and is a FromTask.
template <class E, class... Mixins>
class Remote final : public E, public FromTask, public Mixins... {
 public:
  Remote(E&& original, Origin origin) : E(std::move(original)), FromTask(origin.pid, origin.task) {}
};

/// E, which is a FromTask already, with the exception that it nests.
template <class E>
class WithNested final : public E, public std::nested_exception {
 public:
  explicit WithNested(E&& original) : E(std::move(original)) {}
};

/// Builds the exception_ptr for E, with the exception that it nests when there is one.
template <class E>
std::exception_ptr make_remote(E original, Origin origin, const std::exception_ptr& nested) {
  if constexpr (!std::is_class_v<E> || std::is_final_v<E>) {
    return std::make_exception_ptr(std::move(original));
  } else if constexpr (std::is_base_of_v<FromTask, E>) {
    if (!nested) return std::make_exception_ptr(std::move(original));
    try {
      std::rethrow_exception(nested);
    } catch (...) {
      return std::make_exception_ptr(WithNested<E>(std::move(original)));
    }
  } else {
    if (!nested) return std::make_exception_ptr(Remote<E>(std::move(original), origin));
    if constexpr (!std::is_base_of_v<std::nested_exception, E>) {
      try {
        std::rethrow_exception(nested);
      } catch (...) {  // std::nested_exception takes what is being handled
        return std::make_exception_ptr(Remote<E, std::nested_exception>(std::move(original), origin));
      }
    }
    return std::make_exception_ptr(Remote<E>(std::move(original), origin));
  }
}

/// How one type of exception is taken apart and put together.
struct ExceptionType {
  std::string name;  ///< as typeid has it, demangled
  /// Writes the exception if it is an E; false if it is none.
  bool (*write)(const std::exception_ptr& exception, Writer& out);
  std::exception_ptr (*read)(Reader& in, std::string_view said, Origin origin, const std::exception_ptr& nested);
};

/// The types that register_exception was called for, in this process. Thread-safe.
class ExceptionRegistry {
 public:
  static ExceptionRegistry& instance() {
    static ExceptionRegistry* const registry = new ExceptionRegistry;  // tasks may end after static destructors ran
    return *registry;
  }

  void add(ExceptionType type) {
    const std::lock_guard lock(mutex_);
    ++changes_;
    for (ExceptionType& known : types_) {
      if (known.name == type.name) {
        known = std::move(type);
        return;
      }
    }
    types_.push_back(std::move(type));
  }

  std::optional<ExceptionType> find(std::string_view name) const {
    const std::lock_guard lock(mutex_);
    for (const ExceptionType& known : types_) {
      if (known.name == name) return known;
    }
    return std::nullopt;
  }

  std::vector<ExceptionType> all() const {
    const std::lock_guard lock(mutex_);
    return types_;
  }

  /// Another number after each add.
  std::uint64_t changes() const {
    const std::lock_guard lock(mutex_);
    return changes_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<ExceptionType> types_;
  std::uint64_t changes_ = 0;
};

/// Where the first of a list of template arguments ends.
inline std::size_t end_of_argument(std::string_view list) noexcept {
  int depth = 0;
  for (std::size_t at = 0; at < list.size(); ++at) {
    const char c = list[at];
    if (depth == 0 && (c == ',' || c == '>')) return at;
    if (c == '<' || c == '(') ++depth;
    if (c == '>' || c == ')') --depth;
  }
  return list.size();
}

/// The name of the type behind those that wrap it: std::throw_with_nested's, and ours, when a task hands on what a task
/// of a pool of its own threw.
inline std::string_view without_wrappers(std::string_view name) noexcept {
  for (bool wrapped = true; wrapped;) {
    wrapped = false;
    for (const std::string_view wrapper :
         {"std::_Nested_exception<", "std::__1::__nested<", "std::__nested<", "brood::detail::Remote<",
          "brood::detail::RemoteStandard<", "brood::detail::WithNested<"}) {
      if (!name.starts_with(wrapper)) continue;
      name.remove_prefix(wrapper.size());
      name = name.substr(0, end_of_argument(name));
      while (name.ends_with(' ')) name.remove_suffix(1);
      wrapped = true;
    }
  }
  return name;
}

template <class E>
std::string exception_name() {
  return demangled(typeid(E).name());
}

template <class E>
concept RebuiltFromText = std::constructible_from<E, std::string> || std::constructible_from<E, const char*>;

template <class E>
bool write_registered(const std::exception_ptr& exception, Writer& out) {
  try {
    std::rethrow_exception(exception);
  } catch (const E& caught) {
    if constexpr (Serializable<E>) out.value(caught);
    return true;
  } catch (...) {
    return false;
  }
}

template <class E>
std::exception_ptr read_registered(Reader& in, std::string_view said, Origin origin, const std::exception_ptr& nested) {
  if constexpr (Serializable<E>) {
    return make_remote<E>(in.value<E>(), origin, nested);
  } else if constexpr (std::constructible_from<E, std::string>) {
    return make_remote<E>(E(std::string(said)), origin, nested);
  } else {
    return make_remote<E>(E(std::string(said).c_str()), origin, nested);
  }
}

}  // namespace detail

/// Lets exceptions of type E cross from a task to the host as what they are, so that `catch (const E&)` works there.
/// What arrives is also a FromTask, unless E is final. E is rebuilt through its Serializer when it is serializable,
/// else from the text of its what(). To be called before the pool is made; calling it again does nothing. Returns true,
/// so that it can initialize a variable at namespace scope.
/// \snippet failures.cpp register_exception
template <class E>
bool register_exception() {
  static_assert(std::is_same_v<E, std::remove_cvref_t<E>>, "brood: register_exception<E>: name the type without const and &");
  static_assert(Serializable<E> || (std::derived_from<E, std::exception> && detail::RebuiltFromText<E>),
                "brood: register_exception<E>: E can't be rebuilt in the host; make it constructible from the text of "
                "its what() (a std::string), or serializable: write a brood::Serializer<E>");
  detail::ExceptionRegistry::instance().add(
      {detail::exception_name<E>(), &detail::write_registered<E>, &detail::read_registered<E>});
  return true;
}

namespace detail {

inline constexpr std::size_t max_exception_text = std::size_t{64} << 10;
inline constexpr int max_exception_chain = 16;

}  // namespace detail
}  // namespace brood
