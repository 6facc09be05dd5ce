// SPDX-License-Identifier: MIT
// internal
// What stands behind a Stream: keeps a bounded number of items in flight, and collects results. stream_reader.hpp reads the input.
//
// All of it happens on the thread that iterates, in refill(). When it reads input it can't hand out anything, so the order is:
// what is here is handed out first, unless the input is quick; a chunk is sent as soon as gathering it has taken as long as
// it will run, so that slow input travels item by item; and after each chunk it looks whether a result has come.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/pool/chunks.hpp>
#include <brood/pool/map_progress.hpp>
#include <brood/pool/stream_results.hpp>

namespace brood::inline v0_1::detail {

/// The part that does not depend on the callable nor on the range.
template <class R>
class StreamFeed {
 public:
  using Result = R;
  using Results = StreamResults<R>;
  using Clock = Dispatcher::Clock;

  StreamFeed(const StreamFeed&) = delete;
  StreamFeed& operator=(const StreamFeed&) = delete;
  virtual ~StreamFeed() = default;

  Results& results() noexcept { return flight_.results; }

  /// Sees to it that the next result is ready. False when there is none any more. Throws what the input has thrown, when all
  /// before that was handed out.
  bool next() {
    if (progress_.due()) tell_progress();
    if (credit_ == 0 || !results().ready()) return refill();
    --credit_;
    return true;
  }

  /// The item that is next has failed, which is the end.
  void end_with_failure() {
    cancel_rest();
    tell_progress(true);
    progress_.drop();
  }

  /// Cancels what is left.
  void end() noexcept {
    cancel_rest();
    if (telling_) {
      drop_due_ = true;  // it is its callback that ends it
    } else {
      progress_.drop();
    }
  }

 protected:
  StreamFeed(const std::shared_ptr<Dispatcher>& dispatcher, CallableName name, const StreamOptions& options, bool ordered,
             std::size_t (*item_size)(Reader&))
      : flight_(dispatcher, {name, timeout_of(*dispatcher, options.timeout), options.retries, options.chunk_size,
                             options.priority, false, options.where}),
        progress_(*dispatcher, options.progress),
        in_flight_(dispatcher->policy().runs_inline ? 1 : options.in_flight),
        max_bytes_(options.max_bytes != 0 ? options.max_bytes : default_bytes),
        least_(options.max_bytes != 0 ? 1 : dispatcher->worker_count()),
        exit_grace_(options.exit_grace),
        item_size_(item_size) {
    results().keep_order(ordered);
    flight_.call = dispatcher->number_call();
  }

  /// When reading the items of one chunk has taken long enough.
  class Patience {
   public:
    explicit Patience(bool none) noexcept : none_(none) {}

    /// Asked after each item.
    bool over(std::uint32_t count) noexcept {
      if (!none_ && count < next_look_) return false;
      next_look_ = count + std::min(count, 64U);
      return Clock::now() - begun_ > most;
    }
    std::uint64_t spent_ns() const noexcept {
      return static_cast<std::uint64_t>(std::chrono::nanoseconds(Clock::now() - begun_).count());
    }

   private:
    static constexpr std::chrono::microseconds most{200};  ///< about half of what a chunk is to run

    bool none_;
    Clock::time_point begun_ = Clock::now();
    std::uint32_t next_look_ = 1;
  };

  /// Reads `most` items, or as many as `most_bytes` and patience allow, and sends them as one chunk.
  virtual void send_next(std::size_t most, std::uint64_t most_bytes) = 0;

  /// Items of the input, where it knows how many. Reads none.
  virtual std::optional<std::uint64_t> input_size() = 0;

  /// For send_next: there will be no further item, because of `cause` if there is one.
  void end_of_input(std::exception_ptr cause = nullptr) noexcept {
    ended_ = true;
    cause_ = std::move(cause);
  }

  /// For send_next: what came of reading.
  void send_read(Writer&& out, std::size_t head, std::uint32_t count, const std::optional<Failure>& refused,
                 const Patience& patience) {
    const std::uint32_t all = count + (refused ? 1U : 0U);
    if (all == 0) return;
    const std::uint64_t each = patience.spent_ns() / all;
    read_ns_ = read_ns_ - read_ns_ / 4 + each / 4;
    item_bytes_ = (out.size() - head) / std::max(count, 1U);
    try {
      if (count != 0) flight_.send_written(std::move(out), head, read_, count);
    } catch (...) {  // the pool takes no more work: what was read so far is the end
      return end_of_input(std::current_exception());
    }
    read_ += count;
    if (refused) flight_.refuse(read_++, *refused);
  }

  bool slow_input() const noexcept { return read_ns_ > slow_read_ns; }

  ChunkFlight<R, Results> flight_;
  std::uint64_t read_ = 0;  ///< items so far
  std::optional<std::uint64_t> left_;  ///< items of the input, where that is known

 private:
  static constexpr std::uint64_t default_bytes = std::uint64_t{64} << 20;
  static constexpr std::uint64_t slow_read_ns = 1'000'000;
  static constexpr std::chrono::milliseconds reading_at_once{1};  ///< while a result waits to be handed out

  void cancel_rest() noexcept {
    ended_ = true;
    cause_ = nullptr;
    credit_ = 0;
    if (!flight_.dispatcher->in_own_process()) return;  // a copy of the host: nothing of it is ours
    try {
      const std::vector<TaskPtr> tasks = flight_.tasks();
      flight_.flying.clear();
      if (!tasks.empty()) flight_.dispatcher->end_early(tasks, exit_grace_);
    } catch (...) {  // out of memory or descriptors: what could not be cancelled runs to its end
    }
    results().clear();
  }

  void tell_progress(bool finished = false) {
    progress_.done = flight_.settled;
    progress_.failed = flight_.failed;
    telling_ = true;
    try {
      progress_.tell(flight_.tasks(), finished);
    } catch (...) {
      telling_ = false;
      throw;
    }
    telling_ = false;
    if (drop_due_) progress_.drop();
  }

  std::uint64_t outstanding() const noexcept { return read_ - flight_.results.taken(); }

  bool refill() {
    if (!std::exchange(begun_, true) && !ended_) {
      progress_.begin();
      progress_.total = input_size();
      tell_progress();
    }
    for (;;) {
      const unsigned workers = flight_.dispatcher->worker_count();  // others may resize the pool meanwhile
      flight_.sizer.share_among(workers);
      collect();
      top_up();
      if (results().ready()) return give_credit();
      if (flight_.flying.empty()) break;
      if (progress_.due()) tell_progress();
      if (ended_ && flight_.flying.empty()) break;  // its callback has ended it
      flight_.dispatcher->wait_any(flight_.tasks(), progress_.next(), workers);
    }
    credit_ = 0;
    if (cause_) std::rethrow_exception(std::exchange(cause_, nullptr));
    tell_progress(true);
    progress_.drop();
    return false;
  }

  /// As many results may be handed out before it is worthwhile to look again.
  bool give_credit() noexcept {
    if (ended_) {  // there is nothing to send: only what comes is to be collected
      credit_ = std::min<std::uint64_t>(flight_.sizer.next(std::nullopt), share()) - 1;
      return true;
    }
    const std::uint64_t room = window() - std::min(window(), outstanding());
    credit_ = std::max<std::uint64_t>(chunk_size(), room + 1) - room - 1;
    return true;
  }

  /// Items that may have been read and not been handed out.
  std::uint64_t window() const noexcept {
    if (in_flight_ != 0) return in_flight_;
    return std::uint64_t{flight_.dispatcher->worker_count()} * 4 * flight_.sizer.next(std::nullopt);
  }

  /// The most that one chunk may have.
  std::uint64_t share() const noexcept {
    return std::max<std::uint64_t>(window() / (std::uint64_t{flight_.dispatcher->worker_count()} * 2), 1);
  }

  std::uint64_t chunk_size() const noexcept { return std::min<std::uint64_t>(flight_.sizer.next(left_), share()); }

  /// How many bytes may be added. What the items in flight will return is counted as what others have returned; before
  /// there are any, few items are in flight.
  std::uint64_t room_in_bytes() const noexcept {
    const std::optional<std::uint64_t> each = results().average_bytes();
    if (!each && outstanding() >= std::max<std::uint64_t>(least_, 2)) return 0;
    std::uint64_t used = results().bytes();
    std::uint64_t running = 0;
    for (const Chunk& chunk : flight_.flying) {
      used += chunk.payload->size();
      running += chunk.task->items;
    }
    used += running * each.value_or(0);
    if (used < max_bytes_) return max_bytes_ - used;
    return outstanding() < least_ ? 1 : 0;
  }
  const Results& results() const noexcept { return flight_.results; }

  void top_up() {
    const auto begun = Clock::now();
    bool first = true;
    while (!ended_) {
      const std::uint64_t wanted = chunk_size();
      if (window() - std::min(window(), outstanding()) < wanted) return;
      const std::uint64_t bytes = room_in_bytes();
      if (bytes == 0) return;
      if (results().ready() && (slow_input() || (!first && Clock::now() - begun > reading_at_once))) return;
      const std::uint64_t each = item_bytes_ + results().average_bytes().value_or(0);  // of an item and its result, for a guess
      const std::uint64_t fitting = std::max<std::uint64_t>(bytes / std::max<std::uint64_t>(each, 1), 1);
      send_next(static_cast<std::size_t>(std::min(wanted, fitting)), bytes);
      if (!std::exchange(first, false) || slow_input()) collect();
    }
  }

  /// Takes what has come, without waiting.
  void collect() {
    const auto again = [&](const Chunk& chunk, std::uint32_t first, std::uint32_t count, Tries tries) {
      try {
        flight_.send_part(chunk, first, count, tries, item_size_);
      } catch (...) {  // the pool takes no more work
        fail_all(chunk.base + first, count, std::current_exception());
      }
    };
    if (flight_.flying.empty() || flight_.land(again)) return;
    flight_.dispatcher->poll();
    flight_.land(again);
  }

  void fail_all(std::uint64_t first, std::uint32_t count, const std::exception_ptr& cause) {
    FailureRecord record;
    record.kind = FailureKind::closed;
    record.cause = cause;
    record.where = flight_.options.name.text();
    record.message = record.where + " was to be run again, but the pool takes no more work";
    const Failure failure(std::move(record));
    for (std::uint32_t at = 0; at < count; ++at) flight_.fail(first + at, failure);
  }

  MapProgress progress_;
  const std::uint64_t in_flight_;
  const std::uint64_t max_bytes_;
  const std::uint64_t least_;  ///< so many items may be in flight whatever their size
  const std::chrono::milliseconds exit_grace_;
  std::size_t (*const item_size_)(Reader&);
  std::uint64_t credit_ = 0;
  std::uint64_t read_ns_ = 0;     ///< an item takes so long to be read, on average
  std::uint64_t item_bytes_ = 0;  ///< of the last chunk's
  bool begun_ = false;
  bool ended_ = false;
  bool telling_ = false;   ///< the progress callback runs
  bool drop_due_ = false;  ///< and is not to run again
  std::exception_ptr cause_;
};

}  // namespace brood::detail
