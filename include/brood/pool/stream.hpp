// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include <brood/pool/outcome.hpp>
#include <brood/pool/stream_reader.hpp>

namespace brood::inline v0_1 {

/// The results of Pool::stream and its like: an input range, a view, and movable. It is read once, from one thread at a time;
/// items of the input are read, and work is done, as it is read. Leaving it early, by its destructor or cancel(), cancels what
/// is left.
///
/// Elements are R&; of a stream of functions that return nothing, std::monostate&; with `outcomes`, Outcome<R>&. They may be
/// moved out of, and last until the next one is asked for. A stream may outlive its pool, whose end ends it. Complexity: each step
/// is constant, but for the time that its item takes.
/// \snippet reference.cpp Stream
template <class R, bool outcomes = false>
class Stream {
  struct State;

 public:
  using value_type = std::conditional_t<outcomes, Outcome<R>, std::conditional_t<std::is_void_v<R>, std::monostate, R>>;

  // internal
  explicit Stream(std::unique_ptr<detail::StreamFeed<R>> feed) : state_(std::make_unique<State>(std::move(feed))) {}

  Stream(Stream&&) noexcept = default;
  Stream& operator=(Stream&&) noexcept = default;

  /// Comparing it with the end, or looking at its element, waits for the next result. So does neither begin() nor ++.
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using difference_type = std::ptrdiff_t;
    using value_type = typename Stream::value_type;

    iterator() noexcept = default;
    explicit iterator(State* state) noexcept : state_(state) {}

    /// Throws what the comparison with the end throws. Precondition: it is not at the end.
    value_type& operator*() const {
      state_->fetch();
      return *state_->current;
    }
    value_type* operator->() const { return &**this; }
    iterator& operator++() {
      state_->fetch();
      state_->fetched = false;
      return *this;
    }
    void operator++(int) { ++*this; }

    /// True when there is no further result. Throws, once, when what is next is a failure (unless elements are outcomes): what
    /// the item threw, WorkerDied, TaskTimeout and so on, as Future::get does; then what is left is cancelled. And what
    /// the input threw when it was read, when all results of earlier items were handed out.
    friend bool operator==(const iterator& at, std::default_sentinel_t /*end*/) {
      at.state_->fetch();
      return !at.state_->current;
    }

   private:
    State* state_ = nullptr;
  };

  /// Where the stream is: the first result, unless some were read.
  iterator begin() noexcept { return iterator(state_.get()); }
  /// The end of the stream; see the comparison of its iterator.
  std::default_sentinel_t end() const noexcept { return {}; }

  /// The number of the item in the input, from 0, whose result was looked at last.
  std::uint64_t index() const noexcept { return state_->index; }

  /// Ends the stream: no further item starts, those that run have StreamOptions::exit_grace to finish and are then killed with
  /// their workers. Returns when that is done. The destructor does the same.
  void cancel() noexcept {
    if (state_) state_->end();
  }

 private:
  struct State {
    explicit State(std::unique_ptr<detail::StreamFeed<R>> from) noexcept : feed(std::move(from)) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() { feed->end(); }

    void fetch() {
      if (std::exchange(fetched, true)) return;
      current.reset();
      try {
        if (!feed->next()) return;
      } catch (...) {
        feed->end();
        throw;
      }
      auto& results = feed->results();
      index = results.index();
      if (results.failed()) {
        Failure failure = results.take_failure();
        if constexpr (outcomes) {
          current.emplace(std::move(failure));
        } else {
          feed->end_with_failure();
          failure.raise();
        }
      } else {
        results.take_value([&](auto&&... value) { current.emplace(std::forward<decltype(value)>(value)...); });
      }
    }

    void end() noexcept {
      feed->end();
      current.reset();
      fetched = true;
    }

    std::unique_ptr<detail::StreamFeed<R>> feed;
    std::optional<value_type> current;
    std::uint64_t index = 0;
    bool fetched = false;  ///< `current` is what the iterator is at
  };

  std::unique_ptr<State> state_;
};

}  // namespace brood

/// \cond
template <class R, bool outcomes>
inline constexpr bool std::ranges::enable_view<brood::Stream<R, outcomes>> = true;
/// \endcond
