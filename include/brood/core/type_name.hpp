// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cxxabi.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

namespace brood::inline v0_1::detail {

// internal: taken apart below; its own spelling is the only portable way to a name without RTTI
template <class T>
constexpr std::string_view pretty_function() noexcept {
  return __PRETTY_FUNCTION__;
}

/// What stands in brood's own names and is nobody's business.
inline constexpr std::string_view version_namespace = "brood::v0_1::";
inline constexpr std::size_t size_of_brood = 7;  ///< of what is left of it

/// The name of a type of brood's without that.
template <class T, std::size_t MaxSize>
struct WithoutVersion {
  struct Text {
    std::array<char, MaxSize> text{};
    std::size_t size = 0;
  };
  static constexpr Text value = [] {
    Text result;
    std::string_view name = pretty_function<T>();
    name = name.substr(name.find("T = ") + 4, MaxSize);
    while (!name.empty()) {
      const bool versioned = name.starts_with(version_namespace);
      const std::size_t kept = versioned ? size_of_brood : 1;
      for (std::size_t i = 0; i != kept; ++i) result.text[result.size++] = name[i];
      name.remove_prefix(versioned ? version_namespace.size() : 1);
    }
    return result;
  }();
};

/// The name of T as the compiler spells it, for messages. The same type has the same name in every image that was
/// built by the same compiler. Complexity: constant, no allocation.
template <class T>
constexpr std::string_view type_name() noexcept {
  constexpr std::string_view text = pretty_function<T>();
  constexpr std::size_t start = text.find("T = ") + 4;
  constexpr std::size_t semicolon = text.find("; std::string_view", start);  // GCC appends the alias' meaning
  constexpr std::size_t end = semicolon == std::string_view::npos ? text.rfind(']') : semicolon;
  constexpr std::string_view name = text.substr(start, end - start);
  if constexpr (name.find(version_namespace) == std::string_view::npos) {
    return name;
  } else {
    return {WithoutVersion<T, name.size()>::value.text.data(), WithoutVersion<T, name.size()>::value.size};
  }
}

/// Tells types with the same name apart that are local to their source files. Other types may have several keys, one in
/// each shared library.
template <class T>
const void* type_key() noexcept {
  static const char key = 0;
  return &key;
}

/// Whether a type may share its name with another one: it is in an unnamed namespace, or has no name.
constexpr bool is_local_name(std::string_view name) noexcept {
  for (const std::string_view mark : {"{anonymous}", "<unnamed", "<lambda", "(anonymous", "(unnamed", "(lambda"}) {
    if (name.find(mark) != std::string_view::npos) return true;
  }
  return false;
}

/// A mangled name (from type_info or dladdr) in readable form; the name itself when it can't be read.
inline std::string demangled(const char* mangled) {
  int status = 0;
  std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
  if (status != 0 || !text) return mangled;
  std::string name(text.get());
  for (std::size_t at = 0; (at = name.find(version_namespace, at)) != std::string::npos; at += size_of_brood) {
    name.replace(at, version_namespace.size(), "brood::");
  }
  return name;
}

/// A type's or a function's name for messages, whichever compiler it comes from: std::string is called that, the ABI's
/// marks are left out, and a lambda is <lambda(int)>. Names that are compared are not to be changed like this.
inline std::string readable_name(std::string name) {
  const auto replace_all = [&](std::string_view what, std::string_view by) {
    for (std::size_t at = 0; (at = name.find(what, at)) != std::string::npos; at += by.size()) name.replace(at, what.size(), by);
  };
  replace_all("std::__cxx11::", "std::");
  replace_all("[abi:cxx11]", "");
  replace_all("std::basic_string<char, std::char_traits<char>, std::allocator<char> >", "std::string");
  replace_all("std::basic_string<char, std::char_traits<char>, std::allocator<char>>", "std::string");
  replace_all("std::basic_string<char>", "std::string");
  for (std::size_t start = 0; (start = name.rfind("{lambda(")) != std::string::npos;) {  // the inner ones first
    const std::size_t end = name.find('}', start);
    const std::size_t number = end == std::string::npos ? end : name.rfind(")#", end);
    if (number == std::string::npos || number < start) break;
    name.replace(number + 1, end - number, ">");
    name[start] = '<';
  }
  return name;
}

}  // namespace brood::detail
