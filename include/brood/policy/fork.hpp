// SPDX-License-Identifier: MIT
#pragma once

#include <sched.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include <brood/os/threads.hpp>
#include <brood/policy/launch.hpp>
#include <brood/policy/worker_policy.hpp>

namespace brood::inline v0_1 {

/// Workers are copies of this process as it was when the pool was made: they see its state, and starting them needs no
/// preparation. When to use: the host is single-threaded, its state is simple or wanted in the workers. What it costs:
/// one fork(2) of the host per pool (and per closure), which grows with the host's memory.
///
/// Not promised: that the other libraries of the host survive a fork. A copy has no thread but one, so locks that other
/// threads held stay locked for ever; that is why a host with threads is refused (HostIsThreaded).
/// \snippet reference.cpp ForkPolicy
struct ForkPolicy {
  /// Takes the risk of forking a host that has threads.
  bool allow_threads = false;

  /// For messages.
  static constexpr std::string_view name = "ForkPolicy";
  /// See CopiesHost.
  static constexpr bool copies_host = true;

  /// The server: a copy of the host. Throws HostIsThreaded, LaunchError.
  std::unique_ptr<WorkerSource> launch(const LaunchOptions& options) const {
    const int threads = host_threads();
    if (threads == 0 && (errno == EMFILE || errno == ENFILE)) throw detail::SystemError("open(/proc/self/stat)", errno);
    if (threads != 1 && !allow_threads) {
      throw HostIsThreaded(
          "Pool<ForkPolicy> can't copy a host that has " +
          (threads > 1 ? std::to_string(threads) + " threads" : std::string("threads (how many is not to be seen here)")) +
          ": locks that another thread holds would stay locked in the workers for ever. Make the pool before the first "
          "thread starts, use ForkServerPolicy<> or SpawnPolicy, or take the risk: ForkPolicy{.allow_threads = true}");
    }
    return launch_by_fork<ForkPolicy>(options, threads != 1);
  }

  /// A worker: a copy of the server.
  static pid_t start_worker(Server& server, WorkerChannel& channel) { return start_by_fork(server, channel); }

 private:
  /// The host's threads without the library's own. One that has been joined may be listed for a moment longer, and one that
  /// is being started is counted a moment early.
  static int host_threads() {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
    for (;;) {
      const int threads = detail::count_threads();
      const int others = threads == 0 ? 0 : threads - detail::helper_threads.load();
      if (threads == 0 || others == 1 || std::chrono::steady_clock::now() >= until) return others;
      ::sched_yield();
    }
  }
};

}  // namespace brood
