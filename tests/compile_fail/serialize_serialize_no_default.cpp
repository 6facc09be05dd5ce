// expect: brood: a class that is read by its serialize
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

struct Image {
  explicit Image(int size) : size_(size) {}
  template <class Archive>
  void serialize(Archive& archive) {
    archive(size_);
  }

 private:
  int size_;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Image& value);
void send(brood::Writer& writer, const Image& value) { writer.value(value); }
#endif
