# SPDX-License-Identifier: MIT
if(CMAKE_VERSION VERSION_LESS 3.23)
  set(${CMAKE_FIND_PACKAGE_NAME}_FOUND FALSE)
  set(${CMAKE_FIND_PACKAGE_NAME}_NOT_FOUND_MESSAGE "brood needs CMake 3.23 or newer: its headers are a file set")
  return()
endif()

include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/broodTargets.cmake)

# Compiled in the project that uses it, with its flags, if it is used.
if(NOT TARGET brood::compiled)
  add_library(brood_compiled STATIC EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/../../brood/source.cpp)
  add_library(brood::compiled ALIAS brood_compiled)
  target_compile_definitions(brood_compiled PUBLIC BROOD_SEPARATE_COMPILATION)
  set_target_properties(brood_compiled PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(brood_compiled PUBLIC brood::brood)
endif()
