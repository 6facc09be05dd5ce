// expect: brood: a specialisation
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

struct Image {
  int* pixels;
};

template <>
struct brood::Serializer<Image> {
  static void write(Writer&, const Image&) {}
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Image& value);
void send(brood::Writer& writer, const Image& value) { writer.value(value); }
#endif
