// SPDX-License-Identifier: MIT
// Programs inside the test executable, each with a main of its own: the executable, started with
// `--program=<name>`, runs that one before its own main, and with it before main's brood::init.
//
//   const support::Program ordinary("ordinary", [](int argc, char** argv) { ... return 0; });
//   support::run_program({support::own_path(), "--program=ordinary"})
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "support/proc.hpp"

namespace support {

struct Arguments {
  static inline int argc = 0;
  static inline char** argv = nullptr;
};

namespace {

// before every other initialization: libc hands the arguments of main to constructors, too
[[gnu::constructor(101)]] void keep_arguments(int argc, char** argv) {
  Arguments::argc = argc;
  Arguments::argv = argv;
}

}  // namespace

inline std::string own_path() { return link_target("/proc/self/exe"); }

class Program {
 public:
  Program(std::string_view name, int (*main)(int argc, char** argv)) {
    const std::string wanted = "--program=" + std::string(name);
    if (Arguments::argc > 1 && wanted == Arguments::argv[1]) std::exit(main(Arguments::argc, Arguments::argv));
  }
};

}  // namespace support
