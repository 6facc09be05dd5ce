// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include <brood/worker/failure.hpp>

namespace brood::inline v0_1 {
namespace detail {

inline const Failure& require_failure(const std::optional<Failure>& failure) {
  if (!failure) throw std::bad_variant_access();
  return *failure;
}

}  // namespace detail

/// What became of a task: a value or a Failure. Converts to true when there is a value.
/// \snippet reference.cpp Outcome
template <class R>
class Outcome {
 public:
  /// A value.
  Outcome(R value) : value_(std::in_place, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  /// Why there is none.
  Outcome(Failure failure) : failure_(std::move(failure)) {}     // NOLINT(google-explicit-constructor)

  /// Whether there is a value.
  bool has_value() const noexcept { return value_.has_value(); }
  /// Whether there is a value.
  explicit operator bool() const noexcept { return has_value(); }

  /// The value. Throws what the task's Future::get would throw when there is none.
  R& value() & {
    require();
    return *value_;
  }
  const R& value() const& {
    require();
    return *value_;
  }
  R&& value() && {
    require();
    return *std::move(value_);
  }

  /// The same as value().
  R& operator*() & { return value(); }
  const R& operator*() const& { return value(); }
  R&& operator*() && { return std::move(*this).value(); }
  /// A member of the value. Throws what value() throws.
  R* operator->() { return &value(); }
  const R* operator->() const { return &value(); }

  /// Why there is no value. Precondition: there is none (std::bad_variant_access otherwise).
  const Failure& failure() const { return detail::require_failure(failure_); }

  /// The failure as an exception; null when there is a value.
  std::exception_ptr exception() const { return has_value() ? nullptr : failure().exception(); }

 private:
  void require() const {
    if (!has_value()) failure().raise();
  }

  std::optional<R> value_;  // a std::variant of the two is a hundred functions more, for each R
  std::optional<Failure> failure_;
};

/// What became of a task that returns nothing.
/// \snippet reference.cpp Outcome void
template <>
class Outcome<void> {
 public:
  /// It is done.
  Outcome() = default;
  /// Why it failed.
  Outcome(Failure failure) : failure_(std::move(failure)) {}  // NOLINT(google-explicit-constructor)

  /// Whether it was done.
  bool has_value() const noexcept { return !failure_.has_value(); }
  /// Whether it was done.
  explicit operator bool() const noexcept { return has_value(); }

  /// Throws what the task's Future::get would throw when it failed.
  void value() const {
    if (!has_value()) failure().raise();
  }
  /// Why it failed. Precondition: it did (std::bad_variant_access otherwise).
  const Failure& failure() const { return detail::require_failure(failure_); }
  /// The failure as an exception; null when there is none.
  std::exception_ptr exception() const { return has_value() ? nullptr : failure().exception(); }

 private:
  std::optional<Failure> failure_;
};

}  // namespace brood
