// SPDX-License-Identifier: MIT
// A pool's end, in every state that it may be in and in every way to end it: how long it takes, whether every future is
// resolved, what is left.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"
#include "support/child.hpp"

namespace chaos {
namespace in_shutdown {

constexpr auto grace = 100ms;
constexpr double limit_ms = 100 + 1000;
constexpr auto too_long = 1300ms;
constexpr unsigned workers = 2;

enum class State { idle, busy, writing, reading, crashed, stopped, starting, server_dead, server_stopped };
constexpr std::array states = {"idle",    "busy",     "writing",     "reading",       "crashed",
                               "stopped", "starting", "server dead", "server stopped"};
enum class Way { wait, drop, cancel, kill };
constexpr std::array ways = {"wait", "drop", "cancel", "kill"};

std::uint64_t spin(std::uint64_t ms) {
  const auto until = Clock::now() + std::chrono::milliseconds(ms);
  while (Clock::now() < until) {
  }
  return ms;
}
constexpr std::uint64_t briefly = 5;
constexpr std::uint64_t endless = 1'000'000;

std::vector<std::uint8_t> produce(std::uint64_t bytes) { return std::vector<std::uint8_t>(bytes, 1); }
std::uint64_t consume(const std::vector<std::uint8_t>& bytes) { return bytes.size(); }
std::uint64_t stop_yourself() {
  for (;;) ::raise(SIGSTOP);
}
void start_slowly() { ::usleep(20'000); }

/// One life. What a way waits for must come to an end by itself; only a kill ends what does not.
template <class Policy>
class Life {
 public:
  Life(const Options& options, State state, Way way, std::mt19937& random)
      : options_(options), state_(state), way_(way), random_(random) {}

  void run() {
    const bool slow_start = state_ == State::starting;
    pool_.emplace(brood::PoolOptions{
        .workers = workers, .stop_grace = grace, .on_worker_start = slow_start ? &start_slowly : nullptr});
    const Watched watched(*pool_);
    if (!slow_start) all_up();
    come_to();
    end();
  }

  double ms = 0;
  unsigned unresolved = 0;

 private:
  void all_up() {
    std::vector<brood::Future<std::uint64_t>> first;
    support::eventually([&] {  // until each has had one
      first.push_back(pool_->submit(&spin, std::uint64_t{1}));
      const brood::PoolStats stats = pool_->stats();
      return stats.workers.size() == workers &&
             std::all_of(stats.workers.begin(), stats.workers.end(), [](const auto& it) { return it.tasks_done != 0; });
    });
    for (const auto& future : first) future.wait();
  }

  void submit(std::uint64_t time) { numbers_.push_back(pool_->submit(&spin, time)); }
  void signal_worker(int signal) {
    const brood::PoolStats stats = pool_->stats();
    if (!stats.workers.empty()) signal_child_of(stats.server_pid, stats.workers[random_() % stats.workers.size()].pid, signal);
  }
  void moment() { std::this_thread::sleep_for(std::chrono::microseconds(random_() % 3000)); }

  void come_to() {
    const bool kills = way_ == Way::kill;
    const std::uint64_t bytes = std::uint64_t{options_.mib} << 20;
    const std::uint64_t time = kills ? endless : briefly;
    switch (state_) {
      case State::idle: break;
      case State::busy:
        submit(time);
        submit(time);
        moment();
        break;
      case State::writing:
        blobs_.push_back(pool_->submit(&produce, bytes));
        moment();
        break;
      case State::reading:
        numbers_.push_back(pool_->submit(&consume, std::vector<std::uint8_t>(bytes, 2)));
        moment();
        break;
      case State::crashed:
        submit(time);
        submit(time);
        moment();
        signal_worker(SIGKILL);
        break;
      case State::stopped:
        if (kills) {
          numbers_.push_back(pool_->submit(&stop_yourself));
          moment();
        } else {
          signal_worker(SIGSTOP);
        }
        break;
      case State::starting:
        submit(time);
        submit(time);
        moment();
        break;
      case State::server_dead:
        submit(time);
        moment();
        signal_child_of(::getpid(), pool_->stats().server_pid);
        submit(time);
        break;
      case State::server_stopped:
        submit(time);
        submit(time);
        signal_child_of(::getpid(), pool_->stats().server_pid, SIGSTOP);
        moment();
        break;
    }
    if (way_ == Way::cancel) {
      for (int n = 0; n < 20; ++n) submit(briefly);
    }
  }

  void end() {
    std::optional<brood::Pool<Policy>> other;  // a future of another pool, which does not end, is not resolved
    if (injected() == "unresolved") {
      other.emplace(brood::PoolOptions{.workers = 1});
      numbers_.push_back(other->submit(&spin, endless));
    }
    if (way_ == Way::wait) pool_->wait();  // as long as the tasks need
    const auto began = Clock::now();
    if (way_ == Way::cancel) pool_->cancel_pending();
    if (way_ == Way::kill) kill();
    if (injected() == "slow") std::this_thread::sleep_for(too_long);
    pool_.reset();
    ms = ms_since(began);
    for (const auto& future : numbers_) unresolved += future.ready() ? 0U : 1U;
    for (const auto& future : blobs_) unresolved += future.ready() ? 0U : 1U;
    if (other) other->kill();
  }

  void kill() {
    if (injected() == "slow-kill") std::this_thread::sleep_for(too_long);
    pool_->kill();
  }

  std::string_view injected() const {  // once is enough
    const Way way = options_.inject == "slow-kill" ? Way::kill : Way::drop;
    return state_ == State::idle && way_ == way ? std::string_view(options_.inject) : std::string_view();
  }

  const Options& options_;
  State state_;
  Way way_;
  std::mt19937& random_;
  std::optional<brood::Pool<Policy>> pool_;
  std::vector<brood::Future<std::uint64_t>> numbers_;
  std::vector<brood::Future<std::vector<std::uint8_t>>> blobs_;
};

/// What the host of one state and way has to say.
struct Findings {
  std::atomic<double> longest = 0;
  std::atomic<unsigned> rounds = 0;
  std::atomic<unsigned> unresolved = 0;
  std::atomic<unsigned> left_count = 0;
  std::array<char, 4096> left{};  ///< what was left behind, a line each, as far as there is room
  std::atomic<bool> complete = false;
};
constexpr std::size_t all_cases = states.size() * ways.size();
using AllFindings = std::array<Findings, all_cases>;

std::string name_of(std::size_t at) { return std::string(states[at / ways.size()]) + ", " + ways[at % ways.size()]; }

template <class Policy>
void end_pools_so(std::size_t at, const Options& options, Findings& found) {
  const std::set<std::string> before = belongings();
  std::mt19937 random(options.seed + static_cast<unsigned>(at));
  if (options.inject == "leftover") static_cast<void>(!std::fopen("/dev/null", "r"));
  if (options.inject == "lost") return;
  for (unsigned round = 0; round < options.rounds; ++round) {
    Life<Policy> life(options, static_cast<State>(at / ways.size()), static_cast<Way>(at % ways.size()), random);
    life.run();
    found.longest = std::max(found.longest.load(), life.ms);
    found.unresolved += life.unresolved;
    ++found.rounds;
  }
  std::string left;
  for (const std::string& each : left_behind(before)) {
    left += each + " since " + name_of(at) + '\n';
    ++found.left_count;
  }
  left.copy(found.left.data(), found.left.size() - 1);
  found.complete = true;
}

/// Needs a CPU all the time.
bool transfers(std::size_t at) {
  const auto state = static_cast<State>(at / ways.size());
  return state == State::writing || state == State::reading;
}

/// Each state and way in a host of its own, some of them side by side: most wait more than they work. Of those that don't
/// there is one at a time, for what is measured is not to be how they share the machine.
template <class Policy>
void try_all(std::size_t tried, const Options& options, AllFindings& found) {
  std::vector<std::size_t> waiting(tried);
  std::iota(waiting.begin(), waiting.end(), std::size_t{0});
  std::partition(waiting.begin(), waiting.end(), &transfers);  // the longest first
  std::vector<std::pair<pid_t, std::size_t>> hosts;
  unsigned seen = ~0U;
  while (!waiting.empty() || !hosts.empty()) {
    const bool one_transfers = std::any_of(hosts.begin(), hosts.end(), [](const auto& host) { return transfers(host.second); });
    const auto next =
        std::find_if(waiting.begin(), waiting.end(), [&](std::size_t at) { return !transfers(at) || !one_transfers; });
    if (next != waiting.end() && hosts.size() < std::max(options.jobs, 1U)) {
      const std::size_t at = *next;
      waiting.erase(next);
      hosts.emplace_back(fork_host([&] { end_pools_so<Policy>(at, options, found[at]); }), at);
      continue;
    }
    std::erase_if(hosts, [](const auto& host) { return ::waitpid(host.first, nullptr, WNOHANG) != 0; });
    unsigned rounds = 0;
    for (const Findings& each : found) rounds += each.rounds;
    if (seen != rounds) Watchdog::beat("the next pool to end", rounds);
    seen = rounds;
    std::this_thread::sleep_for(1ms);
  }
}

template <class Policy>
Report end_pools(const std::string& name, const Options& options) {
  Report report("shutdown", name, options.seed);
  const std::set<std::string> before = belongings();
  const support::Shared<AllFindings> found;
  const auto began = Clock::now();
  const std::size_t tried = options.inject.empty() ? all_cases : ways.size();
  try_all<Policy>(tried, options, *found);
  report.say(text("%u rounds of each, %u MiB, stop_grace %lld ms, %u hosts side by side, in %.1f s; the longest end in ms:",
                  options.rounds, options.mib, static_cast<long long>(grace.count()), options.jobs, ms_since(began) / 1000));
  report.say(text("  %-16s%9s%9s%9s%9s", "", ways[0], ways[1], ways[2], ways[3]));
  double longest = 0;
  unsigned unresolved = 0;
  unsigned incomplete = 0;
  double left_count = 0;
  std::string row;
  for (std::size_t at = 0; at < tried; ++at) {
    const Findings& each = (*found)[at];
    if (at % ways.size() == 0) row = text("  %-16s", states[at / ways.size()]);
    row += text("%9.1f", each.longest.load());
    if (at % ways.size() == ways.size() - 1) report.say(row);
    longest = std::max(longest, each.longest.load());
    unresolved += each.unresolved;
    left_count += each.left_count;
    if (!each.complete) {
      ++incomplete;
      report.say(text("the host of %s ended in round %u", name_of(at).c_str(), each.rounds.load()));
    }
    std::istringstream lines(each.left.data());
    for (std::string line; std::getline(lines, line);) report.say("left behind: " + line);
  }
  report.measure("a pool's end, longest", longest, limit_ms, "ms", options.judge_times);
  report.count("unresolved", unresolved);
  report.count("states not tried to the end", incomplete);
  const std::set<std::string> left = left_behind(before);
  for (const std::string& each : left) report.say("left behind: " + each);
  report.count("left behind", left_count + static_cast<double>(left.size()));
  return report;
}

}  // namespace in_shutdown

Mode shutdown() {
  using namespace in_shutdown;
  Options defaults;
  defaults.rounds = 5;
  defaults.mib = 64;
  return {"shutdown", "N ends of a pool in each state (idle, busy, ... ) and way (wait, drop, cancel, kill)",
          "rounds mib jobs", "slow slow-kill lost unresolved leftover", defaults, [](const Options& options) {
            return each_policy(options, [&]<class Policy>(const char* name) { return end_pools<Policy>(name, options); });
          }};
}

}  // namespace chaos
