// SPDX-License-Identifier: MIT
// internal
// What stands behind a Stream: reads the input, keeps a bounded number of items in flight, and collects results.
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
    if (credit_ == 0 || !results().ready()) return refill();
    --credit_;
    return true;
  }

  /// Cancels what is left.
  void end() noexcept {
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

 protected:
  StreamFeed(const std::shared_ptr<Dispatcher>& dispatcher, CallableName name, const StreamOptions& options, bool ordered,
             std::size_t (*item_size)(Reader&))
      : flight_(dispatcher, {name, timeout_of(*dispatcher, options.timeout), options.retries, options.chunk_size,
                             options.priority}),
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

  std::uint64_t outstanding() const noexcept { return read_ - flight_.results.taken(); }

  bool refill() {
    for (;;) {
      const unsigned workers = flight_.dispatcher->worker_count();  // others may resize the pool meanwhile
      flight_.sizer.share_among(workers);
      collect();
      top_up();
      if (results().ready()) return give_credit();
      if (flight_.flying.empty()) break;
      flight_.dispatcher->wait_any(flight_.tasks(), Dispatcher::Clock::time_point::max(), workers);
    }
    credit_ = 0;
    if (cause_) std::rethrow_exception(std::exchange(cause_, nullptr));
    return false;
  }

  /// As many results may be handed out before it is worthwhile to look again.
  bool give_credit() noexcept {
    const std::uint64_t room = window() - std::min(window(), outstanding());
    credit_ = std::max<std::uint64_t>(chunk_size(), room + 1) - room - 1;
    return true;
  }

  /// Items that may have been read and not been handed out.
  std::uint64_t window() const noexcept {
    if (in_flight_ != 0) return in_flight_;
    return std::uint64_t{flight_.dispatcher->worker_count()} * 4 * flight_.sizer.next(std::nullopt);
  }

  std::uint64_t chunk_size() const noexcept {
    const std::uint64_t share = window() / (std::uint64_t{flight_.dispatcher->worker_count()} * 2);
    return std::min<std::uint64_t>(flight_.sizer.next(left_), std::max<std::uint64_t>(share, 1));
  }

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

  const std::uint64_t in_flight_;
  const std::uint64_t max_bytes_;
  const std::uint64_t least_;  ///< so many items may be in flight whatever their size
  const std::chrono::milliseconds exit_grace_;
  std::size_t (*const item_size_)(Reader&);
  std::uint64_t credit_ = 0;
  std::uint64_t read_ns_ = 0;     ///< an item takes so long to be read, on average
  std::uint64_t item_bytes_ = 0;  ///< of the last chunk's
  bool ended_ = false;
  std::exception_ptr cause_;
};

/// A range as std::views::all would have it: a view or an rvalue is kept, of another lvalue the reference.
template <class Range>
using KeptRange = std::conditional_t<std::is_lvalue_reference_v<Range> && !std::ranges::view<std::remove_cvref_t<Range>>, Range,
                                     std::remove_cvref_t<Range>>;

template <class F, class Kept>
using StreamedItems = ItemWriter<F, std::ranges::range_reference_t<std::remove_reference_t<Kept>&>>;

/// The part that reads.
template <Route route, class F, class Kept>
class StreamReader final : public StreamFeed<typename StreamedItems<F, Kept>::Result> {
  using Range = std::remove_reference_t<Kept>;
  using Iterator = std::ranges::iterator_t<Range&>;
  using End = std::ranges::sentinel_t<Range&>;
  using Out = StreamedItems<F, Kept>;
  using Arguments = typename Out::Arguments;
  using Result = typename Out::Result;
  using Feed = StreamFeed<Result>;
  static constexpr bool closure = route != Route::serialized;

 public:
  template <class Callable, class From>
  StreamReader(const std::shared_ptr<Dispatcher>& dispatcher, Callable&& f, From&& range, const StreamOptions& options,
               bool ordered)
      : Feed(dispatcher, name_of<F>(f), options, ordered, &item_size<Arguments>),
        f_(std::forward<Callable>(f)),
        range_(std::forward<From>(range)) {
    if constexpr (!std::is_void_v<Result>) require_serializable<Result>();
    RequireTuple<Arguments>::check();
    if constexpr (is_function_pointer<F>) require_function(reinterpret_cast<const void*>(f_));
    if constexpr (route == Route::snapshot) {  // the copy has f_ at this address
      lease_.emplace(dispatcher, &f_);
      this->flight_.source = lease_->id();
    } else if constexpr (closure) {
      this->flight_.state = &f_;
    }
  }

 private:
  void send_next(std::size_t most, std::uint64_t most_bytes) override {
    Writer out = Writer::of_call();
    if constexpr (closure) {
      out.raw(code_of<&run_items_in_place<F, Arguments, Result>>());
    } else {
      out.raw(code_of<&run_items<F, Arguments, Result>>());
      write_callable<F>(out, f_);
    }
    const std::size_t head = out.size();
    const std::uint64_t limit = std::min<std::uint64_t>(most_bytes, max_chunk_bytes);
    std::uint32_t count = 0;
    std::optional<Failure> refused;
    typename Feed::Patience patience(this->slow_input());
    try {
      while (count < most && !refused && out.size() - head < limit) {
        if (!arrive()) {
          this->end_of_input();
          break;
        }
        if constexpr (Out::template copied<Iterator, End>) {
          count += Out::copy(*this->flight_.dispatcher, out, *at_, *end_, most - count, limit);
          if (count != 0) break;  // else one is too large
        }
        refused = Out::write(*this->flight_.dispatcher, this->flight_.options.name, out, **at_, this->read_ + count);
        passed_ = true;
        if (!refused && patience.over(++count)) break;
      }
    } catch (...) {
      this->end_of_input(std::current_exception());
    }
    if (this->left_) *this->left_ -= std::min<std::uint64_t>(*this->left_, count + (refused ? 1U : 0U));
    this->send_read(std::move(out), head, count, refused, patience);
  }

  /// Goes to the next item, which is not before it is wanted: it may be a while until the input has it. False when there is
  /// none.
  bool arrive() {
    if (!at_) {
      if constexpr (std::ranges::sized_range<Range&>) this->left_ = std::ranges::size(range_);
      at_.emplace(std::ranges::begin(range_));
      end_.emplace(std::ranges::end(range_));
    } else if (passed_) {
      ++*at_;
    }
    passed_ = false;
    return !(*at_ == *end_);
  }

  F f_;
  Kept range_;
  std::optional<Iterator> at_;
  std::optional<End> end_;
  bool passed_ = false;  ///< the item at `at_` was taken
  std::optional<SnapshotLease> lease_;
};

/// A stream's feed under a policy; refuses at compile time what can't work.
template <class Policy, class F, class Range>
auto feed_under(const std::shared_ptr<Dispatcher>& dispatcher, F&& f, Range&& range, const StreamOptions& options, bool ordered) {
  using Function = std::decay_t<F>;
  using Kept = KeptRange<Range>;
  using Types = typename ItemCall<false, Function, std::ranges::range_reference_t<std::remove_reference_t<Kept>&>>::Types;
  if constexpr (can_be_submitted<Policy, Function, Types>()) {
    check_options(options);
    using Reader = StreamReader<route_of<Policy, Function>, Function, Kept>;
    std::unique_ptr<StreamFeed<typename StreamedItems<Function, Kept>::Result>> feed =
        std::make_unique<Reader>(dispatcher, std::forward<F>(f), std::forward<Range>(range), options, ordered);
    return feed;
  } else {
    refuse_call<Policy, Function, Types>();
    return std::unique_ptr<StreamFeed<RefusedResult<Function>>>();
  }
}

}  // namespace brood::detail
