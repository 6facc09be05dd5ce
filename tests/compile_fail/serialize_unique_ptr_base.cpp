// expect: brood: a std::unique_ptr to a polymorphic class
// SPDX-License-Identifier: MIT
#include <memory>

#include <brood/wire/serializer.hpp>

struct Shape {
  virtual ~Shape() = default;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const std::unique_ptr<Shape>& value);
void send(brood::Writer& writer, const std::unique_ptr<Shape>& value) { writer.value(value); }
#endif
