// expect: brood: bitwise<T> is true for a type that is not
// SPDX-License-Identifier: MIT
#include <string>

#include <brood/wire/serializer.hpp>

struct Name {
  std::string text;
};

template <>
inline constexpr bool brood::bitwise<Name> = true;

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Name& value);
void send(brood::Writer& writer, const Name& value) { writer.value(value); }
#endif
