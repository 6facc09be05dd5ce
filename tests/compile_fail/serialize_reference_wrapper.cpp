// expect: brood: a view
// SPDX-License-Identifier: MIT
#include <functional>

#include <brood/wire/serializer.hpp>

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const std::reference_wrapper<int>& value);
void send(brood::Writer& writer, const std::reference_wrapper<int>& value) { writer.value(value); }
#endif
