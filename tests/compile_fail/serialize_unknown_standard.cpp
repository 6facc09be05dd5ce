// expect: brood: this type of the standard library
// SPDX-License-Identifier: MIT
#include <queue>

#include <brood/wire/serializer.hpp>

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const std::queue<int>& value);
void send(brood::Writer& writer, const std::queue<int>& value) { writer.value(value); }
#endif
