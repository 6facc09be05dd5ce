// SPDX-License-Identifier: MIT
// A contestant that is another program: peers/*.py, peers/*.cpp, or this program again as a host of its own.
//
// It prints "ready", or "missing" and why it can't take part. Then it reads a line for each round, measures, and prints
// the samples on one line. When its standard input ends it leaves. It leads a process group, so that one that does not
// answer can be ended with its workers: CPython's pools can deadlock when they fork beside their own threads.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

extern char** environ;

namespace bench {

/// Debian's, which has the peers' packages.
inline constexpr const char* python = "/usr/bin/python3";
inline std::string peer_script(const std::string& name) { return std::string(BROOD_BENCH_SCRIPTS) + "/" + name + ".py"; }
inline std::string peer_program(const std::string& name) { return std::string(BROOD_BENCH_PROGRAMS) + "/" + name; }

struct PeerGone : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Peer {
 public:
  explicit Peer(std::vector<std::string> command) {
    if (command.front().find('/') != std::string::npos && ::access(command.front().c_str(), X_OK) != 0) {
      trouble_ = command.front() + " is not there";
      return;
    }
    int there[2];
    int back[2];
    if (::pipe2(there, O_CLOEXEC) != 0 || ::pipe2(back, O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
    std::vector<char*> arguments;
    for (std::string& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, there[0], 0);
    ::posix_spawn_file_actions_adddup2(&actions, back[1], 1);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    const int failed = ::posix_spawnp(&pid_, command.front().c_str(), &actions, &attributes, arguments.data(), environ);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(there[0]);
    ::close(back[1]);
    in_ = back[0];
    out_ = there[1];
    if (failed != 0) {
      trouble_ = command.front() + ": " + std::strerror(failed);
      pid_ = 0;
      return;
    }
    const std::string said = line();
    if (said != "ready") trouble_ = said.starts_with("missing ") ? said.substr(8) : "it did not start";
  }

  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  ~Peer() {
    if (out_ >= 0) ::close(out_);
    if (in_ >= 0) {
      line();  // until it has left
      ::close(in_);
    }
    if (pid_ == 0) return;
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  /// Why it can't take part; empty if it can.
  const std::string& trouble() const { return trouble_; }

  std::vector<double> round(const std::string& request) {
    const std::string text = request + '\n';
    if (::write(out_, text.data(), text.size()) != static_cast<ssize_t>(text.size())) throw PeerGone("it ended");
    std::vector<double> samples;
    std::istringstream words(line());
    for (double sample = 0; words >> sample;) samples.push_back(sample);
    if (!samples.empty()) return samples;
    throw PeerGone("in one of its rounds it had no answer after " + std::to_string(patience.count()) + " s, or ended");
  }

 private:
  static constexpr std::chrono::seconds patience{20};

  /// What it prints up to the end of a line, or of the stream, or of our patience.
  std::string line() {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    for (;;) {
      const std::size_t end = read_.find('\n');
      if (end != std::string::npos) {
        std::string text = read_.substr(0, end);
        read_.erase(0, end + 1);
        return text;
      }
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      pollfd readable{in_, POLLIN, 0};
      char some[4096];
      if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) != 1) return "";
      const ssize_t got = ::read(in_, some, sizeof some);
      if (got <= 0) return "";
      read_.append(some, static_cast<std::size_t>(got));
    }
  }

  std::string trouble_;
  pid_t pid_ = 0;
  std::string read_;
  int in_ = -1;
  int out_ = -1;
};

}  // namespace bench
