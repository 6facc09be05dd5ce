// SPDX-License-Identifier: MIT
// The main of every test executable.
//
// doctest's handlers turn a signal into "test case CRASHED", and workers must come up without them. Under
// AddressSanitizer its own report says more, so doctest's are left out there.
#include "support/sanitizer.hpp"
#if BROOD_TEST_HAS_SANITIZER
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS
#endif
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <iostream>

#include <brood/worker/entry.hpp>

#include "support/listener.hpp"

REGISTER_LISTENER("brood", 1, support::Listener);

int main(int argc, char** argv) {
  brood::init(argc, argv);  // workers go no further
  support::mark_run(argv);
  doctest::Context context(argc, argv);
  if (support::has_thread_sanitizer) {  // it has a thread of its own, which ForkPolicy refuses
    context.addFilter("test-case-exclude", "*ForkPolicy*,*closure*");
  }
  const int code = context.run();
  if (support::Listener::failures == 0) return code;
  std::cout << support::Listener::failures << " test cases left something behind\n";
  return 1;
}
