// expect: brood: a struct with a base class
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

struct Base {
  int a;
};
struct Derived : Base {
  int b;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Derived& value);
void send(brood::Writer& writer, const Derived& value) { writer.value(value); }
#endif
