// SPDX-License-Identifier: MIT
// Limits, taken on in processes of their own.
#include <sys/resource.h>
#include <time.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/os/cpus.hpp>
#include <brood/os/limits.hpp>

#include "support/child.hpp"
#include "support/leftovers.hpp"

using namespace std::chrono_literals;

TEST_CASE("limit_cpus refuses a CPU that the kernel would pass over") {
  const support::Leftovers audit;
  const auto ran = support::run_in_child([] {
    cpu_set_t own;
    CPU_ZERO(&own);
    if (::sched_getaffinity(0, sizeof own, &own) != 0) return 2;
    unsigned cpu = 0;
    while (!CPU_ISSET(cpu, &own)) ++cpu;
    brood::detail::limit_cpus({cpu});
    try {
      brood::detail::limit_cpus({cpu, 9'999});
    } catch (const brood::detail::NotTakenOn& refused) {
      std::printf("%s", refused.what());
      return refused.error() == EINVAL ? 0 : 3;
    }
    return 1;
  });
  CHECK_MESSAGE(ran.status.code() == 0, ran.output);
  CHECK(ran.output.find("9999}: this process may not run on CPU 9999") != std::string::npos);
}

TEST_CASE("highest_cpu is not below the CPUs that this process may use") {
  const support::Leftovers audit;
  cpu_set_t own;
  CPU_ZERO(&own);
  REQUIRE(::sched_getaffinity(0, sizeof own, &own) == 0);
  for (unsigned cpu = brood::detail::highest_cpu() + 1; cpu < CPU_SETSIZE; ++cpu) CHECK_FALSE(CPU_ISSET(cpu, &own));
}

TEST_CASE("limit_cpu_time counts from now, and never raises a limit that is there") {
  const support::Leftovers audit;
  const auto ran = support::run_in_child([] {
    timespec used{};
    while (used.tv_sec < 1) ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);  // a second of CPU
    const std::uint64_t end = brood::detail::limit_cpu_time(100s);
    rlimit limit{};
    ::getrlimit(RLIMIT_CPU, &limit);
    if (end < 102 || end > 110 || limit.rlim_cur != end || limit.rlim_max != end + 1) return 1;
    if (brood::detail::limit_cpu_time(10'000s) != end) return 2;
    if (brood::detail::limit_cpu_time(std::chrono::seconds::max()) != end) return 3;
    ::getrlimit(RLIMIT_CPU, &limit);
    return limit.rlim_cur == end && limit.rlim_max == end + 1 ? 0 : 4;
  });
  CHECK(ran.status.code() == 0);
}

TEST_CASE("own_memory sees what a process has touched") {
  const support::Leftovers audit;
  const auto before = brood::detail::own_memory();
  constexpr std::size_t size = std::size_t{64} << 20;
  const std::vector<char> touched(size, 1);
  const auto now = brood::detail::own_memory();
  CHECK(now.resident > before.resident + size / 2);
  CHECK(now.address_space >= now.resident);
  CHECK(before.resident > 0);
}
