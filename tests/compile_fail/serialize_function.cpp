// expect: brood: std::function
// SPDX-License-Identifier: MIT
#include <functional>

#include <brood/wire/serializer.hpp>

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const std::function<void()>& value);
void send(brood::Writer& writer, const std::function<void()>& value) { writer.value(value); }
#endif
