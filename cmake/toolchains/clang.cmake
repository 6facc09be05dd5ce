# SPDX-License-Identifier: MIT
# The Clang of the presets: the one that the environment names (BROOD_CLANG=clang++-17), or the first of these that is
# installed. -DCMAKE_CXX_COMPILER=... goes before both.
if(NOT "$ENV{BROOD_CLANG}" STREQUAL "")
  find_program(CMAKE_CXX_COMPILER NAMES $ENV{BROOD_CLANG} REQUIRED)
else()
  find_program(CMAKE_CXX_COMPILER NAMES clang++-19 clang++-20 clang++-18 clang++-17 clang++-16 clang++ REQUIRED)
endif()
