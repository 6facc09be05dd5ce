// SPDX-License-Identifier: MIT
// internal
// Environment and working directory of processes that are started later.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// What a process is to have; null and -1: what its parent has.
struct Surroundings {
  char* const* environment = nullptr;
  int directory = -1;

  /// This process, a fresh copy of its parent, has them from now on. Allocates nothing and takes no lock. False when it may not
  /// enter the directory.
  bool enter() const noexcept {
    if (environment != nullptr) ::environ = const_cast<char**>(environment);
    return directory < 0 || retried("fchdir", [&] { return ::fchdir(directory); }) == 0;
  }
};

/// A directory, to be entered later whatever it is called by then. Throws SystemError when it is not there, is none, or may not be
/// entered.
inline Fd open_directory(const char* path) {
  Fd directory = own("open", retried("open", [&] { return ::open(path, O_PATH | O_DIRECTORY | O_CLOEXEC); }));
  checked("access", [&] { return ::faccessat(AT_FDCWD, path, X_OK, AT_EACCESS); });
  return directory;
}

/// A list of "NAME=value".
class Environment {
 public:
  Environment() = default;
  /// That of this process as it is now.
  static Environment now() {
    Environment result;
    for (char** each = ::environ; each != nullptr && *each != nullptr; ++each) result.variables_.emplace_back(*each);
    return result;
  }

  /// Sets a variable for each "NAME=value", and takes it away for each "NAME".
  void change(std::span<const std::string> changes) {
    for (const std::string& change : changes) {
      const std::string_view name = std::string_view(change).substr(0, change.find('='));
      std::erase_if(variables_, [&](const std::string& each) {
        return std::string_view(each).substr(0, each.find('=')) == name;
      });
      if (name.size() != change.size()) variables_.push_back(change);
    }
  }

  /// For exec and environ: valid as long as this is neither changed nor moved.
  char* const* pointers() {
    pointers_.clear();
    for (std::string& each : variables_) pointers_.push_back(each.data());
    pointers_.push_back(nullptr);
    return pointers_.data();
  }

 private:
  std::vector<std::string> variables_;
  std::vector<char*> pointers_;
};

}  // namespace brood::detail
