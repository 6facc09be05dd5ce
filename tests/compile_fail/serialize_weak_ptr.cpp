// expect: brood: std::shared_ptr
// SPDX-License-Identifier: MIT
#include <memory>

#include <brood/wire/serializer.hpp>

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const std::weak_ptr<int>& value);
void send(brood::Writer& writer, const std::weak_ptr<int>& value) { writer.value(value); }
#endif
