// expect: brood: a lambda with captures
// SPDX-License-Identifier: MIT
#include <brood/wire/serializer.hpp>

inline auto make_lambda(int captured) {
  return [captured] { return captured; };
}

#ifdef BROOD_FAIL
using Lambda = decltype(make_lambda(1));
void send(brood::Writer& writer, const Lambda& value);
void send(brood::Writer& writer, const Lambda& value) { writer.value(value); }
#endif
