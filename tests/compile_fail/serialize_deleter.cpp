// expect: brood: a std::unique_ptr with its own deleter
// SPDX-License-Identifier: MIT
#include <memory>

#include <brood/wire/serializer.hpp>

struct Close {
  void operator()(int*) const {}
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const std::unique_ptr<int, Close>& value);
void send(brood::Writer& writer, const std::unique_ptr<int, Close>& value) { writer.value(value); }
#endif
