// expect: brood: this class is declared but not defined
// SPDX-License-Identifier: MIT
#include <memory>

#include <brood/wire/serializer.hpp>

struct Later;

#ifdef BROOD_FAIL
void send();
void send() { brood::detail::require_serializable<std::unique_ptr<Later>>(); }
#endif
