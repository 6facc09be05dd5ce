// expect: brood: a raw pointer
// SPDX-License-Identifier: MIT
#include <vector>

#include <brood/wire/serializer.hpp>

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const std::vector<int*>& value);
void send(brood::Writer& writer, const std::vector<int*>& value) { writer.value(value); }
#endif
