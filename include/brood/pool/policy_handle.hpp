// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <brood/policy/worker_policy.hpp>
#include <brood/worker/context.hpp>

namespace brood::inline v0_1::detail {

/// What the dispatcher knows of the policy.
struct PolicyHandle {
  std::string name;
  bool runs_inline = false;
  bool relaunchable = true;  ///< whether a new server would be like the first
  std::function<std::unique_ptr<WorkerSource>(const LaunchOptions&)> launch;
  std::shared_ptr<const std::vector<PreloadedObject>> preloaded;  ///< of a policy that runs inline and has some
};

/// What to do about an error of a system call that starts a process.
inline std::string advice_for(int error) {
  switch (error) {
    case EAGAIN:
    case ENOMEM: return "; the limits of processes and memory may be reached (ulimit -u, the cgroup's pids.max)";
    case EMFILE:
    case ENFILE: return "; the limit of open files may be reached (ulimit -n)";
    default: return "";
  }
}

}  // namespace brood::detail
