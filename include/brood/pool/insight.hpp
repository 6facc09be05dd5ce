// SPDX-License-Identifier: MIT
// internal
// What a pool keeps about itself for people: counts, events for the log hook, the trace. Guarded by the dispatcher's lock,
// but for what says otherwise. None of it may keep the pool from its work: what can't be noted is not.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <brood/pool/log.hpp>
#include <brood/pool/slot.hpp>
#include <brood/pool/trace.hpp>

namespace brood::inline v0_1::detail {

class Insight {
 public:
  using Clock = std::chrono::steady_clock;

  /// `path`: of the trace; empty: none.
  Insight(const std::string& pool, LogHook hook, const std::string& path) : pool_(pool), hook_(std::move(hook)) {
    if (path.empty()) return;
    try {
      auto [file, name] = Trace::open(path);
      trace_ = std::make_unique<Trace>(std::move(file), pool);
      if (logs()) log(LogLevel::info, "its trace goes to " + name);
    } catch (const std::exception& error) {
      log(LogLevel::warning, "its trace can't be written to " + path + ": " + error.what());
    }
  }

  // counts, of workers that have ended
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::chrono::nanoseconds busy{0};
  std::chrono::nanoseconds life{0};
  std::uint64_t servers_started = 0;
  std::uint64_t workers_restarted = 0;
  std::uint64_t workers_recycled = 0;

  /// A worker is forgotten.
  void count_ended(const Slot& slot, Clock::time_point now) noexcept {
    bytes_sent += slot.bytes_sent() + slot.lent_bytes;
    bytes_received += slot.bytes_received;
    life += slot.life(now);
    busy += slot.busy_time(now);
  }

  // the log

  bool logs() const noexcept { return static_cast<bool>(hook_); }
  void log(LogLevel level, const std::string& text) noexcept {
    if (!hook_) return;
    try {
      events_.push_back({level, pool_ + ": " + text});
    } catch (const std::exception&) {
    }
  }

  // the trace

  Trace* trace() const noexcept { return trace_.get(); }

  /// Ends the trace.
  void close() noexcept {
    if (!delivering_) trace_.reset();
  }

  // what is to be done without the lock: take, deliver, done

  struct Event {
    LogLevel level;
    std::string text;
  };
  struct Batch {
    std::vector<Event> events;
    std::string trace;
    bool lost = false;  ///< the trace could not be written
  };

  bool pending() const noexcept { return !delivering_ && (!events_.empty() || (trace_ && trace_->pending())); }
  bool has_events() const noexcept { return !events_.empty(); }
  Batch take() noexcept {
    delivering_ = true;
    return {std::exchange(events_, {}), trace_ ? trace_->take() : std::string(), false};
  }
  /// Without the lock, by one thread at a time: events stay in order.
  void deliver(Batch& batch) const noexcept {
    if (!batch.trace.empty()) batch.lost = !trace_->write(batch.trace);
    for (const auto& [level, text] : batch.events) {
      try {
        hook_(level, text);
      } catch (...) {  // a hook's failure is its own
      }
    }
    batch.events.clear();
  }
  void delivered(const Batch& batch) noexcept {
    delivering_ = false;
    if (!batch.lost || std::exchange(told_lost_, true)) return;
    log(LogLevel::warning, "its trace can't be written any more");
  }

 private:
  const std::string pool_;
  const LogHook hook_;
  std::vector<Event> events_;
  std::unique_ptr<Trace> trace_;
  bool delivering_ = false;
  bool told_lost_ = false;
};

}  // namespace brood::detail
