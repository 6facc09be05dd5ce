// SPDX-License-Identifier: MIT
// internal
// The options that stand first in a call, told from what stands there otherwise.
#pragma once

#include <concepts>
#include <cstddef>
#include <source_location>
#include <type_traits>

#include <brood/core/limits.hpp>
#include <brood/pool/future.hpp>
#include <brood/pool/options.hpp>
#include <brood/pool/submit.hpp>

namespace brood::inline v0_1::detail {

/// What stands first in a call without options.
template <class T>
concept NoOptions = !std::same_as<std::remove_cvref_t<T>, TaskOptions>;

/// TaskOptions with a number for the time. There is none without one.
struct OptionsWithoutUnit {
  struct Number {
    template <class T>
      requires std::is_arithmetic_v<T>
    Number(T number) noexcept;  // NOLINT(google-explicit-constructor): as what is written for it
  };

  Number timeout;
  unsigned retries = 0;
  int priority = 0;
  Limits limits{};
  std::source_location where{};
};

/// Refuses {.timeout = 3} with words, where the compiler would list each overload that does not fit.
class RefusesOptionsWithoutUnit {
 public:
  template <class F, class... Args>
  Future<RefusedResult<std::decay_t<F>>> submit(const OptionsWithoutUnit& /*options*/, F&& /*f*/, Args&&... /*args*/) {
    require_unit<F>();
    return {};
  }
  template <class Destination, class F, class... Args>
  Future<std::size_t> submit_into(const OptionsWithoutUnit& /*options*/, Destination&& /*destination*/, F&& /*f*/,
                                  Args&&... /*args*/) {
    require_unit<F>();
    return {};
  }

 private:
  template <class F>
  static constexpr void require_unit() {
    static_assert(std::is_void_v<F>, "brood: TaskOptions::timeout is a time, not a number: write its unit, {.timeout = 3s} with "
                                     "`using namespace std::chrono_literals`, or {.timeout = std::chrono::seconds(3)}");
  }
};

}  // namespace brood::detail
