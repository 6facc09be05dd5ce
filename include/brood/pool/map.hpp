// SPDX-License-Identifier: MIT
// internal
// map and try_map: the range travels in chunks (chunks.hpp), some more than there are workers at a time, whose sizes follow
// the measured time of an item.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <ranges>
#include <utility>
#include <vector>

#include <brood/pool/chunks.hpp>
#include <brood/pool/map_progress.hpp>
#include <brood/pool/map_results.hpp>

namespace brood::inline v0_1::detail {

/// What a worker does with the items of a map, and where a closure's are.
template <class F>
struct MapWork {
  static constexpr bool folds = false;
  template <class Items>
  using State = ClosureMap<F, Items>;

  F& f;

  template <class Arguments, class Result>
  void write(Writer& out) const {
    out.raw(code_of<&run_items<F, Arguments, Result>>());
    write_callable<F>(out, f);
  }
  template <class Items>
  State<Items> state(Items items) const {
    return {f, std::move(items)};
  }
  template <class Items, class Result, bool spread>
  static const Bytes& closure_code() {
    return code_of<&run_closure_items<F, Items, Result, spread>>();
  }
};

/// One call of map, or of what is like it. `Work` is as MapWork, `Results` as MapResults.
template <Route route, class F, class Range, class Work, class Results>
class Map {
  using Ref = std::ranges::range_reference_t<Range>;
  static constexpr bool closure = route != Route::serialized;
  using Item = ItemCall<closure, F, Ref>;
  using Arguments = typename Item::Types::Arguments;
  using Result = typename Item::Types::Result;
  using Items = IndexedItems<std::remove_reference_t<Range>>;
  using Flight = ChunkFlight<Result, Results>;

 public:
  Map(const std::shared_ptr<Dispatcher>& dispatcher, Work work, Range& range, MapOptions options)
      : work_(work),
        range_(range),
        flight_(dispatcher, {name_of<F>(work.f), timeout_of(*dispatcher, options.timeout), options.retries, options.chunk_size,
                             options.priority, Work::folds, options.where}),
        progress_(*dispatcher, std::move(options.progress)) {
    if constexpr (!std::is_void_v<Result>) require_serializable<Result>();
    if constexpr (!closure) RequireTuple<Arguments>::check();
    if constexpr (is_function_pointer<F>) require_function(reinterpret_cast<const void*>(work.f));
  }

  std::vector<Outcome<Result>> outcomes() {
    run(false);
    return std::move(flight_.results).outcomes();
  }

  auto values() {
    run(true);
    if (failed()) flight_.results.failure(flight_.first_failed).raise();
    return std::move(flight_.results).values();
  }

  template <class T, class C>
  T folded(T&& initial, C& combine) {
    flight_.results.begin(std::move(initial), combine);
    run(true);
    if (failed()) flight_.results.failure(flight_.first_failed).raise();
    return std::move(flight_.results).value();
  }

 private:
  bool failed() const noexcept { return flight_.first_failed != Flight::none; }

  void run(bool stop_at_failure) {
    flight_.call = flight_.dispatcher->number_call();
    try {
      if constexpr (closure) {
        auto state = work_.template state<Items>(Items(range_));
        flight_.state = &state;
        if constexpr (route == Route::snapshot) {
          if (state.items.size() == 0) return run_closure(0, stop_at_failure);
          const SnapshotLease lease(flight_.dispatcher, &state);
          flight_.source = lease.id();
          run_closure(state.items.size(), stop_at_failure);
        } else {
          run_closure(state.items.size(), stop_at_failure);
        }
      } else {
        run_portable(stop_at_failure);
      }
    } catch (...) {
      flight_.abandon(0);
      throw;
    }
  }

  void run_portable(bool stop_at_failure) {
    using Out = ItemWriter<F, Ref>;
    std::optional<std::uint64_t> left;
    if constexpr (std::ranges::sized_range<Range>) {
      left = std::ranges::size(range_);
      flight_.results.reserve(*left);
    }
    progress_.total = left;
    auto it = std::ranges::begin(range_);
    const auto end = std::ranges::end(range_);
    const Dispatcher& dispatcher = *flight_.dispatcher;
    const auto produce = [&] {
      if (it == end) return false;
      const std::size_t base = flight_.results.size();
      Writer out = Writer::of_call();
      work_.template write<Arguments, Result>(out);
      const std::size_t head = out.size();
      const std::size_t size = flight_.sizer.next(left);
      std::uint32_t count = 0;
      std::optional<Failure> refused;  // of the item behind the chunk's last: it can't travel
      if constexpr (Out::template copied<std::ranges::iterator_t<Range>, std::ranges::sentinel_t<Range>>) {
        count = Out::copy(dispatcher, out, it, end, size, max_chunk_bytes);
      }
      while (count < size && it != end && !refused && out.size() <= max_chunk_bytes) {
        refused = Out::write(dispatcher, flight_.options.name, out, *it, base + count);
        ++it;
        if (!refused) ++count;
      }
      if (left) *left -= std::min<std::uint64_t>(*left, count + (refused ? 1U : 0U));
      if (count != 0) flight_.send_written(std::move(out), head, base, count);
      if (refused) flight_.refuse(base + count, *refused);
      return true;
    };
    loop(stop_at_failure, produce, [&](const Chunk& chunk, std::uint32_t first, std::uint32_t count, Tries tries) {
      flight_.send_part(chunk, first, count, tries, &item_size<Arguments>);
    });
  }

  void run_closure(std::uint64_t size, bool stop_at_failure) {
    progress_.total = size;
    std::uint64_t next = 0;
    const auto produce = [&] {
      if (next == size) return false;
      const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(flight_.sizer.next(size - next), size - next));
      send_closure(next, count, {flight_.options.retries});
      next += count;
      return true;
    };
    loop(stop_at_failure, produce, [&](const Chunk& chunk, std::uint32_t first, std::uint32_t count, Tries tries) {
      send_closure(chunk.base + first, count, tries);
    });
  }

  /// Keeps chunks in flight until there are none: `produce` sends one more, or says that there is none; `again` sends a part of
  /// one once more.
  template <class Produce, class Again>
  void loop(bool stop_at_failure, Produce produce, Again again) {
    progress_.tell();
    bool more = true;
    for (;;) {
      const unsigned workers = flight_.dispatcher->worker_count();  // others may resize the pool meanwhile
      const std::size_t wanted = std::size_t{workers} * 2;
      flight_.sizer.share_among(workers);
      while (more && flight_.flying.size() < wanted && !(stop_at_failure && failed())) more = produce();
      if (stop_at_failure && failed()) flight_.abandon(flight_.first_failed);
      progress_.done = flight_.settled;
      progress_.failed = flight_.failed;
      const std::vector<TaskPtr> tasks = flight_.tasks();
      if (progress_.due()) progress_.tell(tasks);
      if (tasks.empty()) break;
      flight_.dispatcher->wait_any(tasks, progress_.next(), workers);
      flight_.land(again);
      if constexpr (requires { flight_.results.fold_ready(); }) flight_.results.fold_ready();
    }
    progress_.finish();
  }

  void send_closure(std::uint64_t first, std::uint32_t count, Tries tries) {
    Chunk chunk;
    chunk.base = first;
    Writer out;
    out.raw(Work::template closure_code<Items, Result, Item::spread>());
    out.number<std::uint64_t>(first);
    out.number<std::uint32_t>(count);
    chunk.payload = shared_bytes(std::move(out));
    flight_.send(std::move(chunk), count, tries);
  }

  Work work_;
  Range& range_;
  Flight flight_;
  MapProgress progress_;
};

/// A map that does not compile.
template <class F>
struct RefusedMap {
  std::vector<std::conditional_t<std::is_void_v<RefusedResult<F>>, int, RefusedResult<F>>> values() const { return {}; }
  std::vector<Outcome<RefusedResult<F>>> outcomes() const { return {}; }
};

/// A map under a policy; refuses at compile time what can't work.
template <class Policy, class F, class Range>
auto map_under(const std::shared_ptr<Dispatcher>& dispatcher, F& f, Range& range, MapOptions options) {
  constexpr Route route = route_of<Policy, F>;
  static_assert(std::ranges::input_range<Range>,
                "brood: map needs a range (a container, a view, an array) as its second argument");
  if constexpr (std::ranges::input_range<Range>) {
    using Types = typename ItemCall<route != Route::serialized, F, std::ranges::range_reference_t<Range>>::Types;
    if constexpr (can_be_submitted<Policy, F, Types>()) {
      check_options(options);
      return Map<route, F, Range, MapWork<F>, MapResults<typename Types::Result>>(dispatcher, {f}, range, std::move(options));
    } else {
      refuse_call<Policy, F, Types>();
      return RefusedMap<F>();
    }
  } else {
    return RefusedMap<F>();
  }
}

}  // namespace brood::detail
