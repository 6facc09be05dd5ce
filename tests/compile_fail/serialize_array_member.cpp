// expect: brood: a struct with a C array
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

struct Constant {
  const int samples[1000];
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Constant& value);
void send(brood::Writer& writer, const Constant& value) { writer.value(value); }
#endif
