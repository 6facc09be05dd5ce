// expect: brood: a pointer to member
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

struct Point {
  int x;
};

#ifdef BROOD_FAIL
using Member = int Point::*;
void send(brood::Writer& writer, Member value);
void send(brood::Writer& writer, Member value) { writer.value(value); }
#endif
