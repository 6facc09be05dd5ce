# SPDX-License-Identifier: MIT
# Several test files compiled as one: the inline functions of the headers, most of a test's code, are generated once for all
# of them.

set(BROOD_TEST_BATCH 1 CACHE STRING "How many test files are compiled as one, about; 1: each by itself")

# brood_included(<variable> <regex> <source>...): what the sources #include, as far as it begins like the regex.
function(brood_included out begins)
  set(included)
  foreach(source IN LISTS ARGN)
    file(STRINGS ${source} lines REGEX "^#include ${begins}")
    list(TRANSFORM lines REPLACE "^#include ([<\"][^>\"]*[>\"]).*" "\\1")
    list(APPEND included ${lines})
  endforeach()
  list(REMOVE_DUPLICATES included)
  list(SORT included)
  set(${out} ${included} PARENT_SCOPE)
endfunction()

set(stands_outside "^(namespace [a-z]|extern |TYPE_TO_STRING|template <>|(struct|class|inline constexpr [a-z]+) brood::")
string(APPEND stands_outside "|.* operator (new|delete)\\(|[a-z_:]+ [a-z_]+\\([^{]*\\);)")

# brood_batches(<variable> <name> <source>...): what to compile instead of the sources.
#
# Each file of a batch stands in a namespace of its own, so that two may use the same names. What they include has to be
# outside of it: in the precompiled header. A file that declares something in a namespace with a name, such as a
# specialisation of brood::Serializer, or a function of another file, or includes a header of its own, has to stand
# outside; it comes last, where it can't disturb the others.
function(brood_batches out name)
  if(NOT BROOD_TEST_BATCH GREATER 1)
    set(${out} ${ARGN} PARENT_SCOPE)
    return()
  endif()

  set(inside)
  set(outside)
  foreach(source IN LISTS ARGN)
    # An include that is new must be seen here.
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    file(STRINGS ${source} named REGEX "${stands_outside}")
    brood_included(own "\"" ${source})
    list(FILTER own EXCLUDE REGEX "^\"(support|faults)/")
    if(named OR own)
      list(APPEND outside ${source})
    else()
      list(APPEND inside ${source})
    endif()
  endforeach()

  list(LENGTH ARGN files)
  list(LENGTH outside batches)
  math(EXPR wanted "(${files} + ${BROOD_TEST_BATCH} - 1) / ${BROOD_TEST_BATCH}")
  if(wanted GREATER batches)
    set(batches ${wanted})
  endif()
  math(EXPR last "${batches} - 1")
  foreach(batch RANGE ${last})
    set(text_of_${batch})
  endforeach()
  set(batch 0)
  foreach(source IN LISTS inside)
    cmake_path(GET source STEM stem)
    string(APPEND text_of_${batch} "namespace file_${stem} {\n#include \"${source}\"\n}\n")
    math(EXPR batch "(${batch} + 1) % ${batches}")
  endforeach()
  foreach(source IN LISTS outside)
    string(APPEND text_of_${batch} "#include \"${source}\"\n")
    math(EXPR batch "(${batch} + 1) % ${batches}")
  endforeach()

  set(written)
  foreach(batch RANGE ${last})
    set(file ${CMAKE_CURRENT_BINARY_DIR}/batches/${name}_${batch}.cpp)
    file(CONFIGURE OUTPUT ${file} CONTENT "@text_of_${batch}@" @ONLY)
    list(APPEND written ${file})
  endforeach()
  set(${out} ${written} PARENT_SCOPE)
endfunction()
