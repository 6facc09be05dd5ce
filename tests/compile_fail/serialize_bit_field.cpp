// expect: brood: a struct with a bit-field
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

struct Flags {
  unsigned a : 3;
  unsigned b;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Flags& value);
void send(brood::Writer& writer, const Flags& value) { writer.value(value); }
#endif
