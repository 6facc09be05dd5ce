// SPDX-License-Identifier: MIT
// A library in two builds: in the second, the code of each function is where that of the other is in the first.
extern "C" {
#if BROOD_TEST_SECOND_BUILD
int swapped_plus_two(int n) { return n + 2; }
int swapped_plus_one(int n) { return n + 1; }
#else
int swapped_plus_one(int n) { return n + 1; }
int swapped_plus_two(int n) { return n + 2; }
#endif
}
