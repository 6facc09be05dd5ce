// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace brood::inline v0_1 {

/// How much an event matters.
/// \snippet reference.cpp LogHook
enum class LogLevel : std::uint8_t {
  info,     ///< as it should be: a server is ready, a worker is up, or replaced after its share of work
  warning,  ///< taken care of: a worker died or was killed, a server has ended, a trace can't be written
  error,    ///< the pool gets no work done: no worker comes up
};

/// Is told what happens in a pool; see PoolOptions::log.
/// \snippet reference.cpp LogHook
using LogHook = std::function<void(LogLevel level, std::string_view text)>;

}  // namespace brood
