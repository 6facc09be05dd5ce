// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/pool/map_results.hpp>
#include <brood/pool/outcome.hpp>

namespace brood::inline v0_1::detail {

/// The results of a stream's items that are here and were not handed out: a ring of places, which are taken one after the
/// other. In a stream that keeps order an item's place is its index, else the number of those that came before it.
template <class R>
class StreamResults {
  struct Cell {
    std::optional<R> value;
    std::size_t bytes = 0;
  };

 public:
  static constexpr bool plain = collected_plain<R>();

  void keep_order(bool ordered) noexcept { ordered_ = ordered; }

  void grow_to(std::uint64_t /*size*/) {}  // a place is made when something is put there

  std::uint32_t store_run(std::uint64_t index, std::uint32_t count, Reader& in)
    requires plain
  {
    constexpr std::uint64_t word_of_value = std::uint64_t{sizeof(R)} << 1;
    constexpr std::size_t each = sizeof word_of_value + sizeof(R);
    const std::size_t here = std::min<std::size_t>(count, in.remaining() / each);
    if (here == 0) return 0;
    Reader ahead = in;
    const std::byte* at = ahead.raw(here * each).data();
    const std::uint64_t first = ordered_ ? index : arrived_;
    make_room(first + here - 1);
    const std::size_t mask = states_.size() - 1;
    std::uint32_t taken = 0;
    for (; taken < here; ++taken, at += each) {
      std::uint64_t word;
      std::memcpy(&word, at, sizeof word);
      if (word != word_of_value) break;
      const std::size_t place = (first + taken) & mask;
      std::memcpy(&cells_[place], at + sizeof word, sizeof(R));
      states_[place] = State::value;
      if (!ordered_) indices_[place] = index + taken;
    }
    if (!ordered_) arrived_ += taken;
    in.raw(taken * each);
    count_bytes(taken, taken * each);
    return taken;
  }

  /// Takes a result. Throws what decoding throws.
  void store(std::uint64_t index, Reader& item) {
    const std::size_t size = item.remaining() + sizeof(std::uint64_t);
    if constexpr (std::is_void_v<R>) {
      item.finish();
      place_of(index, State::value);
    } else if constexpr (can_be_sent<R>()) {  // else the stream was refused, with words
      R value = item.value<R>();
      item.finish();
      const std::size_t at = place_of(index, State::value);
      if constexpr (plain) {
        cells_[at] = value;
      } else {
        cells_[at].value.emplace(std::move(value));
        cells_[at].bytes = size;
      }
    }
    count_bytes(1, size);
  }

  void fail(std::uint64_t index, const Failure& failure) {
    const std::size_t at = place_of(index, State::failed);
    failures_.insert_or_assign(indices_.empty() ? index : indices_[at], failure);
    count_bytes(1, 0);
  }

  bool ready() const noexcept { return !states_.empty() && states_[front()] != State::absent; }

  // of the next one, when it is ready

  bool failed() const noexcept { return states_[front()] == State::failed; }
  std::uint64_t index() const noexcept { return ordered_ ? taken_ : indices_[front()]; }

  Failure take_failure() {
    const auto found = failures_.find(index());
    Failure failure = std::move(found->second);
    failures_.erase(found);
    pass();
    return failure;
  }

  /// Hands the value to put(R&&), or calls put() where there is none.
  template <class Put>
  void take_value(Put put) {
    if constexpr (std::is_void_v<R>) {
      put();
      bytes_ -= sizeof(std::uint64_t);
    } else if constexpr (plain) {
      put(R(cells_[front()]));
      bytes_ -= sizeof(std::uint64_t) + sizeof(R);
    } else {
      Cell& cell = cells_[front()];
      put(std::move(*cell.value));
      cell.value.reset();
      bytes_ -= cell.bytes;
    }
    pass();
  }

  /// How many were handed out.
  std::uint64_t taken() const noexcept { return taken_; }
  /// Of the results that are here, as they came.
  std::uint64_t bytes() const noexcept { return bytes_; }
  /// Of one of them, on average; nothing while there is no telling.
  std::optional<std::uint64_t> average_bytes() const noexcept {
    if constexpr (plain) return sizeof(std::uint64_t) + sizeof(R);
    if constexpr (std::is_void_v<R>) return sizeof(std::uint64_t);
    if (all_ == 0) return std::nullopt;
    return all_bytes_ / all_;
  }

  void clear() noexcept {
    states_.clear();
    cells_.clear();
    indices_.clear();
    failures_.clear();
    bytes_ = 0;
  }

 private:
  enum class State : std::uint8_t { absent, value, failed };
  using Held = std::conditional_t<plain, R, std::conditional_t<std::is_void_v<R>, char, Cell>>;

  std::size_t front() const noexcept { return taken_ & (states_.size() - 1); }

  void pass() noexcept {
    states_[front()] = State::absent;
    ++taken_;
  }

  std::size_t place_of(std::uint64_t index, State state) {
    const std::uint64_t place = ordered_ ? index : arrived_;
    make_room(place);
    const std::size_t at = place & (states_.size() - 1);
    if (!ordered_) {
      indices_[at] = index;
      ++arrived_;
    }
    states_[at] = state;
    return at;
  }

  void make_room(std::uint64_t place) {
    while (place - taken_ >= states_.size()) grow();
  }

  /// To a power of two, so that places keep to it.
  void grow() {
    const std::size_t size = std::max<std::size_t>(16, states_.size() * 2);
    std::vector<State> states(size, State::absent);
    std::vector<Held> cells(std::is_void_v<R> ? 0 : size);
    std::vector<std::uint64_t> indices(ordered_ ? 0 : size);
    for (std::uint64_t place = taken_; place != taken_ + states_.size(); ++place) {
      const std::size_t from = place & (states_.size() - 1);
      const std::size_t to = place & (size - 1);
      states[to] = states_[from];
      if constexpr (!std::is_void_v<R>) cells[to] = std::move(cells_[from]);
      if (!ordered_) indices[to] = indices_[from];
    }
    states_.swap(states);
    cells_.swap(cells);
    indices_.swap(indices);
  }

  void count_bytes(std::uint64_t results, std::uint64_t bytes) noexcept {
    bytes_ += bytes;
    all_bytes_ += bytes;
    all_ += results;
  }

  bool ordered_ = true;
  std::uint64_t taken_ = 0;    ///< places before this one were handed out
  std::uint64_t arrived_ = 0;  ///< the next place where order is not kept
  std::vector<State> states_;
  std::vector<Held> cells_;
  std::vector<std::uint64_t> indices_;  ///< by place, where order is not kept
  std::map<std::uint64_t, Failure> failures_;  ///< by index; there are few
  std::uint64_t bytes_ = 0;
  std::uint64_t all_bytes_ = 0;
  std::uint64_t all_ = 0;  ///< that have come, ever
};

}  // namespace brood::detail
