// SPDX-License-Identifier: MIT
#pragma once

#include <string_view>

namespace brood::inline v0_1 {

/// Tasks run in the caller, inside submit, one after the other: no process is started. When to use: in a debugger, or to
/// find out whether a problem comes from the task or from the processes. Arguments, results and exceptions are turned
/// into bytes and back as under every other policy, so a task behaves the same; but a crash is the host's.
/// \snippet reference.cpp InlinePolicy
struct InlinePolicy {
  /// For messages.
  static constexpr std::string_view name = "InlinePolicy";
  /// See RunsInline.
  static constexpr bool runs_inline = true;
};

}  // namespace brood
