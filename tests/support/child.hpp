// SPDX-License-Identifier: MIT
// Child processes of a test: other programs, and copies of the test that play a host.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <brood/core/exit_status.hpp>

#include "support/sanitizer.hpp"

namespace support {

struct Ran {
  brood::ExitStatus status;
  std::string output;  ///< stdout and stderr
};

/// Runs `body` in a forked copy of this process, until it ends; kills it after the bound (four times it with a sanitizer).
/// What it returns is its exit code. It prints to the pipe whose text comes back.
inline Ran run_in_child(const std::function<int()>& body, int bound_ms = 60'000) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {};
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    int code = 99;
    try {
      code = body();
    } catch (const std::exception& error) {
      std::printf("threw %s\n", error.what());
    }
    std::fflush(nullptr);
    ::_exit(code);
  }
  ::close(ends[1]);
  if (has_sanitizer) bound_ms *= 4;
  Ran ran;
  std::array<char, 4096> piece{};
  for (;;) {
    pollfd watched{ends[0], POLLIN, 0};
    if (::poll(&watched, 1, bound_ms) == 0) {
      ::kill(child, SIGKILL);
      ran.output += "(killed: it took too long)";
      break;
    }
    const ssize_t size = ::read(ends[0], piece.data(), piece.size());
    if (size <= 0) break;
    ran.output.append(piece.data(), static_cast<std::size_t>(size));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  ran.status = brood::ExitStatus::from_wait(status);
  return ran;
}

/// Replaces this process by a program.
[[noreturn]] inline void exec(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

inline Ran run_program(const std::vector<std::string>& words, int bound_ms = 60'000) {
  return run_in_child([&]() -> int { exec(words); }, bound_ms);
}

/// Memory that a test and its children have in common.
template <class T>
class Shared {
 public:
  Shared()
      : object_(new (::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) T()) {}
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { ::munmap(object_, sizeof(T)); }

  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }

 private:
  T* object_;
};

}  // namespace support
