// expect: brood: SharedArray<T>: T is not trivially copyable.*send a std::vector<T>, which is copied
// SPDX-License-Identifier: MIT
#include <cstddef>
#include <string>

#include <brood/wire/shared_array.hpp>

std::size_t size(const brood::SharedArray<int>& array);
std::size_t size(const brood::SharedArray<int>& array) { return array.size(); }

#ifdef BROOD_FAIL
std::size_t size_of_texts(const brood::SharedArray<std::string>& array);
std::size_t size_of_texts(const brood::SharedArray<std::string>& array) { return array.size(); }
#endif
