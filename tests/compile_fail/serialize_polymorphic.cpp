// expect: brood: a class with virtual functions
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

struct Shape {
  virtual ~Shape() = default;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Shape& value);
void send(brood::Writer& writer, const Shape& value) { writer.value(value); }
#endif
