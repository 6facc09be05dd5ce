// SPDX-License-Identifier: MIT
// Which processes are ours, whatever parent, group and session they have by now: those of a run bear its mark in their
// environment.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

#include "support/proc.hpp"

namespace chaos {

constexpr const char* mark_name = "BROOD_CHAOS_RUN";
constexpr std::size_t host_digits = 10;  ///< a mark ends with the number of the host, which is 0 for the program itself

inline std::string host_number(pid_t host) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%0*d", static_cast<int>(host_digits), host);
  return text.data();
}

/// The first thing in main: starts the program once more, with a mark that no other run has. The kernel shows the environment
/// that a program was started with, so it is too late to set one.
inline void mark_run(char** argv) {
  if (std::getenv(mark_name) != nullptr) return;  // that second time, or a worker
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  const std::string mark = std::to_string(::getpid()) + "-" + std::to_string(now) + "-" + host_number(0);
  const std::string program = support::link_target("/proc/self/exe");
  if (::setenv(mark_name, mark.c_str(), 1) == 0) ::execv(program.c_str(), argv);
  throw std::system_error(errno, std::generic_category(), program + " can't be started with a mark in its environment");
}

/// In a child that plays a host: it and whatever it starts can be told from the rest of the run. Written where the kernel
/// reads it.
inline void mark_host() {
  char* const mark = std::getenv(mark_name);
  std::memcpy(mark + std::strlen(mark) - host_digits, host_number(::getpid()).c_str(), host_digits);
}

/// The host that this process is; 0 for the program itself.
inline pid_t own_host() {
  const std::string mark = std::getenv(mark_name);
  return std::stoi(mark.substr(mark.size() - host_digits));
}

/// Whether a process bears the mark of that host; of any in this run, for 0.
inline bool is_marked(pid_t pid, pid_t host) {
  std::string mark = std::string(mark_name) + '=' + std::getenv(mark_name);
  mark.resize(mark.size() - host_digits);
  if (host != 0) mark += host_number(host);
  return support::read_text("/proc/" + std::to_string(pid) + "/environ").find(mark) != std::string::npos;
}

/// Another process that this one, or what it started, has started.
inline bool is_ours(const support::ProcessInfo& it) {
  if (it.pid == ::getpid()) return false;
  return it.parent == ::getpid() || it.group == ::getpgrp() || is_marked(it.pid, own_host());
}

}  // namespace chaos
