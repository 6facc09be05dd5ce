// SPDX-License-Identifier: MIT
// A storm of signals while servers and workers start: timers hit the host, another process its whole group, and so also
// whatever has the host's memory and handlers for a moment, as a child between vfork and exec has.
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"
#include "support/child.hpp"
#include "support/clone3.hpp"

namespace chaos {
namespace in_signals {

constexpr unsigned tasks = 2;                     // each in a worker of its own
constexpr std::array to_group{SIGURG, SIGWINCH};  // who has no handler for them does not notice
constexpr int to_host = 4;                        // SIGRTMIN and the next ones, by a timer each
constexpr long timer_ns = 40'000;
constexpr long group_ns = 10'000;
constexpr unsigned burst = 250;  // then there is a calm, or a slow machine would do nothing but to handle signals
constexpr long calm_ns = 2'000'000;
constexpr unsigned handlers_per_round = 20;

struct Notes {
  std::atomic<pid_t> host = 0;
  std::atomic<std::uint64_t> here = 0, elsewhere = 0, sent = 0, processes = 0;
  std::atomic<unsigned> rounds = 0, wrong = 0, failed = 0, memory = 0, canaries = 0;
  std::atomic<bool> refused = false;
};
Notes* notes = nullptr;  // the handler's, in memory that all processes share

timer_t timers[to_host];
std::atomic<unsigned> ticks[to_host];

void handle(int signal) {
  ++(::getpid() == notes->host ? notes->here : notes->elsewhere);
  const int at = signal - SIGRTMIN;
  if (at < 0 || ++ticks[at] % burst != 0) return;
  const itimerspec later{{0, timer_ns}, {0, calm_ns}};
  ::timer_settime(timers[at], 0, &later, nullptr);
}

std::uint64_t twice(std::uint64_t n) { return n * 2; }
std::uint64_t same(std::uint64_t n) { return n; }
std::uint64_t dies(std::uint64_t) { return static_cast<std::uint64_t>(::raise(SIGKILL)); }

/// Words of a stack that nobody has any business with.
class Canaries {
 public:
  Canaries() {
    for (auto& each : words_) each = mark;
  }
  bool differ() const {
    return std::any_of(std::begin(words_), std::end(words_), [](const volatile auto& each) { return each != mark; });
  }
  void spoil() { words_[100] = 0; }

 private:
  static constexpr std::uint64_t mark = 0x6272'6f6f'6463'616e;
  volatile std::uint64_t words_[512];
};

std::uint64_t checksum(const std::vector<std::uint64_t>& memory) {
  std::uint64_t sum = 0;
  for (const std::uint64_t each : memory) sum = (sum ^ each) * 0x9e37'79b9'7f4a'7c15;
  return sum;
}

/// Without SA_RESTART: any system call may end with EINTR, too.
void begin_storm() {
  struct sigaction counting{};
  counting.sa_handler = &handle;
  for (const int signal : to_group) ::sigaction(signal, &counting, nullptr);
  for (int n = 0; n < to_host; ++n) {
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGRTMIN + n;
    ::sigaction(event.sigev_signo, &counting, nullptr);
    const itimerspec often{{0, timer_ns}, {0, timer_ns}};
    if (::timer_create(CLOCK_MONOTONIC, &event, &timers[n]) == 0) ::timer_settime(timers[n], 0, &often, nullptr);
  }
}

void hit_group(pid_t host) {
  ::prctl(PR_SET_TIMERSLACK, 1);
  for (unsigned n = 1;; ++n) {
    for (const int signal : to_group) notes->sent += ::kill(-host, signal) == 0 ? 1U : 0U;
    const timespec pause{0, n % burst == 0 ? calm_ns : group_ns};
    ::nanosleep(&pause, nullptr);
  }
}

/// A fault: a child in the memory of its parent, with the parent's handlers and no signal blocked, until one has hit it.
void be_hit() {
  const auto stack = std::make_unique<std::byte[]>(65536);
  const auto wait = [](void*) {
    const auto until = Clock::now() + 10s;
    while (notes->elsewhere == 0 && Clock::now() < until) continue;
    return 0;
  };
  const pid_t child = ::clone(wait, stack.get() + 65536, CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) continue;
}

template <class Policy>
void start_in_storm(const Options& options) {
  constexpr bool copies = std::is_same_v<Policy, brood::ForkPolicy>;
  Canaries canaries;
  notes->host = ::getpid();
  std::vector<std::uint64_t> memory(std::size_t{options.mib} << 17);
  for (std::size_t at = 0; at < memory.size(); ++at) memory[at] = at * at;
  const std::uint64_t before = checksum(memory);
  std::vector<std::jthread> others;  // they run while this thread waits in vfork
  for (int n = 0; n < (copies ? 0 : 2); ++n) {
    others.emplace_back([](const std::stop_token& stop) {
      const Canaries mine;
      for (; !stop.stop_requested(); ::usleep(1000)) notes->canaries += mine.differ() ? 1U : 0U;
    });
  }
  if (options.inject != "calm") begin_storm();
  for (unsigned round = 0; round < options.rounds; ++round) {
    if (!copies && round == options.rounds / 2) notes->refused = support::refuse_clone3(EPERM);
    {
      brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 1});
      std::vector<brood::Future<std::uint64_t>> futures;
      for (std::uint64_t n = 0; n < tasks; ++n) futures.push_back(pool.submit(&twice, n));
      if constexpr (copies)
        futures.push_back(pool.submit([&memory] { return 2 * memory[tasks] / tasks; }));  // a copy of its own
      if (options.inject == "death") futures.back() = pool.submit(&dies, std::uint64_t{1});
      if (options.inject == "wrong") futures.back() = pool.submit(&same, std::uint64_t{1});
      for (std::uint64_t n = 0; n < futures.size(); ++n) {
        const auto outcome = futures[n].outcome();
        notes->failed += outcome ? 0U : 1U;
        notes->wrong += outcome && *outcome != 2 * n ? 1U : 0U;
      }
      notes->processes += 1 + pool.stats().workers_started;
    }
    if (round == 1) {
      if (options.inject == "child") be_hit();
      if (options.inject == "memory") ++memory[memory.size() / 2];
      if (options.inject == "canary") canaries.spoil();
      if (options.inject == "kill") ::raise(SIGKILL);
    }
    if (round % 100 == 99 || round + 1 == options.rounds) notes->memory += checksum(memory) != before ? 1U : 0U;
    notes->canaries += canaries.differ() ? 1U : 0U;
    ++notes->rounds;
  }
}

template <class Policy>
Report storm(const std::string& name, const Options& options) {
  Report report("signals", name, options.seed);
  const std::set<std::string> before = belongings();
  const support::Shared<Notes> shared;
  notes = &*shared;
  const auto began = Clock::now();
  const pid_t host = fork_host([&] { start_in_storm<Policy>(options); });
  const pid_t sender = options.inject == "calm" ? 0 : fork_host([&] { hit_group(host); });
  const brood::ExitStatus end = end_of_host(host, notes->rounds, "a pool in a storm of signals");
  const double seconds = ms_since(began) / 1000;
  if (sender != 0) {
    ::kill(sender, SIGKILL);
    ::waitpid(sender, nullptr, 0);
  }
  report.say(text("%u pools with %llu servers and workers in %.1f s%s; the host %s", notes->rounds.load(),
                  static_cast<unsigned long long>(notes->processes), seconds,
                  notes->refused ? ", half of them without clone3" : "", end.describe().c_str()));
  report.say(text("%.1f kHz of handlers in the host; its group was sent %.1f kHz", double(notes->here) / seconds / 1000,
                  double(notes->sent) / seconds / 1000));
  report.count("handlers run elsewhere", static_cast<double>(notes->elsewhere));
  report.need("handlers run in the host", static_cast<double>(notes->here), options.rounds * handlers_per_round);
  report.count("checksums that differ", notes->memory);
  report.count("canaries that differ", notes->canaries);
  report.count("hosts ended by a signal", end.signaled() ? 1 : 0);
  report.count("rounds not done", options.rounds - notes->rounds);
  report.need("servers and workers started", static_cast<double>(notes->processes), options.rounds * (1 + tasks));
  report.count("wrong values", notes->wrong);
  report.count("failed tasks", notes->failed);
  report_left_behind(report, left_behind(before));
  return report;
}

}  // namespace in_signals

Mode signals() {
  using namespace in_signals;
  Options defaults;
  defaults.rounds = 200;
  defaults.mib = 16;
  return {"signals",
          "N pools, each with a new server, in a storm of signals; --mib that must not change",
          "rounds mib",
          "calm child memory canary wrong death kill",
          defaults,
          [](const Options& options) {
            return each_policy(options, [&]<class Policy>(const char* name) { return storm<Policy>(name, options); });
          }};
}

}  // namespace chaos
