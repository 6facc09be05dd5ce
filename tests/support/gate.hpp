// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include <brood/pool/pool.hpp>

#include "support/eventually.hpp"

namespace support {

/// A file that tasks wait for: they run until the test opens the gate.
class Gate {
 public:
  Gate() : path_("/tmp/brood_gate_" + std::to_string(::getpid()) + "_" + std::to_string(++count)) { ::unlink(path_.c_str()); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate() { ::unlink(path_.c_str()); }

  const std::string& path() const { return path_; }
  void open() const { ::close(::open(path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)); }

 private:
  static inline int count = 0;
  std::string path_;
};

/// A task: returns n once the gate is open.
inline int wait_for_gate(const std::string& path, int n) {
  eventually([&] { return ::access(path.c_str(), F_OK) == 0; }, std::chrono::seconds(240));
  return n;
}

/// Waits until so many tasks of the pool run.
template <class Policy>
bool wait_until_running(brood::Pool<Policy>& pool, std::size_t tasks) {
  return eventually([&] { return pool.stats().running == tasks; });
}

}  // namespace support
