// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <brood/core/config.hpp>
#include <brood/os/syscall.hpp>

#if BROOD_BODIES

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

namespace brood::inline v0_1::detail {

/// The CPU quota of this process' control group, rounded up; 0 when there is none. Version 2 has "max 100000" or
/// "150000 100000" (quota and period in µs) in one file, version 1 has two files.
BROOD_INLINE unsigned cgroup_cpus() {
  const auto share = [](double quota, double period) {
    if (quota <= 0 || period <= 0) return 0U;
    return static_cast<unsigned>((quota + period - 1) / period);
  };
  std::ifstream membership("/proc/self/cgroup");
  for (std::string line; std::getline(membership, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    // a limit of any group above counts too
    for (;;) {
      if (controllers.empty()) {
        std::ifstream file("/sys/fs/cgroup" + group + "/cpu.max");
        std::string quota;
        double period = 0;
        if (file >> quota >> period && quota != "max") return std::max(1U, share(std::atof(quota.c_str()), period));
      } else if (controllers.find("cpu") != std::string::npos) {
        std::ifstream quota_file("/sys/fs/cgroup/cpu" + group + "/cpu.cfs_quota_us");
        std::ifstream period_file("/sys/fs/cgroup/cpu" + group + "/cpu.cfs_period_us");
        double quota = 0;
        double period = 0;
        if (quota_file >> quota && period_file >> period && quota > 0) return std::max(1U, share(quota, period));
      }
      const std::size_t slash = group.rfind('/');
      if (slash == std::string::npos || group == "/") break;
      group.resize(slash);
      if (group.empty()) group = "/";
    }
  }
  return 0;
}

/// The highest number that a CPU of this machine may have, also one that is not plugged in.
BROOD_INLINE unsigned highest_cpu() {
  std::ifstream possible("/sys/devices/system/cpu/possible");  // "0-127", "0,2-3"
  std::string ranges;
  if (possible >> ranges) {
    const std::size_t before = ranges.find_last_of("-,");
    return static_cast<unsigned>(std::atoi(ranges.c_str() + (before == std::string::npos ? 0 : before + 1)));
  }
  return static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_CONF))) - 1;
}

/// How many CPUs this process may use: by its affinity and its control group's quota. At least 1.
BROOD_INLINE unsigned usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  unsigned cpus = 1;
  if (tried("sched_getaffinity", [&] { return ::sched_getaffinity(0, sizeof set, &set); }) == 0) {
    cpus = static_cast<unsigned>(std::max(1, CPU_COUNT(&set)));
  } else if (const long online = ::sysconf(_SC_NPROCESSORS_ONLN); online > 0) {
    cpus = static_cast<unsigned>(online);  // more CPUs than the set has room for
  }
  const unsigned quota = cgroup_cpus();
  return quota == 0 ? cpus : std::min(cpus, quota);
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
