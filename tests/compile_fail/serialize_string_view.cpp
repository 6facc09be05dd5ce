// expect: brood: a view
// SPDX-License-Identifier: MIT
#include <string_view>

#include <brood/wire/serializer.hpp>

struct Line {
  int number;
  std::string_view text;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Line& value);
void send(brood::Writer& writer, const Line& value) { writer.value(value); }
#endif
