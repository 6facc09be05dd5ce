// expect: brood: a view
// SPDX-License-Identifier: MIT
#include <span>

#include <brood/wire/serializer.hpp>

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const std::span<int>& value);
void send(brood::Writer& writer, const std::span<int>& value) { writer.value(value); }
#endif
