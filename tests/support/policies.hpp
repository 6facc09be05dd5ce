// SPDX-License-Identifier: MIT
// The policies over which the conformance suite is instantiated.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/policy/fork.hpp>
#include <brood/policy/fork_server.hpp>
#include <brood/policy/inline.hpp>
#include <brood/policy/local_server.hpp>
#include <brood/policy/spawn.hpp>
#include <brood/worker/preload.hpp>

#include "support/sanitizer.hpp"

namespace support {

/// PoolOptions::start_timeout where a test waits until it is over. What starts as it should is up by then, on a slow and busy
/// machine, too.
inline constexpr std::chrono::milliseconds short_start_timeout{has_sanitizer ? 6'000 : 2'000};

/// A Preload that knows where and how often it was built.
struct Numbers {
  Numbers() {
    for (int at = 0; at < 1000; ++at) values.push_back(at * at);
  }
  std::vector<int> values;
  pid_t built_in = ::getpid();
  static inline int constructions = 0;
  int construction = ++constructions;
};

/// A Preload that uses the one before it.
struct Sums {
  Sums() {
    int sum = 0;
    for (const int each : brood::preloaded<Numbers>().values) values.push_back(sum += each);
  }
  std::vector<int> values;
  pid_t built_in = ::getpid();
};

/// A policy that a user of the library wrote, by the blueprint in policy/worker_policy.hpp.
struct OwnPolicy {
  static constexpr std::string_view name = "OwnPolicy";

  std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions& options) const {
    brood::Writer sent;
    sent.value(answer);
    return brood::launch_by_exec<OwnPolicy>(options, sent);
  }
  static void prepare(brood::Server&, brood::Reader& sent) { prepared = sent.value<int>(); }
  static pid_t start_worker(brood::Server& server, brood::WorkerChannel& channel) {
    return brood::start_by_fork(server, channel);
  }

  int answer = 42;
  static inline int prepared = 0;  ///< what prepare has read; workers inherit it
};

using ForkServer = brood::ForkServerPolicy<>;
using ForkServerWithPreloads = brood::ForkServerPolicy<Numbers, Sums>;

}  // namespace support

/// For TEST_CASE_TEMPLATE: a policy of each kind that has workers; those and InlinePolicy. With ThreadSanitizer only what
/// never forks a process with threads: it has one itself.
///
/// The EVERY_ ones have a policy that a user wrote, too: for the suites that say what a policy is. To the others it is a
/// fork server like ours.
#if BROOD_TEST_HAS_THREAD_SANITIZER
#define WORKER_POLICIES brood::SpawnPolicy
#define EVERY_WORKER_POLICY WORKER_POLICIES
#else
#define WORKER_POLICIES brood::ForkPolicy, brood::SpawnPolicy, support::ForkServerWithPreloads
#define EVERY_WORKER_POLICY WORKER_POLICIES, support::OwnPolicy
#endif
#define ALL_POLICIES WORKER_POLICIES, brood::InlinePolicy
#define EVERY_POLICY EVERY_WORKER_POLICY, brood::InlinePolicy

TYPE_TO_STRING_AS("ForkPolicy", brood::ForkPolicy);
TYPE_TO_STRING_AS("SpawnPolicy", brood::SpawnPolicy);
TYPE_TO_STRING_AS("InlinePolicy", brood::InlinePolicy);
TYPE_TO_STRING_AS("ForkServerPolicy<>", support::ForkServer);
TYPE_TO_STRING_AS("ForkServerPolicy<Numbers, Sums>", support::ForkServerWithPreloads);
TYPE_TO_STRING_AS("OwnPolicy", support::OwnPolicy);
