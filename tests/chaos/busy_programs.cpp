// SPDX-License-Identifier: MIT
// A thread that writes a program and runs it, again and again, while another one starts processes. One of those that has a
// copy of the descriptor it was written through makes it busy: ETXTBSY. Beside pools that must not come about more often than
// beside as many plain calls of posix_spawn(3).
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"
#include "support/clone3.hpp"
#include "support/proc.hpp"

namespace chaos {
namespace in_busy_programs {

constexpr unsigned turn = 50;      ///< so many of one kind, then so many of the other
constexpr unsigned judged = 1000;  ///< of fewer nothing can be said
const char* const program = "/bin/true";

std::uint64_t twice(std::uint64_t n) { return n * 2; }

/// 0, or why it did not start.
int run_program(const std::string& path) {
  std::string name = path;
  std::array<char*, 2> argv{name.data(), nullptr};
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, path.c_str(), nullptr, nullptr, argv.data(), ::environ);
  if (error == 0) ::waitpid(pid, nullptr, 0);
  return error;
}

/// Writes a program and runs it; counts by what goes on beside.
class Writer {
 public:
  enum Beside { calls, pools, nothing };

  explicit Writer(bool idle) {
    if (!idle)
      thread_ = std::jthread([this](const std::stop_token& stop) {
        while (!stop.stop_requested()) write_and_run();
      });
  }

  /// Until a program is just being written; for a while yet it will be.
  void await_opening() {
    if (thread_.joinable()) opened_.wait(opened_.load());
  }
  void set_beside(Beside beside) { beside_ = beside; }
  unsigned refused(Beside beside) const { return refused_[beside]; }
  unsigned run(Beside beside) const { return run_[beside]; }
  unsigned otherwise() const { return otherwise_; }

  /// The program, opened to be written: whoever runs it from now on finds it busy.
  int hold() const {
    for (;;) {
      const int fd = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
      if (fd >= 0 || errno != ETXTBSY) return fd;  // it runs just now, and not for long
      ::usleep(100);
    }
  }

  ~Writer() {
    thread_ = {};
    ::unlink(path_.c_str());
  }

 private:
  void write_and_run() {
    const Beside beside = beside_;
    const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    ++opened_;
    opened_.notify_all();
    bool written = fd >= 0;
    for (std::string_view rest = content_; written && !rest.empty(); rest.remove_prefix(std::min(rest.size(), piece))) {
      ::usleep(100);
      written = ::write(fd, rest.data(), std::min(rest.size(), piece)) > 0;
    }
    ::close(fd);
    const int error = written ? run_program(path_) : EIO;
    (error == 0 ? run_[beside] : error == ETXTBSY ? refused_[beside] : otherwise_) += 1;
  }

  static constexpr std::size_t piece = 8192;
  const std::string path_ = own_file("program");
  const std::string content_ = support::read_text(program);
  std::atomic<Beside> beside_ = nothing;
  std::array<std::atomic<unsigned>, 3> refused_{};
  std::array<std::atomic<unsigned>, 3> run_{};
  std::atomic<unsigned> otherwise_ = 0;
  std::atomic<unsigned> opened_ = 0;
  std::jthread thread_;
};

template <class Policy>
unsigned run_pools(Writer& writer, unsigned count, const Options& options, unsigned done) {
  unsigned wrong = 0;
  for (unsigned n = 0; n < count; ++n) {
    Watchdog::beat("a pool beside a program that is written", done + n);
    writer.await_opening();
    brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 1});
    const Watched watched(pool);
    const auto outcome = pool.submit(&twice, std::uint64_t{n}).outcome();
    wrong += outcome && *outcome == 2 * n + (options.inject == "wrong" ? 1U : 0U) ? 0U : 1U;
  }
  return wrong;
}

template <class Policy>
Report write_beside(const std::string& name, const Options& options, bool without_clone3) {
  Report report("busy-programs", name, options.seed);
  unsigned wrong = 0;
  const std::set<std::string> before = belongings();
  const auto began = Clock::now();
  {
    Writer writer(options.inject == "idle");
    bool as_named = true;
    for (unsigned done = 0; done < options.rounds; done += turn) {
      const unsigned count = std::min(turn, options.rounds - done);
      writer.set_beside(Writer::calls);
      for (unsigned n = 0; n < count; ++n) {
        writer.await_opening();
        wrong += run_program(program) != 0 ? 1U : 0U;
      }
      writer.set_beside(Writer::pools);
      const brood::detail::Fd held(options.inject == "held" ? writer.hold() : -1);
      std::thread([&] {  // a filter of system calls is its thread's
        if (without_clone3 && !support::refuse_clone3(EPERM)) as_named = false;
        wrong += run_pools<Policy>(writer, count, options, done);
      })
          .join();
    }
    writer.set_beside(Writer::nothing);
    const double beside_calls = writer.refused(Writer::calls);
    const double beside_pools = writer.refused(Writer::pools);
    const auto rate = [&](Writer::Beside beside) {
      return 100.0 * writer.refused(beside) / std::max(1U, writer.refused(beside) + writer.run(beside));
    };
    report.say(
        text("%u calls of posix_spawn and %u pools, in turns of %u, in %.1f s; %.0f of %u programs were busy beside "
             "calls (%.2f %%), %.0f of %u beside pools (%.2f %%)",
             options.rounds, options.rounds, turn, ms_since(began) / 1000, beside_calls,
             writer.refused(Writer::calls) + writer.run(Writer::calls), rate(Writer::calls), beside_pools,
             writer.refused(Writer::pools) + writer.run(Writer::pools), rate(Writer::pools)));
    if (!as_named) report.say("clone3 can't be refused here: no filter of system calls is taken");
    // Two counts of what happens by chance differ by four times the root of their sum once in 30,000 runs.
    report.count("refused beside pools", beside_pools, beside_calls + 4 * std::sqrt(beside_calls + beside_pools));
    report.need("refused beside calls", beside_calls, 1, options.rounds >= judged);
    report.need("programs run beside pools", writer.run(Writer::pools), options.rounds / 10.0);
    report.count("failed otherwise", writer.otherwise());
  }
  report.count("wrong values", wrong);
  report_left_behind(report, left_behind(before));
  return report;
}

}  // namespace in_busy_programs

Mode busy_programs() {
  using namespace in_busy_programs;
  Options defaults;
  defaults.rounds = 200;
  return {"busy-programs",
          "N pools beside a thread that writes a program and runs it",
          "rounds",
          "held idle wrong",
          defaults,
          [](const Options& options) {
            const auto wanted = [&](std::string_view name) {
              return options.policy == "all" || options.policy == name;
            };
            std::vector<Report> all;  // none of ForkPolicy, which refuses a host with such a thread
            for (const bool refused : {false, true}) {
              const std::string more = refused ? ", no clone3" : "";
              if (wanted("spawn"))
                all.push_back(write_beside<brood::SpawnPolicy>("SpawnPolicy" + more, options, refused));
              if (!wanted("server")) continue;
              all.push_back(write_beside<brood::ForkServerPolicy<>>("ForkServerPolicy<>" + more, options, refused));
            }
            return all;
          }};
}

}  // namespace chaos
