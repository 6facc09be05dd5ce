// expect: brood: the comparator
// SPDX-License-Identifier: MIT
#include <set>

#include <brood/wire/serializer.hpp>

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const std::set<int, bool (*)(int, int)>& value);
void send(brood::Writer& writer, const std::set<int, bool (*)(int, int)>& value) { writer.value(value); }
#endif
