// SPDX-License-Identifier: MIT
// internal
// The part of a stream that knows its callable and its input.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>

#include <brood/pool/stream_feed.hpp>

namespace brood::inline v0_1::detail {

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

  std::optional<std::uint64_t> input_size() override {
    if constexpr (std::ranges::sized_range<Range&>) return std::ranges::size(range_);
    return std::nullopt;
  }

  /// Goes to the next item, which is not before it is wanted: it may be a while until the input has it. False when there is
  /// none.
  bool arrive() {
    if (!at_) {
      this->left_ = input_size();
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
