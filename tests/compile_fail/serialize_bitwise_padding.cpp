// expect: brood: bitwise<T> is true for a struct with padding
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

struct Gap {
  char c;
  int i;
};

template <>
inline constexpr bool brood::bitwise<Gap> = true;

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Gap& value);
void send(brood::Writer& writer, const Gap& value) { writer.value(value); }
#endif
