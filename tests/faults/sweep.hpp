// SPDX-License-Identifier: MIT
// Runs a scenario in a process of its own, a host, under a fault, and judges how it ended.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>

#include <brood/core/exit_status.hpp>
#include <brood/pool/outcome.hpp>

#include "faults/board.hpp"
#include "support/eventually.hpp"
#include "support/leftovers.hpp"
#include "support/proc.hpp"
#include "support/who_waits.hpp"

namespace support {

/// How a scenario ended.
struct Verdict {
  enum class Kind { survived, typed_error, broken };
  Kind kind = Kind::broken;
  std::string text;  ///< what was wrong, or which error was thrown
};

/// What a scenario throws when a promise was broken.
struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A task's failure as the scenario may see it under a fault: one that a task can't be blamed for.
inline bool is_typed(const brood::Failure& failure) {
  switch (failure.kind()) {
    case brood::FailureKind::launch:
    case brood::FailureKind::preload:
    case brood::FailureKind::worker_died:
    case brood::FailureKind::image_mismatch: return true;
    case brood::FailureKind::protocol: return failure.message().find("can't be read") != std::string::npos;
    default: return false;
  }
}

/// A number from the environment.
inline std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// Every how many-th run is taken: scripts/faults takes all.
inline std::uint64_t sweep_step() { return setting("BROOD_FAULTS_STEP", 151); }

/// The processes of this test that are no zombies: " 17 (name) 18 (name) ".
inline std::string processes_that_stay() {
  std::string text = " ";
  for (const ProcessInfo& each : processes_of(::getpid())) {
    if (each.state != 'Z' && each.state != 'X') text += std::to_string(each.pid) + " (" + each.name + ") ";
  }
  return text;
}

/// Runs the scenario in a forked copy of this process, which is audited at its end. The scenario returns true when
/// everything came out as without a fault, false when a typed error took its place, and throws Broken. A watchdog tells
/// who waits for whom, and kills. A host that `board` has killed has survived when nothing outlives it.
inline Verdict run_scenario(Board& board, const std::function<bool()>& scenario,
                            std::chrono::seconds bound = std::chrono::seconds(60)) {
  const int output = ::memfd_create("brood-sweep", MFD_CLOEXEC);
  if (output < 0) throw std::runtime_error("memfd_create failed in the test itself");
  std::fflush(nullptr);
  const std::string before = processes_that_stay();
  const pid_t child = ::fork();
  if (child == 0) {
    ::setpgid(0, 0);
    ::dup2(output, STDOUT_FILENO);
    ::dup2(output, STDERR_FILENO);
    int code = 2;
    try {
      Leftovers audit;
      try {
        code = scenario() ? 0 : 1;
      } catch (const Broken& error) {
        std::printf("%s", error.what());
      } catch (const brood::Error& error) {
        std::printf("%s", error.what());
        code = 1;
      } catch (const std::exception& error) {
        std::printf("threw no error of the library's: %s (%s)", error.what(), typeid(error).name());
      }
      if (const std::string left = audit.judge(); !left.empty()) {
        std::printf(" %s", left.c_str());
        code = 2;
      }
    } catch (const std::exception& error) {
      std::printf("the audit threw %s", error.what());
      code = 2;
    }
    std::fflush(nullptr);
    ::_exit(code);
  }
  ::setpgid(child, child);
  Verdict verdict;
  int status = 0;
  const bool ended = eventually([&] { return ::waitpid(child, &status, WNOHANG) != 0; }, bound);
  if (!ended) {
    verdict.text = "it hangs:" + board.who_waits() + "\n" + who_waits(child);
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
  }
  const auto how = brood::ExitStatus::from_wait(status);
  // what it left is found by the marker, in whichever group: far sooner than the tasks of the scenario end by themselves
  std::string left;
  const bool killed = ended && how.signaled() && how.signal() == SIGKILL && board.kills(ProcessRole::host);
  if (killed) eventually([&] { return (left = processes_that_stay()) == before; }, std::chrono::seconds(5));
  for (const ProcessInfo& each : processes_of(::getpid())) {
    if (before.find(' ' + std::to_string(each.pid) + ' ') == std::string::npos) ::kill(each.pid, SIGKILL);
  }
  std::array<char, 8192> text{};
  const ssize_t size = ::pread(output, text.data(), text.size(), 0);
  ::close(output);
  if (size > 0) verdict.text.append(text.data(), static_cast<std::size_t>(size));
  if (!ended) return verdict;
  if (killed) {
    if (left == before) verdict.kind = Verdict::Kind::survived;
    else verdict.text += " the host was killed, and is outlived by" + left + " (before it there were:" + before + ')';
  } else if (!how.exited()) {
    verdict.text += " the host " + how.describe();
  } else if (how.code() == 0) {
    verdict.kind = Verdict::Kind::survived;
  } else if (how.code() == 1) {
    verdict.kind = Verdict::Kind::typed_error;
  } else if (how.code() != 2) {
    verdict.text += " the host " + how.describe();
  }
  return verdict;
}

}  // namespace support
