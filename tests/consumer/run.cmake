# SPDX-License-Identifier: MIT
# Configures, builds and tests one of the consumer projects, as its users would, with brood's compiler and flags but
# not optimised; one that is no CMake project has a build.sh. Nothing is left of an earlier run.
cmake_minimum_required(VERSION 3.25)

function(run what)
  message(STATUS "${consumer}: ${what}")
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${consumer}: ${what} failed")
  endif()
endfunction()

file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work})
set(prefix)
if(consumer STREQUAL "find_package" OR consumer STREQUAL "pkg_config")
  set(prefix ${work}/prefix)
  run("install brood" ${CMAKE_COMMAND} --install ${brood_build} --prefix ${prefix} --config ${build_type})
endif()

if(EXISTS ${CMAKE_CURRENT_LIST_DIR}/${consumer}/build.sh)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run("build and run" sh ${CMAKE_CURRENT_LIST_DIR}/${consumer}/build.sh ${work} ${compiler} -std=c++20 ${flags})
  return()
endif()

run("configure" ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/${consumer} -B ${work}/build -G ${generator}
  -D CMAKE_MAKE_PROGRAM=${make_program}
  -D CMAKE_CXX_COMPILER=${compiler}
  -D CMAKE_CXX_FLAGS=${flags}
  -D CMAKE_PREFIX_PATH=${prefix}
  -D CMAKE_FIND_USE_PACKAGE_REGISTRY=OFF)
run("build" ${CMAKE_COMMAND} --build ${work}/build)
run("run" ${CMAKE_CTEST_COMMAND} --test-dir ${work}/build --output-on-failure --no-tests=error)
