// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace brood::inline v0_1 {

/// The version of these headers. CMake reads the three lines below. All names of brood are in an inline namespace that is called
/// after major and minor version, so that two versions in one program (a plugin with its own) don't share functions.
/// \snippet reference.cpp version
inline constexpr int version_major = 0;
/// See version_major.
/// \snippet reference.cpp version
inline constexpr int version_minor = 1;
/// See version_major.
/// \snippet reference.cpp version
inline constexpr int version_patch = 0;

namespace detail {

/// What host, server and worker must agree on: frames, control messages, hand-over and status page. All of them may change with
/// the library's version, which is part of it; the last byte tells states of one version apart.
inline constexpr std::uint32_t protocol_version =
    std::uint32_t{version_major} << 24 | std::uint32_t{version_minor} << 16 | std::uint32_t{version_patch} << 8 | 1;

}  // namespace detail
}  // namespace brood
