// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include <brood/os/syscall.hpp>

namespace brood::inline v0_1::detail {

/// The beginning of a small file under /proc or /sys; empty when it can't be read. Throws nothing of the kernel's.
inline std::string read_small_file(const std::string& path) {
  std::string text(std::size_t{16} << 10, '\0');
  const int fd = retried("open", [&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return {};
  std::size_t size = 0;
  while (size < text.size()) {
    const auto count = retried("read", [&] { return ::read(fd, text.data() + size, text.size() - size); });
    if (count <= 0) break;
    size += static_cast<std::size_t>(count);
  }
  close_descriptor(fd);
  text.resize(size);
  return text;
}

/// The number behind a word at the beginning of a line.
inline std::optional<std::uint64_t> number_after(std::string_view text, std::string_view word) {
  for (std::size_t at = 0; at < text.size(); at = std::min(text.find('\n', at), text.size() - 1) + 1) {
    const std::string_view line = text.substr(at, text.find('\n', at) - at);
    if (line.size() > word.size() && line.starts_with(word) && line[word.size()] == ' ') {
      return std::strtoull(std::string(line.substr(word.size() + 1)).c_str(), nullptr, 10);
    }
  }
  return std::nullopt;
}

/// Which memory cgroup a text like that of /proc/self/cgroup names: the folder of its files, `unified` for version 2. Empty
/// when there is none.
inline std::string memory_cgroup_folder(std::string_view text, bool unified) {
  for (std::size_t at = 0; at < text.size(); at = std::min(text.find('\n', at), text.size() - 1) + 1) {
    const std::string_view line = text.substr(at, text.find('\n', at) - at);
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string path(line.substr(second + 1));
    if (unified && controllers.empty()) return "/sys/fs/cgroup" + path;
    if (!unified && ("," + std::string(controllers) + ",").find(",memory,") != std::string::npos) {
      return "/sys/fs/cgroup/memory" + path;
    }
  }
  return {};
}

/// Whether the kernel has killed processes because memory ran out, since somebody asked the last time. A guess: the
/// counters do not say which. They are those of this process' cgroup (whose kills include those below it, in version 2) and
/// of the machine, which is asked only where no version 2 group answers. Files that are missing count nothing.
class OomWatch {
 public:
  OomWatch() { look(); }

  /// Whether a counter has risen since the last call, or since this was made.
  bool rose() {
    const Counts before = counts_;
    look();
    if (counts_.group && before.group) {
      if (*counts_.group > *before.group) return true;
      if (counts_.unified) return false;
    }
    return counts_.machine && before.machine && *counts_.machine > *before.machine;
  }

 private:
  struct Counts {
    std::optional<std::uint64_t> group;
    std::optional<std::uint64_t> machine;
    bool unified = false;
  };

  void look() {
    counts_ = {};
    const std::string groups = read_small_file("/proc/self/cgroup");
    if (const std::string folder = memory_cgroup_folder(groups, true); !folder.empty()) {
      counts_.group = number_after(read_small_file(folder + "/memory.events"), "oom_kill");
      counts_.unified = counts_.group.has_value();
    }
    if (const std::string folder = memory_cgroup_folder(groups, false); !counts_.group && !folder.empty()) {
      counts_.group = number_after(read_small_file(folder + "/memory.oom_control"), "oom_kill");
    }
    if (!counts_.unified) counts_.machine = number_after(read_small_file("/proc/vmstat"), "oom_kill");
  }

  Counts counts_;
};

}  // namespace brood::detail
