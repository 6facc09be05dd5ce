# SPDX-License-Identifier: MIT
# Several small programs compiled as one, which runs the one that its first argument names: the inline functions of the
# headers, most of a small program's code, are generated once for all of them. None may return a value from its main.

include(${PROJECT_SOURCE_DIR}/tests/batches.cmake)

# brood_one_program(<target> <name of its source> <source>...)
function(brood_one_program target file)
  brood_included(headers "<" ${ARGN})
  list(REMOVE_ITEM headers "<brood/brood.hpp>")
  list(TRANSFORM headers PREPEND "#include ")
  list(JOIN headers "\n" text)
  string(APPEND text "\n#include <string_view>\n#include <brood/brood.hpp>\n")
  # only a program's own main may end without a return
  string(APPEND text "#define main nothing = 0; [[maybe_unused]] static void run\n")
  set(calls)
  foreach(source IN LISTS ARGN)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    cmake_path(GET source STEM stem)
    string(MAKE_C_IDENTIFIER ${stem} name)
    string(APPEND text "namespace program_${name} {\n#include \"${source}\"\n}\n")
    string(APPEND calls "  if (name == \"${stem}\") return program_${name}::run(argc - 1, argv + 1), 0;\n")
  endforeach()
  string(APPEND text
    "#undef main\nint main(int argc, char** argv) {\n  brood::init(argc, argv);\n  const std::string_view name(argc > 1 ? argv[1] : \"\");\n"
    "${calls}  return 99;  // there is none of that name\n}\n")
  file(CONFIGURE OUTPUT ${file} CONTENT "@text@" @ONLY)
  add_executable(${target} ${CMAKE_CURRENT_BINARY_DIR}/${file})
endfunction()
