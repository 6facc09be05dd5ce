// SPDX-License-Identifier: MIT
// Hosts that are killed at a random instant, whatever their workers do: what outlives them.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"
#include "support/child.hpp"

namespace chaos {
namespace in_host_death {

using std::chrono::microseconds;

constexpr unsigned workers = 2;

enum class State { constructor, idle, busy, blocked, deaf, server_stopped, bystander };
constexpr std::array states = {"in the constructor",  "idle",
                               "busy in a loop",      "blocked in a call",
                               "signals blocked",     "signals blocked, and the server stopped",
                               "busy, and a bystander has our descriptors"};

void loop() {
  for (volatile unsigned n = 0;;) n = n + 1;
}
void block() {
  std::array<int, 2> ends{};
  char byte = 0;
  if (::pipe(ends.data()) == 0) static_cast<void>(!::read(ends[0], &byte, 1));
}
void loop_deaf() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  loop();
}
void nothing() {}

struct Notes {
  std::atomic<pid_t> bystander = 0;
  std::atomic<bool> complete = false;
};

/// The host. Never returns: it is killed.
template <class Policy>
[[noreturn]] void play_host(State state, Notes& notes, const std::string& inject) {
  if (inject == "survivor" && ::fork() == 0) {
    for (;;) ::pause();
  }
  if (inject == "daemon") leave_orphan();
  brood::Pool<Policy> pool({.workers = workers});
  std::vector<brood::Future<void>> futures;
  for (unsigned n = 0; n < workers; ++n) {
    futures.push_back(pool.submit(state == State::idle      ? &nothing
                                  : state == State::blocked ? &block
                                  : state == State::deaf || state == State::server_stopped ? &loop_deaf
                                                            : &loop));
  }
  if (state == State::idle) {
    for (const auto& future : futures) future.wait();
  } else {
    support::eventually([&] { return pool.stats().running == workers; });
  }
  if (state == State::server_stopped) {
    const pid_t server = pool.stats().server_pid;
    ::kill(server, SIGSTOP);
    support::eventually([&] { return support::process_info(server)->state == 'T'; });
  }
  if (state == State::bystander) {
    const pid_t child = ::fork();  // has everything that the host has
    if (child == 0) {
      ::setpgid(0, 0);  // and is no process of its group
      for (;;) ::pause();
    }
    ::setpgid(child, child);
    notes.bystander = child;
  }
  notes.complete = true;
  for (;;) ::pause();
}

/// The processes of a host that was killed, without the bystander.
std::vector<support::ProcessInfo> outliving(pid_t host, pid_t bystander) {
  std::vector<support::ProcessInfo> found;
  for (auto& each : support::all_processes()) {
    if (each.state == 'Z' || each.state == 'X' || each.pid == bystander) continue;
    if (each.group == host || is_marked(each.pid, host)) found.push_back(std::move(each));
  }
  return found;
}

/// How long it takes until all is up: what random instants are chosen from.
template <class Policy>
microseconds time_to_be_up() {
  const auto began = Clock::now();
  brood::Pool<Policy> pool({.workers = 1});
  pool.submit(&nothing).get();
  return std::chrono::duration_cast<microseconds>(Clock::now() - began);
}

template <class Policy>
Report kill_hosts(const std::string& name, const Options& options) {
  Report report("host-death", name, options.seed);
  const std::set<std::string> before = belongings();
  std::mt19937 random(options.seed);
  const microseconds up = time_to_be_up<Policy>();
  const auto up_to = [&](microseconds most) {
    return microseconds(std::uniform_int_distribution<microseconds::rep>(0, most.count())(random));
  };
  unsigned outlived = 0;
  unsigned stillborn = 0;
  std::vector<double> times;
  const auto began = Clock::now();
  for (std::size_t state = 0; state < states.size(); ++state) {
    for (unsigned round = 0; round < options.rounds; ++round) {
      Watchdog::beat(states[state], round);
      const support::Shared<Notes> notes;
      const pid_t host = fork_host(
          [&] { play_host<Policy>(static_cast<State>(state), *notes, state == 0 ? options.inject : std::string()); });
      if (static_cast<State>(state) == State::constructor) {
        std::this_thread::sleep_for(up_to(2 * up));
      } else {
        stillborn += support::eventually([&] { return notes->complete.load(); }) ? 0U : 1U;
        std::this_thread::sleep_for(up_to(2ms));
      }
      if (!options.inject.empty() && state == 0) std::this_thread::sleep_for(20ms);
      ::kill(host, SIGKILL);
      const auto killed = Clock::now();
      ::waitpid(host, nullptr, 0);
      const pid_t bystander = notes->bystander;
      const auto patience = options.judge_times ? 1s : 20s;
      const bool gone = support::eventually([&] { return outliving(host, bystander).empty(); }, patience);
      times.push_back(ms_since(killed));
      if (!gone) {
        ++outlived;
        for (const auto& each : outliving(host, bystander)) {
          report.say(std::string(states[state]) + ": " + each.name + " (" + std::to_string(each.pid) + ") outlives its host");
          ::kill(each.pid, SIGKILL);
        }
      }
      if (bystander != 0) ::kill(bystander, SIGKILL);
    }
  }
  report.say(text("%u hosts killed in each of %zu states in %.1f s; the last process was gone after, p50 %.2f ms, p99 %.2f ms, "
                  "at most %.2f ms",
                  options.rounds, states.size(), ms_since(began) / 1000, percentile(times, 0.5), percentile(times, 0.99),
                  percentile(times, 1)));
  report.count("hosts that something outlived", outlived);
  report.count("hosts that never were what they should be", stillborn);
  report.measure("the last process is gone after, longest", percentile(times, 1), 1000, "ms", options.judge_times);
  report_left_behind(report, left_behind(before));
  return report;
}

}  // namespace in_host_death

Mode host_death() {
  using namespace in_host_death;
  Options defaults;
  defaults.rounds = 20;
  return {"host-death", "N hosts killed in each of seven states; nothing may outlive them", "rounds", "survivor daemon", defaults,
          [](const Options& options) {
            return each_policy(options, [&]<class Policy>(const char* name) { return kill_hosts<Policy>(name, options); });
          }};
}

}  // namespace chaos
