// SPDX-License-Identifier: MIT
// No other include: main.cpp asks before it includes anything.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define BROOD_TEST_HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BROOD_TEST_HAS_SANITIZER 1
#endif
#if __has_feature(thread_sanitizer)
#define BROOD_TEST_HAS_THREAD_SANITIZER 1
#endif
#endif
#ifndef BROOD_TEST_HAS_THREAD_SANITIZER
#define BROOD_TEST_HAS_THREAD_SANITIZER 0
#endif
#ifndef BROOD_TEST_HAS_SANITIZER
#define BROOD_TEST_HAS_SANITIZER 0
#endif

namespace support {

/// Whether this is a build with AddressSanitizer.
inline constexpr bool has_sanitizer = BROOD_TEST_HAS_SANITIZER == 1;

/// Whether this is a build with ThreadSanitizer.
inline constexpr bool has_thread_sanitizer = BROOD_TEST_HAS_THREAD_SANITIZER == 1;

}  // namespace support
