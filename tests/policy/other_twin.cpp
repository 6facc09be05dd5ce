// SPDX-License-Identifier: MIT
// A type with the same name as one in fork_server.cpp.
#include <brood/worker/preload.hpp>

namespace {
struct Twin {
  int value = 77;
};
}  // namespace

int value_of_other_twin();
int value_of_other_twin() { return brood::preloaded<Twin>().value; }
