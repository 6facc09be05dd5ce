// SPDX-License-Identifier: MIT
// What /proc says of a process.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace support {

/// The text of a file; empty when it can't be read.
inline std::string read_text(const std::string& path) {
  std::string text;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  std::array<char, 4096> piece{};
  for (;;) {
    const ssize_t size = ::read(fd, piece.data(), piece.size());
    if (size <= 0) break;  // also when the process ends meanwhile
    text.append(piece.data(), static_cast<std::size_t>(size));
  }
  ::close(fd);
  return text;
}

/// The names in a folder that are numbers, without the one of the descriptor that reads them.
inline std::set<int> numbers_in(const std::string& folder) {
  std::set<int> numbers;
  DIR* const open = ::opendir(folder.c_str());
  if (open == nullptr) return numbers;
  const bool own_descriptors = folder == "/proc/self/fd";
  while (const dirent* const entry = ::readdir(open)) {
    const std::string name = entry->d_name;
    int number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc() || *end != '\0') continue;
    if (!own_descriptors || number != ::dirfd(open)) numbers.insert(number);
  }
  ::closedir(open);
  return numbers;
}

inline std::string link_target(const std::string& path) {
  std::array<char, 4096> text{};
  const ssize_t size = ::readlink(path.c_str(), text.data(), text.size());
  return size < 0 ? std::string() : std::string(text.data(), static_cast<std::size_t>(size));
}

struct ProcessInfo {
  pid_t pid = 0;
  std::string name;
  char state = '?';
  pid_t parent = 0;
  pid_t group = 0;
};

/// Nothing when the process is gone.
inline std::optional<ProcessInfo> process_info(pid_t pid) {
  const std::string stat = read_text("/proc/" + std::to_string(pid) + "/stat");
  const auto open = stat.find('(');
  const auto close = stat.rfind(')');
  if (open == std::string::npos || close == std::string::npos) return std::nullopt;
  ProcessInfo info;
  info.pid = pid;
  info.name = stat.substr(open + 1, close - open - 1);
  std::istringstream rest(stat.substr(close + 1));
  rest >> info.state >> info.parent >> info.group;
  return info;
}

/// Whether the process runs: neither gone nor a zombie.
inline bool runs(pid_t pid) {
  const auto info = process_info(pid);
  return info && info->state != 'Z' && info->state != 'X';
}

inline std::vector<ProcessInfo> all_processes() {
  std::vector<ProcessInfo> processes;
  for (const int pid : numbers_in("/proc")) {
    if (auto info = process_info(pid)) processes.push_back(std::move(*info));
  }
  return processes;
}

/// In the environment of everything that a test run starts, so that it is found wherever it went: see mark_run.
inline constexpr const char* run_variable = "BROOD_TEST_RUN";

/// "BROOD_TEST_RUN=..."; empty in a program that nobody marked.
inline const std::string& run_marker() {
  static const std::string marker = [] {
    const char* const value = std::getenv(run_variable);
    return value != nullptr ? run_variable + ("=" + std::string(value)) : std::string();
  }();
  return marker;
}

/// Whether this process or one above it was started with the marker. Of a zombie that can't be told.
inline bool is_marked(pid_t pid) {
  if (run_marker().empty()) return false;
  const std::string environment = '\0' + read_text("/proc/" + std::to_string(pid) + "/environ");
  return environment.find('\0' + run_marker() + '\0') != std::string::npos;
}

/// The name of the process that watches over a test run (support/watchdog.hpp); it is nobody's leftover.
inline constexpr std::string_view watchdog_name = "brood-watchdog";

/// What `host` is to answer for: its children, its process group, and what was started with the marker; neither itself,
/// nor the processes above it.
inline std::vector<ProcessInfo> processes_of(pid_t host) {
  std::set<pid_t> above;
  pid_t group = -1;
  for (auto each = process_info(host); each && above.insert(each->pid).second; each = process_info(each->parent)) {
    if (each->pid == host) group = each->group;
  }
  std::vector<ProcessInfo> found;
  for (ProcessInfo& each : all_processes()) {
    if (above.contains(each.pid) || each.name == watchdog_name) continue;
    if (each.parent == host || each.group == group || is_marked(each.pid)) found.push_back(std::move(each));
  }
  return found;
}

/// The value of one line of /proc/self/status.
inline std::string own_status(const std::string& field) {
  std::istringstream file(read_text("/proc/self/status"));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field + ":\t")) return line.substr(field.size() + 2);
  }
  return {};
}

/// The descriptors of this process: "0 /dev/null", "3 pipe:[4711]".
inline std::set<std::string> own_descriptors() {
  std::set<std::string> found;
  for (const int fd : numbers_in("/proc/self/fd")) {
    found.insert(std::to_string(fd) + " " + link_target("/proc/self/fd/" + std::to_string(fd)));
  }
  return found;
}

}  // namespace support
