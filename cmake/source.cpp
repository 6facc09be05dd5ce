// SPDX-License-Identifier: MIT
// What of brood is no template, compiled once: the CMake target brood::compiled is this and BROOD_SEPARATE_COMPILATION, which every
// source of the program has to be compiled with. By hand:
//
//   g++ -std=c++20 -DBROOD_SEPARATE_COMPILATION program.cpp source.cpp
#define BROOD_SOURCE
#include <brood/brood.hpp>
