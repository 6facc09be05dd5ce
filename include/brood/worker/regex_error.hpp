// SPDX-License-Identifier: MIT
// Including this lets std::regex_error cross as itself. Apart, because <regex> takes long to compile.
#pragma once

#include <exception>
#include <regex>
#include <string_view>

#include <brood/worker/standard_exceptions.hpp>

namespace brood {
namespace detail {

inline bool write_regex_error(const std::exception_ptr& exception, Writer& out) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::regex_error& caught) {
    out.number<int>(caught.code());
    return true;
  } catch (...) {
    return false;
  }
}

inline std::exception_ptr read_regex_error(Reader& in, std::string_view said, Origin origin,
                                           const std::exception_ptr& nested) {
  std::regex_error error(static_cast<std::regex_constants::error_type>(in.number<int>()));
  return make_remote(WithText<std::regex_error>(std::move(error), said), origin, nested);
}

}  // namespace detail

/// Whether std::regex_error crosses as itself: true, by including this header.
inline const bool regex_error_registered = [] {
  detail::ExceptionRegistry::instance().add(
      {detail::exception_name<std::regex_error>(), &detail::write_regex_error, &detail::read_regex_error});
  return true;
}();

}  // namespace brood
