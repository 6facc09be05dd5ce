// SPDX-License-Identifier: MIT
// internal
// map_reduce: a map whose results are combined as they come, in the order of the range. Where the types allow it each chunk is
// combined in its worker (worker/fold.hpp), and the host combines what the chunks came to.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <brood/pool/map.hpp>
#include <brood/worker/fold.hpp>

namespace brood::inline v0_1::detail {

/// What the items of a map_reduce have come to. `Part` is what arrives: of an item, or, `in_worker`, of a chunk.
template <class T, class Part, class C, bool in_worker>
class FoldResults {
  struct Waiting {
    std::uint64_t end = 0;  ///< the first item behind it
    Part part;
  };

 public:
  static constexpr bool plain = false;

  void begin(T&& initial, C& combine) {
    value_.emplace(std::move(initial));
    combine_ = &combine;
  }

  std::size_t size() const noexcept { return size_; }
  void reserve(std::size_t) {}
  void grow_to(std::size_t size) noexcept { size_ = std::max(size_, size); }

  void store(std::uint64_t index, Reader& in) {
    if (in_worker && in.remaining() == 0) {  // a part of what comes with a later item
      if (unfolded_++ == 0) unfolded_from_ = index;
      return;
    }
    if constexpr (in_worker) in.number<std::uint8_t>();
    Part part = in.value<Part>();
    in.finish();
    const std::uint64_t first = unfolded_ != 0 ? unfolded_from_ : index;
    unfolded_ = 0;
    waiting_.insert_or_assign(first, Waiting{index + 1, std::move(part)});
  }
  void fail(std::uint64_t index, const Failure& failure) {
    if (!failure_ || index < failed_) failure_.emplace(failure);
    failed_ = std::min(failed_, index);
  }
  const Failure& failure(std::uint64_t /*index*/) const { return *failure_; }

  /// How many items of a chunk were finished, but did not come to anything: their worker died before it had sent it.
  std::uint32_t take_unfolded() noexcept { return std::exchange(unfolded_, 0); }

  /// Combines what is next. Throws what combine throws.
  void fold_ready() {
    while (!waiting_.empty() && waiting_.begin()->first == next_) {
      auto node = waiting_.extract(waiting_.begin());
      next_ = node.mapped().end;
      value_.emplace((*combine_)(std::move(*value_), std::move(node.mapped().part)));
    }
  }

  T value() && { return std::move(*value_); }

 private:
  std::optional<T> value_;
  C* combine_ = nullptr;
  std::size_t size_ = 0;
  std::uint64_t next_ = 0;  ///< the first item that is not in value_
  std::map<std::uint64_t, Waiting> waiting_;  ///< by their first items
  std::uint32_t unfolded_ = 0;
  std::uint64_t unfolded_from_ = 0;
  std::optional<Failure> failure_;
  std::uint64_t failed_ = ~std::uint64_t{0};
};

/// What a worker does with the items of a fold.
template <class F, class C>
struct FoldWork {
  static constexpr bool folds = true;
  template <class Items>
  using State = ClosureFold<F, C, Items>;

  F& f;
  C& combine;

  template <class Arguments, class T>
  void write(Writer& out) const {
    out.raw(code_of<&run_fold<F, C, Arguments, T>>());
    write_callable<F>(out, f);
    write_callable<C>(out, combine);
  }
  template <class Items>
  State<Items> state(Items items) const {
    return {{f, std::move(items)}, combine};
  }
  template <class Items, class T, bool spread>
  static const Bytes& closure_code() {
    return code_of<&run_closure_fold<F, C, Items, T, spread>>();
  }
};

/// Whether `initial` can hold what f returns: a number that can't is a mistake that nothing else would tell.
template <class T, class V>
inline constexpr bool holds = true;
template <class T, class V>
  requires(std::is_arithmetic_v<T> && std::is_arithmetic_v<V>)
inline constexpr bool holds<T, V> = (std::is_floating_point_v<T> && std::is_integral_v<V>) ||
                                    (std::is_floating_point_v<T> == std::is_floating_point_v<V> && sizeof(T) >= sizeof(V));

template <Route route, class F, class C, class Range, class T>
T fold_range(const std::shared_ptr<Dispatcher>& dispatcher, F& f, C& combine, Range& range, T&& initial, MapOptions options) {
  using V = typename ItemCall<route != Route::serialized, F, std::ranges::range_reference_t<Range>>::Types::Result;
  constexpr bool takes_value = !std::is_void_v<V>;
  static_assert(takes_value, "brood: map_reduce needs a function that returns what is to be combined; this one returns nothing");
  if constexpr (takes_value) {
    constexpr bool combines = std::is_invocable_v<C&, T, V>;
    static_assert(combines,
                  "brood: map_reduce calls combine(T, V), T being the type of initial and V what the function returns; combine "
                  "can't be called like that");
    if constexpr (combines) {
      constexpr bool converts = std::is_convertible_v<std::invoke_result_t<C&, T, V>, T>;
      static_assert(converts,
                    "brood: what combine returns is not of the type of initial, nor converts to it; pass an initial of the type "
                    "that combine returns: std::string() for strings, 0.0 for doubles");
      static_assert(holds<T, V>,
                    "brood: map_reduce: initial is of a type that can't hold all that the function returns, 0 for a function that "
                    "returns std::size_t or double; pass an initial of that type: std::size_t(0), 0.0");
      if constexpr (!converts) {
        return T(std::forward<T>(initial));  // refused, with words
      } else if constexpr (std::is_same_v<T, V> && (route != Route::serialized || PortableCallable<C>)) {
        using Results = FoldResults<T, T, C, true>;
        return Map<route, F, Range, FoldWork<F, C>, Results>(dispatcher, {f, combine}, range, std::move(options))
            .folded(std::move(initial), combine);
      } else {
        using Results = FoldResults<T, V, C, false>;
        return Map<route, F, Range, MapWork<F>, Results>(dispatcher, {f}, range, std::move(options))
            .folded(std::move(initial), combine);
      }
    }
  }
}

/// The same under a policy; refuses at compile time what can't work.
template <class Policy, class F, class C, class Range, class T>
T fold_under(const std::shared_ptr<Dispatcher>& dispatcher, F& f, C& combine, Range& range, T initial, MapOptions options) {
  static_assert(std::ranges::input_range<Range>,
                "brood: map_reduce needs a range (a container, a view, an array) as its third argument");
  if constexpr (std::ranges::input_range<Range>) {
    constexpr Route route = route_of<Policy, F>;
    using Types = typename ItemCall<route != Route::serialized, F, std::ranges::range_reference_t<Range>>::Types;
    if constexpr (can_be_submitted<Policy, F, Types>()) {
      check_options(options);
      return fold_range<route, F, C, Range, T>(dispatcher, f, combine, range, std::move(initial), std::move(options));
    } else {
      refuse_call<Policy, F, Types>();
      return initial;
    }
  }
}

}  // namespace brood::detail
