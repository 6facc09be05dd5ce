// SPDX-License-Identifier: MIT
// internal
// The standard library's exceptions, each rebuilt as its own type.
#pragma once

#include <brood/core/config.hpp>

#if BROOD_BODIES
#include <any>
#include <array>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <memory>
#include <new>
#include <optional>
#include <regex>
#include <stdexcept>
#include <system_error>
#include <typeinfo>
#include <variant>
#endif
#include <exception>
#include <span>
#include <string>
#include <string_view>

#include <brood/worker/remote_exception.hpp>

namespace brood::inline v0_1::detail {

/// Takes an exception apart, with the chain that it nests.
BROOD_INLINE void write_exception(Writer& out, const std::exception_ptr& exception, int level = 0);

/// What is known of an exception before it is rebuilt.
struct ExceptionSummary {
  std::string type;
  std::string said;
};

BROOD_INLINE ExceptionSummary summarize_exception(std::span<const std::byte> bytes);

/// Puts an exception together again. One whose type is not known here, or whose own code can't rebuild it, becomes a
/// TaskError. Throws SerializationError when the bytes are no exception. `where` goes in front of a TaskError's text.
BROOD_INLINE std::exception_ptr read_exception(Reader& in, Origin origin, const std::string& where);

#if BROOD_BODIES

/// What every exception has that is put together again: what it said, where it comes from, what it nests.
struct Remains {
  std::string_view said;
  Origin origin;
  const std::exception_ptr& nested;
};

/// E as it is thrown in the host, with the text that the original's what() had. One class, not layers of them: every program
/// has it twice for each standard exception, so each function of it is compiled fifty times.
template <class E, class... Mixins>
class RemoteStandard final : public E, public FromTask, public Mixins... {
 public:
  template <class... Parts>
  explicit RemoteStandard(const Remains& of, const Parts&... parts)
      : E(parts...), FromTask(of.origin.pid, of.origin.task), text_(std::make_shared<const std::string>(of.said)) {}
  const char* what() const noexcept override { return text_->c_str(); }

 private:
  std::shared_ptr<const std::string> text_;  // copies of exceptions must not throw
};

/// Builds E from `parts`. Throws what building it throws.
template <class E, class... Parts>
std::exception_ptr remote_standard(const Remains& of, const Parts&... parts) {
  try {
    if (!of.nested) throw RemoteStandard<E>(of, parts...);
    try {
      std::rethrow_exception(of.nested);
    } catch (...) {  // std::nested_exception takes what is being handled
      throw RemoteStandard<E, std::nested_exception>(of, parts...);
    }
  } catch (const FromTask&) {
    return std::current_exception();
  }
}

template <class E>
std::exception_ptr read_standard(Reader& in, std::string_view said, Origin origin, const std::exception_ptr& nested) {
  const Remains of{said, origin, nested};
  if constexpr (std::same_as<E, std::filesystem::filesystem_error>) {
    const auto code = in.value<std::error_code>();
    const std::filesystem::path first(in.text());
    const std::filesystem::path second(in.text());
    return remote_standard<E>(of, std::string(said), first, second, code);
  } else if constexpr (std::derived_from<E, std::ios_base::failure>) {
    return remote_standard<E>(of, std::string(said), in.value<std::error_code>());
  } else if constexpr (std::derived_from<E, std::system_error>) {
    return remote_standard<E>(of, in.value<std::error_code>());
  } else if constexpr (std::same_as<E, std::future_error>) {
    return remote_standard<E>(of, static_cast<std::future_errc>(in.value<std::error_code>().value()));
  } else if constexpr (std::same_as<E, std::regex_error>) {
    const int code = in.number<int>();
    if (code < 0 || code > 15) {  // an enum with no type of its own below it holds no other number
      throw SerializationError("bytes can't be decoded: a std::regex_constants::error_type holds " + std::to_string(code));
    }
    return remote_standard<E>(of, static_cast<std::regex_constants::error_type>(code));
  } else if constexpr (std::constructible_from<E, std::string>) {
    return remote_standard<E>(of, std::string(said));
  } else {
    return remote_standard<E>(of);
  }
}

/// Writes what is in an E beside its text. Of most nothing is; they were found by the name of their type, so that is what
/// they are.
template <class E>
bool write_standard(const std::exception_ptr& exception, Writer& out) {
  if constexpr (requires(const E& caught) { caught.code(); }) {
    try {
      std::rethrow_exception(exception);
    } catch (const E& caught) {
      if constexpr (std::same_as<E, std::regex_error>) {
        out.number<int>(caught.code());
      } else {
        out.value<std::error_code>(caught.code());
      }
      if constexpr (std::same_as<E, std::filesystem::filesystem_error>) {
        out.text(caught.path1().native());
        out.text(caught.path2().native());
      }
    } catch (...) {
      return false;
    }
  }
  return true;
}

template <class... E>
std::vector<ExceptionType>* describe_exceptions() {
  auto* const table = new std::vector<ExceptionType>;
  (table->push_back({demangled(typeid(E).name()), &write_standard<E>, &read_standard<E>}), ...);
  return table;
}

/// The table of the standard library's exceptions, made at its first use.
BROOD_INLINE const std::vector<ExceptionType>& standard_exceptions() {
  static const auto* const table = describe_exceptions<
      std::exception, std::logic_error, std::domain_error, std::invalid_argument, std::length_error, std::out_of_range,
      std::future_error, std::runtime_error, std::range_error, std::overflow_error, std::underflow_error,
      std::regex_error, std::system_error, std::ios_base::failure, std::filesystem::filesystem_error, std::bad_alloc,
      std::bad_array_new_length, std::bad_cast, std::bad_any_cast, std::bad_typeid, std::bad_exception,
      std::bad_optional_access, std::bad_variant_access, std::bad_function_call, std::bad_weak_ptr>();
  return *table;
}

BROOD_INLINE std::optional<ExceptionType> find_exception_type(std::string_view name) {
  static const std::string stream_failure = exception_name<std::ios_base::failure>();
  if (name == "std::__ios_failure") name = stream_failure;  // what libstdc++'s streams throw for it
  if (auto registered = ExceptionRegistry::instance().find(name)) return registered;
  for (const ExceptionType& type : standard_exceptions()) {
    if (type.name == name) return type;
  }
  return std::nullopt;
}

BROOD_INLINE void write_exception(Writer& out, const std::exception_ptr& exception, int level) {
  std::string type = "an unknown type";
  std::string said;
  std::exception_ptr nested;
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& caught) {
    type = without_wrappers(demangled(typeid(caught).name()));
    const char* const text = caught.what();
    said = text != nullptr ? text : "";
    if (const auto* const chain = dynamic_cast<const std::nested_exception*>(&caught)) nested = chain->nested_ptr();
  } catch (...) {
    if (const std::type_info* const thrown = ::abi::__cxa_current_exception_type()) {
      type = without_wrappers(demangled(thrown->name()));
    }
  }
  if (said.size() > max_exception_text) said.resize(max_exception_text);

  Writer parts;
  const auto known = find_exception_type(type);
  bool rebuildable = false;
  try {
    rebuildable = known && known->write(exception, parts);
  } catch (const std::exception& failure) {
    said += std::string(" (and it could not be sent as what it is: ") + failure.what() + ")";
  }
  out.text(type);
  out.text(said);
  out.number(rebuildable);
  if (rebuildable) out.text({reinterpret_cast<const char*>(parts.view().data()), parts.view().size()});
  const bool follow = nested != nullptr && level + 1 < max_exception_chain;
  out.number(follow);
  if (follow) write_exception(out, nested, level + 1);
}

BROOD_INLINE ExceptionSummary summarize_exception(std::span<const std::byte> bytes) {
  Reader in(bytes);
  ExceptionSummary summary;
  summary.type = in.text();
  summary.said = in.text();
  return summary;
}

BROOD_INLINE std::exception_ptr read_exception(Reader& in, Origin origin, const std::string& where) {
  const Reader::Nested level(in);
  const std::string type(in.text());
  const std::string said(in.text());
  std::span<const std::byte> parts;
  const bool rebuildable = in.number<bool>();
  if (rebuildable) parts = in.raw(in.count());
  std::exception_ptr nested;
  if (in.number<bool>()) nested = read_exception(in, origin, where);

  std::string trouble;
  if (const auto known = rebuildable ? find_exception_type(type) : std::nullopt) {
    try {
      Reader own(parts);
      std::exception_ptr result = known->read(own, said, origin, nested);
      own.finish();
      return result;
    } catch (const std::exception& failure) {
      trouble = std::string(" (it could not be rebuilt: ") + failure.what() + ")";
    } catch (...) {
      trouble = " (it could not be rebuilt)";
    }
  }
  const std::string message = where + " threw " + readable_name(type) + (said.empty() ? "" : ": " + said) + trouble;
  return make_remote(TaskError(message, readable_name(type), said, origin.pid, origin.task), origin, nested);
}

#endif  // BROOD_BODIES

}  // namespace brood::detail
