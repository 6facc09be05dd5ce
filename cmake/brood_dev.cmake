# SPDX-License-Identifier: MIT
# brood_dev: the warnings under which tests and examples are compiled. Users never see it: it is neither exported nor
# installed. Whether warnings are errors is the build's choice (CMAKE_COMPILE_WARNING_AS_ERROR; on in the presets).

set(gcc_oldest 12)
set(clang_oldest 16)
if((CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS gcc_oldest)
    OR (CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS clang_oldest))
  message(WARNING "brood needs GCC ${gcc_oldest} or Clang ${clang_oldest}, or newer; "
    "this is ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
endif()

include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-Wuseless-cast BROOD_HAS_WUSELESS_CAST)

add_library(brood_dev INTERFACE)
target_compile_options(brood_dev INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wold-style-cast
  $<$<BOOL:${BROOD_HAS_WUSELESS_CAST}>:-Wuseless-cast>)
target_link_libraries(brood_dev INTERFACE brood::brood)

set(BROOD_PLAIN_FLAGS "" CACHE STRING
  "Further compiler flags of what takes the compiler longest: the suites for every policy, and the examples")
