// SPDX-License-Identifier: MIT
// A plugin as nobody wants it.
#include <unistd.h>

extern "C" {
int doubled(int number) { return 2 * number; }
int crash(int number) { return *reinterpret_cast<volatile int*>(static_cast<long>(number)); }
int hang(int) {
  for (;;) ::pause();
}
int leave(int) { ::_exit(0); }
}
