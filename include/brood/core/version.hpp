// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace brood {

/// The version of these headers. CMake reads the three lines below.
inline constexpr int version_major = 0;
inline constexpr int version_minor = 1;
inline constexpr int version_patch = 0;

namespace detail {

/// What host, server and worker must agree on: frames, control messages, hand-over and status page.
inline constexpr std::uint32_t protocol_version = 1;

}  // namespace detail
}  // namespace brood
