// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/report.hpp"

namespace chaos {

/// What the command line says. Each mode has its own defaults and takes some of them.
struct Options {
  std::string policy = "all";
  unsigned tasks = 0;
  unsigned rounds = 0;
  unsigned workers = 8;
  unsigned recycle = 0;
  unsigned kill_ms = 5;
  unsigned kill_server_ms = 0;
  unsigned mib = 0;
  unsigned jobs = 1;  ///< hosts side by side
  unsigned seed = 1;
  unsigned patience = 60;    ///< seconds without progress
  bool judge_times = false;  ///< the machine is ours alone: times and memory can break a promise, too
  std::string inject;        ///< a fault that the report must show
};

struct Mode {
  std::string_view name;
  std::string_view what;
  std::string_view takes;  ///< its options beside those that every mode takes
  std::string_view injects;
  Options defaults;
  std::vector<Report> (*run)(const Options&);
};

/// One function in each mode's file.
Mode kills();
Mode growth();
Mode deadlines();
Mode shutdown();
Mode host_death();
Mode cycles();
Mode dead_writes();
Mode sizes();
Mode signals();
Mode busy_programs();

/// Calls run.operator()<Policy>(name) for each policy that is wanted; collects the reports.
template <class Run>
std::vector<Report> each_policy(const Options& options, Run run) {
  std::vector<Report> reports;
  const auto wanted = [&](std::string_view name) { return options.policy == "all" || options.policy == name; };
  if (wanted("fork")) reports.push_back(run.template operator()<brood::ForkPolicy>("ForkPolicy"));
  if (wanted("spawn")) reports.push_back(run.template operator()<brood::SpawnPolicy>("SpawnPolicy"));
  if (wanted("server")) reports.push_back(run.template operator()<brood::ForkServerPolicy<>>("ForkServerPolicy<>"));
  return reports;
}

}  // namespace chaos
