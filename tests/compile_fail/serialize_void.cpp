// expect: brood: void
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

#ifdef BROOD_FAIL
void send();
void send() { brood::detail::require_serializable<void>(); }
#endif
