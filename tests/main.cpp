// SPDX-License-Identifier: MIT
// The main of every test executable.
//
// doctest's handlers turn a signal into "test case CRASHED", and workers must come up without them. Under
// AddressSanitizer its own report says more, so doctest's are left out there.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS
#endif
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <brood/worker/entry.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  return doctest::Context(argc, argv).run();
}
