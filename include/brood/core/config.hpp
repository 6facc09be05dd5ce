// SPDX-License-Identifier: MIT
// The only macros of the library. A header that is not there ends the compilation: nothing that would follow helps.
#pragma once

#if !defined(__linux__)
#error "brood runs on Linux only: it needs pidfd, memfd and epoll"
#include <brood_can_not_be_compiled>
#endif

#if defined(_MSVC_LANG) || __cplusplus < 202002L
#error "brood needs C++20: compile with -std=c++20 or newer"
#include <brood_can_not_be_compiled>
#endif

#if !defined(__cpp_exceptions)
#error "brood needs exceptions: failures of tasks are thrown. Compile the sources that include it without -fno-exceptions"
#include <brood_can_not_be_compiled>
#endif

#if !defined(__cpp_rtti)
#error "brood needs RTTI: exceptions travel by the name of their type. Compile the sources that include it without -fno-rtti"
#include <brood_can_not_be_compiled>
#endif

/// 1 in the library's own tests of system calls that fail (os/faults.hpp); the whole program must agree. Never elsewhere.
#ifndef BROOD_FAULT_INJECTION
#define BROOD_FAULT_INJECTION 0
#endif

/// Header-only, unless BROOD_SEPARATE_COMPILATION is defined for the whole program: then the bodies of what is no template are
/// compiled once, in the one source that defines BROOD_SOURCE, too (cmake/source.cpp, the CMake target brood::compiled).
#if defined(BROOD_SEPARATE_COMPILATION)
#define BROOD_INLINE
#else
#define BROOD_INLINE inline
#endif

#if defined(BROOD_SEPARATE_COMPILATION) && !defined(BROOD_SOURCE)
#define BROOD_BODIES 0
#else
#define BROOD_BODIES 1
#endif
