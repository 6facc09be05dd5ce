// expect: brood: a C array
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

#ifdef BROOD_FAIL
void send();
void send() { brood::detail::require_serializable<int[3]>(); }
#endif
