// SPDX-License-Identifier: MIT
// The audit of a host: what a test must leave as it was. To be the first variable of every test case.
#pragma once

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "support/eventually.hpp"
#include "support/proc.hpp"
#include "support/sanitizer.hpp"

namespace support {

/// Looks at processes (children, zombies, orphans in whichever group), descriptors, threads, mappings of shared
/// memory, signal mask and dispositions, resource limits, the adoption of orphans, working folder, umask and environment at its
/// construction, and again at its destruction, where it fails the test for each that came or went. Around a case that has
/// none, the listener of support/listener.hpp looks.
class Leftovers {
 public:
  Leftovers() {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);  // deaths are wanted here, dumps are not
    if (::getpgrp() != ::getpid()) ::setpgid(0, 0);  // a group of its own, so that what is killed with it is its own
    before_ = look();
  }
  Leftovers(const Leftovers&) = delete;
  Leftovers& operator=(const Leftovers&) = delete;

  ~Leftovers() {
    if (judged_ || ::getpid() != owner_) return;  // not in a child that came back
    const std::string text = difference();
    told_ = told_ || !text.empty();
    CHECK_MESSAGE(text.empty(), text);
  }

  /// Whether some audit has failed since the last time that this was asked.
  static bool told() { return std::exchange(told_, false); }

  /// For a process that is no test case itself: what came or went, empty when nothing did. The destructor then says nothing.
  std::string judge() {
    judged_ = true;
    return difference();
  }

 private:
  static std::set<std::string> look() {
    std::set<std::string> found;
    for (const ProcessInfo& each : processes_of(::getpid())) {
      if (each.state == 'Z' && each.parent != ::getpid()) continue;  // for init to reap
      found.insert((each.state == 'Z' ? "zombie " : "process ") + std::to_string(each.pid) + " (" + each.name + ", parent " +
                   std::to_string(each.parent) + ", group " + std::to_string(each.group) + ")");
    }
    for (const std::string& each : own_descriptors()) found.insert("descriptor " + each);
    if (!has_thread_sanitizer) {  // it starts a thread of its own
      for (const int thread : numbers_in("/proc/self/task")) found.insert("thread " + std::to_string(thread));
    }
    for (const char* field : {"SigBlk", "SigIgn", "SigCgt"}) {
      // 32 and 33 are libc's own: it takes them when a process starts its first thread
      const std::uint64_t own = std::stoull(own_status(field), nullptr, 16) & ~(std::uint64_t{3} << 31);
      found.insert(field + (": " + std::to_string(own)));
    }
    std::istringstream maps(read_text("/proc/self/maps"));
    for (std::string line; std::getline(maps, line);) {
      const auto path = line.find("/memfd:");
      if (path != std::string::npos) found.insert("mapping " + line.substr(0, line.find(' ')) + " " + line.substr(path));
    }
    found.insert("folder " + std::filesystem::current_path().string());
    const mode_t mask = ::umask(0);
    ::umask(mask);
    found.insert("umask " + std::to_string(mask));
    for (int each = 0; each < static_cast<int>(RLIMIT_NLIMITS); ++each) {
      rlimit limit{};
      if (::getrlimit(each, &limit) != 0) continue;
      found.insert("limit " + std::to_string(each) + " (of setrlimit): " + std::to_string(limit.rlim_cur) + ", " +
                   std::to_string(limit.rlim_max));
    }
    int adopts = 0;
    ::prctl(PR_GET_CHILD_SUBREAPER, &adopts);
    if (adopts != 0) found.insert("subreaper flag");
    for (char** each = ::environ; *each != nullptr; ++each) found.insert(std::string("environment ") + *each);
    return found;
  }

  std::string difference() const {
    std::set<std::string> now;
    // an ended thread, and a process that was killed and whose parent is gone, are listed for a moment longer
    const bool same = eventually(
        [&] {
          now = look();
          return now == before_;
        },
        std::chrono::seconds(3));
    if (same) return {};
    std::set<std::string> came;
    std::set<std::string> went;
    std::set_difference(now.begin(), now.end(), before_.begin(), before_.end(), std::inserter(came, came.end()));
    std::set_difference(before_.begin(), before_.end(), now.begin(), now.end(), std::inserter(went, went.end()));
    std::string text = "the host is not as it was:";
    for (const std::string& each : came) text += "\n  came: " + each;
    for (const std::string& each : went) text += "\n  went: " + each;
    return text;
  }

  const pid_t owner_ = ::getpid();
  std::set<std::string> before_;
  bool judged_ = false;
  static inline bool told_ = false;
};

}  // namespace support
