// expect: brood: threads, locks
// SPDX-License-Identifier: MIT
#include <mutex>

#include <brood/wire/serializer.hpp>

struct Guarded {
  std::mutex mutex;
  int value;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const Guarded& value);
void send(brood::Writer& writer, const Guarded& value) { writer.value(value); }
#endif
