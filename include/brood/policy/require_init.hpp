// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <brood/core/config.hpp>
#include <brood/core/errors.hpp>
#include <brood/os/module.hpp>
#include <brood/wire/hand_over.hpp>
#include <brood/worker/entry.hpp>

#if BROOD_BODIES

#include <unistd.h>

#include <string>

namespace brood::inline v0_1::detail {

/// How a program ends that was started as a server, did not call init, and came to a pool.
inline constexpr int exit_code_without_init = 71;

BROOD_INLINE std::string init_missing_text(const std::string& policy) {
  return "Pool<" + policy +
         "> starts this program again, but main did not call brood::init before the pool was made. Add this as the first "
         "line of main:  brood::init(argc, argv);  (or link the CMake target brood::auto_init)";
}

/// Throws InitMissing when the program has not called init. Code in a shared library may not be able to see that: it has
/// its own copy of the library's variables. Then the program is started, and its first pool ends it here.
BROOD_INLINE void require_init(const std::string& policy) {
  if (entry_state.initialized) return;
  if (const auto header = peek_hand_over(); header && header->parent == ::getppid()) ::_exit(exit_code_without_init);
  const auto module = ModuleTable::instance().containing(reinterpret_cast<const void*>(&init_missing_text));
  if (module == nullptr || module->path.empty()) throw InitMissing(init_missing_text(policy));
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
