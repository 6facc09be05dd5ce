# SPDX-License-Identifier: MIT
if(CMAKE_VERSION VERSION_LESS 3.23)
  set(${CMAKE_FIND_PACKAGE_NAME}_FOUND FALSE)
  set(${CMAKE_FIND_PACKAGE_NAME}_NOT_FOUND_MESSAGE "brood needs CMake 3.23 or newer: its headers are a file set")
  return()
endif()

include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/broodTargets.cmake)
