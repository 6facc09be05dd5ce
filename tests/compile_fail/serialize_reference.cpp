// expect: brood: a reference
// SPDX-License-Identifier: MIT
#include <string>
#include <tuple>

#include <brood/wire/serializer.hpp>

#ifdef BROOD_FAIL
void send();
void send() { brood::detail::require_serializable<std::tuple<int, std::string&>>(); }
#endif
