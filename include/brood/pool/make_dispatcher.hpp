// SPDX-License-Identifier: MIT
// internal
// From a pool's options and its policy to a dispatcher.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <brood/core/errors.hpp>
#include <brood/policy/worker_policy.hpp>
#include <brood/pool/check_options.hpp>
#include <brood/pool/dispatcher.hpp>
#include <brood/pool/options.hpp>

namespace brood::inline v0_1::detail {

template <class Policy>
PolicyHandle handle_of(Policy policy) {
  PolicyHandle handle;
  handle.name = std::string(std::string_view(Policy::name));
  handle.runs_inline = RunsInline<Policy>;
  handle.relaunchable = !CopiesHost<Policy>;
  if constexpr (RunsInline<Policy> && requires { policy.build()->all(); }) {
    if (const auto built = policy.build()) handle.preloaded = {built, &built->all()};
  }
  if constexpr (!RunsInline<Policy>) {
    handle.launch = [policy = std::move(policy)](const LaunchOptions& options) { return policy.launch(options); };
  }
  return handle;
}

/// A dispatcher whose server, if it has one, is ready.
template <class Policy>
std::shared_ptr<Dispatcher> make_dispatcher(PoolOptions options, Policy policy, bool launch) {
  check_options(options);
  try {
    auto dispatcher = std::make_shared<Dispatcher>(std::move(options), handle_of(std::move(policy)));
    if (launch) dispatcher->launch();
    return dispatcher;
  } catch (const SystemError& error) {
    throw LaunchError(std::string("the pool could not be made: ") + error.what() +
                          "; this process may have reached its limit of open files (ulimit -n)",
                      error.call(), error.code().value());
  }
}

/// The options with what the environment says.
inline PoolOptions with_environment(PoolOptions options) {
  const char* const trace = secure_getenv("BROOD_TRACE");
  if (options.trace.empty() && trace != nullptr) options.trace = trace;
  return options;
}

}  // namespace brood::detail
