// SPDX-License-Identifier: MIT
// internal
// What this process holds that a fork does not copy like memory: descriptors are shared with the copies, record locks
// and timers stay behind.
#pragma once

#include <brood/core/config.hpp>
#include <brood/core/loops.hpp>
#include <brood/os/fd.hpp>

#if BROOD_BODIES

#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace brood::inline v0_1::detail {

/// One thing that is held.
struct Held {
  std::string key;   ///< the same thing has the same one at each look
  std::string text;  ///< for messages, one line
};

/// A file of /proc. Nothing when it can't be opened.
BROOD_INLINE std::optional<std::string> read_proc_file(const std::string& path) {
  const int fd = retried("open", [&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return std::nullopt;
  std::string text;
  std::array<char, 4096> piece;
  constexpr std::size_t enough = std::size_t{1} << 20;
  while (text.size() < enough) {
    const ssize_t size = retried("read", [&] { return ::read(fd, piece.data(), piece.size()); });
    if (size <= 0) break;
    text.append(piece.data(), static_cast<std::size_t>(size));
  }
  close_descriptor(fd);
  return text;
}

/// Where /proc says that a descriptor leads, in one line; empty when it does not.
BROOD_INLINE std::string descriptor_link(int fd) {
  std::array<char, 4096> text;
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = retried("readlink", [&] { return ::readlink(path.c_str(), text.data(), text.size()); });
  std::string link(text.data(), size < 0 ? 0 : static_cast<std::size_t>(size));
  std::replace_if(link.begin(), link.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return link;
}

/// The open descriptors, by trying: where /proc is not mounted, or no descriptor is left to read it with. Those behind
/// the first 65,536 are not seen. The limit says nothing: it may have been lowered since.
BROOD_INLINE std::vector<int> probe_descriptors() {
  std::vector<int> found;
  for (int fd = 0; fd < 65'536; ++fd) {
    if (tried("fcntl", [&] { return ::fcntl(fd, F_GETFD); }) >= 0) found.push_back(fd);
  }
  return found;
}

BROOD_INLINE std::vector<int> open_descriptors() {
  const int folder = retried("open", [] { return ::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  DIR* const listing = folder < 0 ? nullptr : ::fdopendir(folder);
  if (listing == nullptr) {
    if (folder >= 0) close_descriptor(folder);
    return probe_descriptors();
  }
  std::vector<int> found;
  while (const dirent* const entry = ::readdir(listing)) {
    const int fd = entry->d_name[0] == '.' ? -1 : std::atoi(entry->d_name);
    if (fd >= 0 && fd != folder) found.push_back(fd);
  }
  ::closedir(listing);
  std::sort(found.begin(), found.end());
  return found;
}

/// Whether all may use a device at once and see nothing of each other.
BROOD_INLINE bool is_harmless_device(int fd, dev_t device) noexcept {
  constexpr dev_t memory = 1 << 8;  // the major number of null, zero, full, random and urandom
  for (const dev_t number : {3U, 5U, 7U, 8U, 9U}) {
    if (device == (memory | number)) return true;
  }
  return ::isatty(fd) == 1;
}

/// What a descriptor is, when forked copies that share it may get into each other's way; else an empty text. `link` may
/// be empty.
BROOD_INLINE std::string describe_descriptor(int fd, const std::string& link) {
  struct stat info {};
  const int flags = tried("fcntl", [&] { return ::fcntl(fd, F_GETFL); });
  if (flags < 0 || tried("fstat", [&] { return ::fstat(fd, &info); }) != 0 || (flags & O_PATH) != 0) return {};
  const std::string number = " (descriptor " + std::to_string(fd) + ")";
  constexpr std::string_view nameless = "anon_inode:";
  if (link.starts_with(nameless)) {
    std::string kind = link.substr(nameless.size());
    std::erase_if(kind, [](char c) { return c == '[' || c == ']'; });
    return (kind == "eventpoll" ? "epoll" : kind) + number;
  }
  switch (info.st_mode & S_IFMT) {
    case S_IFSOCK: return "socket" + number;
    case S_IFIFO: return "pipe" + number;
    case S_IFDIR: return {};
    case S_IFCHR:
      return is_harmless_device(fd, info.st_rdev) ? "" : "device " + (link.empty() ? "?" : link) + number;
    case S_IFREG:
    case S_IFBLK: {
      const int access = flags & O_ACCMODE;
      // what is only appended goes to the end, whoever writes it
      if (access == O_RDONLY || (access == O_WRONLY && (flags & O_APPEND) != 0)) return {};
      constexpr std::string_view memory = "/memfd:";
      if (link.starts_with(memory)) {
        return "memfd " + link.substr(memory.size(), link.rfind(" (deleted)") - memory.size()) + number +
               ": workers share its offset and its content";
      }
      return "descriptor " + std::to_string(fd) + ", " + (link.empty() ? "a file" : link) +
             " opened for writing: workers share its offset";
    }
    default: return "kernel object" + number + ": epoll, eventfd or the like; without /proc it can't be told which";
  }
}

/// The locks that were taken through a descriptor. None are seen without /proc.
BROOD_INLINE void find_locks(int fd, const std::string& link, std::vector<Held>& found) {
  std::istringstream info(read_proc_file("/proc/self/fdinfo/" + std::to_string(fd)).value_or(""));
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("lock:")) continue;
    std::istringstream words(line);  // lock: 1: POSIX ADVISORY WRITE 4711 fe:00:42 0 EOF
    std::string label, number, kind;
    words >> label >> number >> kind;
    std::string text;
    if (kind == "POSIX") {
      text = "a record lock (fcntl) on " + link + ": the server holds it, workers do not";
    } else if (kind == "FLOCK" || kind == "OFDLCK") {
      text = (kind == "FLOCK" ? "a lock (flock) on " : "a lock (fcntl, F_OFD_SETLK) on ") + link +
             ": the server and all workers hold it as one, so it keeps none of them out";
    } else {
      text = "a lease or lock (" + kind + ") on " + link + ": the server holds it";
    }
    found.push_back({"lock " + text, text});
  }
}

/// The descriptors of this process that are not the library's and that forked copies should not share, and the locks
/// that it holds on files.
BROOD_INLINE std::vector<Held> held_descriptors() {
  std::vector<int> own;
  library_descriptors.for_each([&](int fd) { own.push_back(fd); });
  std::vector<Held> found;
  for (const int fd : open_descriptors()) {
    struct stat info {};
    if (std::binary_search(own.begin(), own.end(), fd)) continue;
    if (tried("fstat", [&] { return ::fstat(fd, &info); }) != 0) continue;
    const std::string link = descriptor_link(fd);
    if (std::string text = describe_descriptor(fd, link); !text.empty()) {
      std::string key = std::to_string(fd) + ' ' + std::to_string(info.st_dev) + ' ' + std::to_string(info.st_ino);
      if (link.starts_with("anon_inode:")) key += ' ' + link;  // they have one inode for all
      found.push_back({std::move(key), std::move(text)});
    }
    if (S_ISREG(info.st_mode)) find_locks(fd, link, found);
  }
  return found;
}

/// The numbers of this process' POSIX timers, by trying the first 1,024: for kernels without /proc/self/timers.
BROOD_INLINE std::vector<int> probe_timers() {
  std::vector<int> found;
  for (int timer = 0; timer < 1024; ++timer) {
    if (tried("timer_getoverrun", [&] { return ::syscall(SYS_timer_getoverrun, timer); }) >= 0) found.push_back(timer);
  }
  return found;
}

/// The timers of this process.
BROOD_INLINE std::vector<Held> held_timers() {
  std::vector<Held> found;
  const auto look = [&](__itimer_which which, const char* text) {
    itimerval now{};
    if (tried("getitimer", [&] { return ::getitimer(which, &now); }) != 0) return;
    if (now.it_value.tv_sec == 0 && now.it_value.tv_usec == 0) return;
    found.push_back({text, text});
  };
  look(ITIMER_REAL, "a timer (alarm, or setitimer with ITIMER_REAL)");
  look(ITIMER_VIRTUAL, "a timer (setitimer with ITIMER_VIRTUAL)");
  look(ITIMER_PROF, "a timer (setitimer with ITIMER_PROF)");
  std::vector<int> numbers;
  if (const std::optional<std::string> listing = read_proc_file("/proc/self/timers")) {
    std::istringstream lines(*listing);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("ID: ")) numbers.push_back(std::atoi(line.c_str() + 4));
    }
  } else {
    numbers = probe_timers();
  }
  std::sort(numbers.begin(), numbers.end());
  for (const int each : numbers) {
    const std::string text = "a timer (timer_create, number " + std::to_string(each) + ")";
    found.push_back({text, text});
  }
  return found;
}

/// The texts of what is held now and was not before, each once.
BROOD_INLINE std::vector<std::string> what_came(const std::vector<Held>& before, const std::vector<Held>& now) {
  std::vector<std::string> came;
  for (const Held& each : now) {
    const bool known = any_of(before, [&](const Held& old) { return old.key == each.key; });
    if (!known && std::find(came.begin(), came.end(), each.text) == came.end()) came.push_back(each.text);
  }
  return came;
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
