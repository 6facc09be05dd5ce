// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string_view>

#include <brood/policy/launch.hpp>
#include <brood/policy/worker_policy.hpp>

namespace brood::inline v0_1 {

/// Every worker is a fresh image of this program (fork + exec). When to use: nothing of the host's or of another worker's
/// state may reach a worker, or it must start from static initialization. What it costs: the start of the program for
/// every worker. Needs brood::init as the first line of main.
/// \snippet reference.cpp SpawnPolicy
struct SpawnPolicy {
  /// For messages.
  static constexpr std::string_view name = "SpawnPolicy";

  /// The server: a fresh image, nothing else. Throws InitMissing, LaunchError.
  std::unique_ptr<WorkerSource> launch(const LaunchOptions& options) const {
    return launch_by_exec<SpawnPolicy>(options);
  }

  /// A worker: a fresh image.
  static pid_t start_worker(Server& server, WorkerChannel& channel) { return start_by_exec(server, channel); }
};

}  // namespace brood
