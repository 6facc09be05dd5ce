// SPDX-License-Identifier: MIT
// Ends a test case that makes no progress, and says who waits for whom. It is a process, no thread: ForkPolicy refuses a
// host with threads. It is no child of the host either, and in a session of its own: what tests look at stays as it is.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "support/child.hpp"
#include "support/proc.hpp"
#include "support/rounds.hpp"
#include "support/who_waits.hpp"

namespace support {

class Watchdog {
 public:
  /// How many seconds a case, or one of its rounds (rounds.hpp), may take, and the whole run; 0: any number. The first
  /// is below the bound that ctest has for a run, the second is set by ctest.
  static constexpr const char* case_variable = "BROOD_TEST_CASE_SECONDS";
  static constexpr const char* run_variable = "BROOD_TEST_RUN_SECONDS";

  Watchdog() : case_bound_(bound(case_variable, 480)), run_bound_(bound(run_variable, 0)) {
    rounds_begun = &page_->rounds;
    if (case_bound_ == 0 && run_bound_ == 0) return;
    std::fflush(nullptr);
    const pid_t host = ::getpid();
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_NAME, watchdog_name.data());  // before the host looks around
      const int ends = static_cast<int>(::syscall(SYS_pidfd_open, host, 0));  // while the host waits for this process
      if (::fork() != 0) ::_exit(0);
      watch(host, ends);
      ::_exit(0);
    }
    if (child > 0) ::waitpid(child, nullptr, 0);
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog() { rounds_begun = nullptr; }

  void case_starts(const std::string& what) {
    page_->since = 0;  // meanwhile the text is nobody's
    std::snprintf(page_->what.data(), page_->what.size(), "%s", what.c_str());
    page_->since = now();
  }
  void case_ends() { page_->since = 0; }

 private:
  struct Page {
    std::atomic<std::uint64_t> since{0};  ///< when the case began; 0: there is none
    std::atomic<std::uint64_t> rounds{0};
    std::array<char, 1024> what{};
  };

  /// In seconds, and never 0.
  static std::uint64_t now() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) + 1;
  }
  static std::uint64_t bound(const char* variable, std::uint64_t otherwise) {
    const char* const text = std::getenv(variable);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
  }

  void watch(pid_t host, int ends) {
    ::setsid();
    ::dup2(::open("/dev/null", O_RDWR), STDIN_FILENO);
    ::dup2(STDIN_FILENO, STDOUT_FILENO);
    for (const int fd : numbers_in("/proc/self/fd")) {
      if (fd > STDERR_FILENO && fd != ends) ::close(fd);
    }
    const std::uint64_t start = now();
    std::uint64_t rounds = 0;
    std::uint64_t round_since = start;
    while (!ended_within(host, ends, 1'000)) {
      if (page_->rounds != rounds) {
        rounds = page_->rounds;
        round_since = now();
      }
      const std::uint64_t since = page_->since == 0 ? 0 : std::max<std::uint64_t>(page_->since, round_since);
      if (run_bound_ != 0 && now() - start >= run_bound_) return bark(host, ends, "the run", now() - start);
      if (case_bound_ != 0 && since != 0 && now() >= since + case_bound_) return bark(host, ends, "the case", now() - since);
    }
  }

  static bool ended_within(pid_t host, int ends, int milliseconds) {
    pollfd watched{ends, POLLIN, 0};
    return ::poll(&watched, 1, milliseconds) > 0 || (ends < 0 && ::kill(host, 0) != 0);
  }

  void bark(pid_t host, int ends, const char* which, std::uint64_t seconds) {
    const bool in_case = page_->since != 0;
    const std::string text = "\nWATCHDOG: " + std::string(which) + " has not ended after " + std::to_string(seconds) +
                             " s. It is in " + (in_case ? page_->what.data() : "no test case") +
                             ". Who waits for whom:\n" + who_waits(host);
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t size = ::write(STDERR_FILENO, text.data() + done, text.size() - done);
      if (size <= 0) break;
      done += static_cast<std::size_t>(size);
    }
    const auto others = processes_of(host);
    ::kill(host, SIGABRT);
    if (!ended_within(host, ends, 5'000)) ::kill(host, SIGKILL);  // its handler may wait for what all wait for
    for (const ProcessInfo& each : others) {
      // a pid of a process that ended meanwhile may be another's now
      const auto info = process_info(each.pid);
      if (info && info->name == each.name && (info->group == each.group || is_marked(each.pid))) ::kill(each.pid, SIGKILL);
    }
  }

  std::uint64_t case_bound_;
  std::uint64_t run_bound_;
  Shared<Page> page_;
};

}  // namespace support
