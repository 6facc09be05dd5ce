// expect: brood: a union
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

union Number {
  int i;
  float f;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Number& value);
void send(brood::Writer& writer, const Number& value) { writer.value(value); }
#endif
