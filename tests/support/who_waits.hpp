// SPDX-License-Identifier: MIT
// Who waits for whom, as the kernel sees it: for the report of a watchdog.
#pragma once

#include <sys/types.h>

#include <string>

#include "support/proc.hpp"

namespace support {

/// A process or a thread and what it waits in, in one line.
inline std::string what_it_waits_in(pid_t pid) {
  const auto info = process_info(pid);
  const std::string folder = "/proc/" + std::to_string(pid);
  std::string call = read_text(folder + "/syscall");
  while (!call.empty() && call.back() == '\n') call.pop_back();
  return std::to_string(pid) + " (" + (info ? info->name : "gone") + "): state " + (info ? info->state : '?') + ", in " +
         read_text(folder + "/wchan") + ", system call " + call + '\n';
}

/// The threads of a host and the processes around it, a line each.
inline std::string who_waits(pid_t host) {
  std::string text;
  for (const int thread : numbers_in("/proc/" + std::to_string(host) + "/task")) text += "  thread " + what_it_waits_in(thread);
  for (const ProcessInfo& each : processes_of(host)) {
    text += "  process, child of " + std::to_string(each.parent) + ", " + what_it_waits_in(each.pid);
  }
  return text;
}

}  // namespace support
