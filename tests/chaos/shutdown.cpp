// SPDX-License-Identifier: MIT
// A pool's end, in every state that it may be in and in every way to end it: how long it takes, whether every future is
// resolved, what is left.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"

namespace chaos {
namespace {

constexpr auto grace = 100ms;
constexpr double limit_ms = 100 + 1000;
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
    switch (way_) {
      case Way::wait: pool_->wait(); break;
      case Way::drop: break;
      case Way::cancel: pool_->cancel_pending(); break;
      case Way::kill: pool_->kill(); break;
    }
    std::optional<brood::Pool<Policy>> other;  // a future of another pool, which does not end, is not resolved
    if (injected() == "unresolved") {
      other.emplace(brood::PoolOptions{.workers = 1});
      numbers_.push_back(other->submit(&spin, endless));
    }
    const auto began = Clock::now();
    if (injected() == "slow") std::this_thread::sleep_for(std::chrono::milliseconds(1300));
    pool_.reset();
    ms = ms_since(began);
    for (const auto& future : numbers_) unresolved += future.ready() ? 0U : 1U;
    for (const auto& future : blobs_) unresolved += future.ready() ? 0U : 1U;
    if (other) other->kill();
  }

  std::string_view injected() const {  // once is enough
    return state_ == State::idle && way_ == Way::drop ? std::string_view(options_.inject) : std::string_view();
  }

  const Options& options_;
  State state_;
  Way way_;
  std::mt19937& random_;
  std::optional<brood::Pool<Policy>> pool_;
  std::vector<brood::Future<std::uint64_t>> numbers_;
  std::vector<brood::Future<std::vector<std::uint8_t>>> blobs_;
};

template <class Policy>
Report end_pools(const std::string& name, const Options& options) {
  Report report("shutdown", name, options.seed);
  std::set<std::string> before = belongings();
  std::mt19937 random(options.seed);
  double longest = 0;
  unsigned unresolved = 0;
  std::set<std::string> left;
  std::vector<std::string> rows;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> leak(nullptr, &std::fclose);
  if (options.inject == "leftover") leak.reset(std::fopen("/dev/null", "r"));
  const auto began = Clock::now();
  const std::size_t tried = options.inject.empty() ? states.size() : 1;
  for (std::size_t state = 0; state < tried; ++state) {
    std::string row = text("  %-16s", states[state]);
    for (std::size_t way = 0; way < ways.size(); ++way) {
      double worst = 0;
      for (unsigned round = 0; round < options.rounds; ++round) {
        Watchdog::beat(states[state], way * 1'000'000 + round);
        Life<Policy> life(options, static_cast<State>(state), static_cast<Way>(way), random);
        life.run();
        worst = std::max(worst, life.ms);
        unresolved += life.unresolved;
      }
      for (const std::string& each : left_behind(before)) {
        left.insert(each + " since " + states[state] + ", " + ways[way]);
        before.insert(each);
      }
      longest = std::max(longest, worst);
      row += text("%9.1f", worst);
    }
    rows.push_back(row);
  }
  report.say(text("%u rounds of each, %u MiB, stop_grace %lld ms, in %.1f s; the longest end in ms:", options.rounds, options.mib,
                  static_cast<long long>(grace.count()), ms_since(began) / 1000));
  report.say(text("  %-16s%9s%9s%9s%9s", "", ways[0], ways[1], ways[2], ways[3]));
  for (std::string& row : rows) report.say(std::move(row));
  report.measure("a pool's end, longest", longest, limit_ms, "ms", options.judge_times);
  report.count("unresolved", unresolved);
  report_left_behind(report, left);
  return report;
}

}  // namespace

Mode shutdown() {
  Options defaults;
  defaults.rounds = 5;
  defaults.mib = 64;
  return {"shutdown", "N ends of a pool in each state (idle, busy, ... ) and way (wait, drop, cancel, kill)", "rounds mib",
          "slow unresolved leftover", defaults, [](const Options& options) {
            return each_policy(options, [&]<class Policy>(const char* name) { return end_pools<Policy>(name, options); });
          }};
}

}  // namespace chaos
