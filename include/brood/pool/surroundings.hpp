// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <string>

#include <brood/core/errors.hpp>
#include <brood/os/surroundings.hpp>
#include <brood/pool/options.hpp>
#include <brood/pool/policy_handle.hpp>

namespace brood::inline v0_1::detail {

/// What a pool's servers have: what its options say, else what this process has when the pool is made, also where a server is
/// started again later. A copy of the host has the latter by itself.
class PoolSurroundings {
 public:
  /// Throws LaunchError when the directory can't be entered.
  PoolSurroundings(const PoolOptions& options, const PolicyHandle& policy) {
    if (policy.runs_inline) return;
    if (!options.working_directory.empty()) {
      try {
        directory_ = open_directory(options.working_directory.c_str());
      } catch (const SystemError& error) {
        throw LaunchError("the workers can't have " + options.working_directory +
                              " as their directory (PoolOptions::working_directory): " + error.code().message(),
                          error.call(), error.code().value());
      }
    } else if (policy.relaunchable) {
      try {
        directory_ = open_directory(".");
      } catch (const SystemError& error) {
        if (error.code().value() == EMFILE || error.code().value() == ENFILE) throw;
      }  // one that can't be entered any more: a server inherits it
    }
    if (!options.environment.empty() || policy.relaunchable) {
      environment_ = Environment::now();
      environment_.change(options.environment);
      given_.environment = environment_.pointers();
    }
    given_.directory = directory_.get();
  }
  PoolSurroundings(const PoolSurroundings&) = delete;
  PoolSurroundings& operator=(const PoolSurroundings&) = delete;

  const Surroundings& get() const noexcept { return given_; }
  /// The pool starts no further process.
  void release() noexcept {
    directory_.reset();
    given_.directory = -1;
  }

 private:
  Fd directory_;
  Environment environment_;
  Surroundings given_;
};

}  // namespace brood::detail
