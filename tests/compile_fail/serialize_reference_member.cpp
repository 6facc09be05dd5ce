// expect: brood: a struct with a reference member
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

struct Alias {
  int a;
  int& b;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Alias& value);
void send(brood::Writer& writer, const Alias& value) { writer.value(value); }
#endif
