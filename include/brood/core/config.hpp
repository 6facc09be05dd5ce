// SPDX-License-Identifier: MIT
// The only macros of the library.
#pragma once

#if !defined(__linux__)
#error "brood runs on Linux only: it needs pidfd, memfd and epoll"
#endif

#if defined(_MSVC_LANG) || __cplusplus < 202002L
#error "brood needs C++20: compile with -std=c++20 or newer"
#endif

/// 1 in the library's own tests of system calls that fail (os/faults.hpp); the whole program must agree. Never elsewhere.
#ifndef BROOD_FAULT_INJECTION
#define BROOD_FAULT_INJECTION 0
#endif
