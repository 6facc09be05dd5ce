// expect: brood: SharedArray<T>: T has a pointer or another member that means nothing in another process
// SPDX-License-Identifier: MIT
#include <cstddef>

#include <brood/wire/shared_array.hpp>

struct Point {
  double x, y;
};
struct Named {
  const char* name;
};

std::size_t size(const brood::SharedArray<const Point>& array);
std::size_t size(const brood::SharedArray<const Point>& array) { return array.size(); }

#ifdef BROOD_FAIL
std::size_t size_of_named(const brood::SharedArray<const Named>& array);
std::size_t size_of_named(const brood::SharedArray<const Named>& array) { return array.size(); }
#endif
