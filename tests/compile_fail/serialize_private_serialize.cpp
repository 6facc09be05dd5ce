// expect: brood: this class has a serialize
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

class Image {
  template <class Archive>
  void serialize(Archive& archive) {
    archive(pixels_);
  }
  int pixels_ = 0;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Image& value);
void send(brood::Writer& writer, const Image& value) { writer.value(value); }
#endif
