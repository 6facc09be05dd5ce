// SPDX-License-Identifier: MIT
// Linked into a program by the CMake target brood::auto_init, with the linker's --wrap=main: the C library then calls
// the first function below instead of main, and the second one is main. By hand:
//
//   g++ -std=c++20 program.cpp auto_init.cpp -Wl,--wrap=main
#include <unistd.h>

#include <brood/worker/entry.hpp>

extern "C" {

// The linker's names, given as labels: identifiers with two underscores are not ours to use.
[[gnu::used]] int brood_wrap_main(int argc, char** argv, char** envp) __asm__("__wrap_main");
int brood_real_main(int argc, char** argv, char** envp) __asm__("__real_main");

int brood_wrap_main(int argc, char** argv, char**) {
  brood::init(argc, argv);
  return brood_real_main(argc, argv, environ);
}

}  // extern "C"
