// SPDX-License-Identifier: MIT
// The building blocks for policies: launch_by_fork and launch_by_exec make a server on this machine, start_by_fork and start_by_exec
// (worker/server.hpp, worker/exec_worker.hpp) make its workers.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <brood/core/config.hpp>
#include <brood/policy/worker_policy.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/writer.hpp>
#include <brood/worker/entry.hpp>
#include <brood/worker/exec_worker.hpp>
#include <brood/worker/server.hpp>

namespace brood::inline v0_1 {

using detail::Server;
using detail::start_by_exec;
using detail::start_by_fork;
using detail::WorkerChannel;

namespace detail {

/// What an exec'ed server runs for a policy: P's preparations, then run_server.
template <class P>
void serve(Server& server, Reader& in) {
  if constexpr (requires { P::prepare(server, in); }) P::prepare(server, in);
  in.finish();
  run_server(server, &P::start_worker);
}

/// Of both functions below what does not depend on the policy. `policy` is its name.
BROOD_INLINE std::unique_ptr<WorkerSource> launch_server_by_exec(std::string_view policy, ServerMain serve, const LaunchOptions& options,
                                                                 const Writer& sent, std::vector<std::string> preloads);
BROOD_INLINE std::unique_ptr<WorkerSource> launch_server_by_fork(std::string_view policy, StartWorker start_worker,
                                                                 const LaunchOptions& options, bool host_is_threaded);

}  // namespace detail

/// Starts the running image of this program as a server that serves policy P: `sent` arrives at P::prepare, `preloads` names
/// what it will build. Copies no page table. Throws InitMissing when this program never called brood::init, and LaunchError.
/// \snippet reference.cpp WorkerPolicy
template <class P>
std::unique_ptr<WorkerSource> launch_by_exec(const LaunchOptions& options, const Writer& sent = {},
                                             std::vector<std::string> preloads = {}) {
  return detail::launch_server_by_exec(P::name, &detail::serve<P>, options, sent, std::move(preloads));
}

/// Starts a copy of this process as a server that serves policy P: a snapshot of the host. Costs what fork(2) does.
/// \snippet reference.cpp WorkerPolicy
template <class P>
std::unique_ptr<WorkerSource> launch_by_fork(const LaunchOptions& options, bool host_is_threaded) {
  return detail::launch_server_by_fork(P::name, &P::start_worker, options, host_is_threaded);
}

}  // namespace brood

#include <brood/policy/local_server.hpp>
