// expect: brood: an abstract class
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

struct Shape {
  virtual ~Shape() = default;
  virtual double area() const = 0;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Shape& value);
void send(brood::Writer& writer, const Shape& value) { writer.value(value); }
#endif
