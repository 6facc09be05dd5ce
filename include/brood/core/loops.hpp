// SPDX-License-Identifier: MIT
// internal
// std::any_of and the like over a whole range. The standard library's unroll the loop by hand, through six functions for each
// use; what is looked through here is short, and compilers read these for every program.
#pragma once

namespace brood::inline v0_1::detail {

template <class Range, class Test>
bool any_of(const Range& range, const Test& test) {
  for (const auto& each : range) {
    if (test(each)) return true;
  }
  return false;
}

template <class Range, class Test>
bool none_of(const Range& range, const Test& test) {
  return !any_of(range, test);
}

template <class Range, class Test>
bool all_of(const Range& range, const Test& test) {
  for (const auto& each : range) {
    if (!test(each)) return false;
  }
  return true;
}

/// The first in [from, end) that passes the test, or `end`.
template <class Iterator, class Test>
Iterator find_where(Iterator from, const Iterator& end, const Test& test) {
  while (from != end && !test(*from)) ++from;
  return from;
}

}  // namespace brood::detail
