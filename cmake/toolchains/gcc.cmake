# SPDX-License-Identifier: MIT
# The GCC of the presets: the one that the environment names (BROOD_GCC=g++-13), or the first of these that is
# installed. -DCMAKE_CXX_COMPILER=... goes before both.
if(NOT "$ENV{BROOD_GCC}" STREQUAL "")
  find_program(CMAKE_CXX_COMPILER NAMES $ENV{BROOD_GCC} REQUIRED)
else()
  find_program(CMAKE_CXX_COMPILER NAMES g++-12 g++-13 g++-14 g++-15 g++ REQUIRED)
endif()
