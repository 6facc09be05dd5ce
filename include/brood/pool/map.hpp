// SPDX-License-Identifier: MIT
// internal
// map and try_map: the range travels in chunks, some more than there are workers at a time, whose sizes follow the
// measured time of an item. A chunk whose worker died comes back with what was finished; the item that was running is the
// one that failed, and the items behind it go out again. An item that is run again travels alone, after its pause.
#pragma once

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/pool/chunk_sizer.hpp>
#include <brood/pool/map_progress.hpp>
#include <brood/pool/map_results.hpp>
#include <brood/pool/options.hpp>
#include <brood/pool/outcome.hpp>
#include <brood/pool/submit.hpp>
#include <brood/worker/items.hpp>

namespace brood::detail {

/// One call of map.
template <Route route, class F, class Range>
class Map {
  static_assert(std::ranges::input_range<Range>,
                "brood: map needs a range (a container, a view, an array) as its second argument");
  using Ref = std::ranges::range_reference_t<Range>;
  static constexpr bool closure = route != Route::serialized;
  using Item = ItemCall<closure, F, Ref>;
  using Types = typename Item::Types;
  using Arguments = typename Types::Arguments;
  using Result = typename Types::Result;
  using Items = IndexedItems<std::remove_reference_t<Range>>;
  static constexpr bool fixed = fixed_size<Arguments> != 0;
  /// Whether the bytes of the range in memory are those of its items on the wire.
  static constexpr bool copied = fixed && !Item::spread && std::ranges::contiguous_range<Range> &&
                                 std::sized_sentinel_for<std::ranges::sentinel_t<Range>, std::ranges::iterator_t<Range>> &&
                                 std::is_same_v<Arguments, std::tuple<std::remove_cvref_t<Ref>>>;

  struct Chunk {
    TaskPtr task;
    std::shared_ptr<const Bytes> payload;
    std::shared_ptr<const void> kept;  ///< what the payload names
    std::size_t head = 0;  ///< bytes of the payload before the first item
    std::size_t base = 0;  ///< the index of the first item in the range
  };

  /// What a chunk's items have left and behind them.
  struct Tries {
    unsigned left = 0;    ///< each
    unsigned deaths = 0;  ///< of one that travels alone
  };

 public:
  Map(std::shared_ptr<Dispatcher> dispatcher, F& f, Range& range, MapOptions options)
      : dispatcher_(std::move(dispatcher)),
        f_(f),
        range_(range),
        timeout_(timeout_of(*dispatcher_, options.timeout)),
        retries_(options.retries),
        sizer_(dispatcher_->options().tasks_per_worker != 0 ? 1 : options.chunk_size, dispatcher_->worker_count()),
        progress_(*dispatcher_, std::move(options.progress)) {
    if constexpr (!std::is_void_v<Result>) require_serializable<Result>();
    if constexpr (!closure) RequireTuple<Arguments>::check();
    if constexpr (is_function_pointer<F>) require_function(reinterpret_cast<const void*>(f));
  }

  std::vector<Outcome<Result>> outcomes() {
    run(false);
    return std::move(results_).outcomes();
  }

  auto values() {
    run(true);
    if (first_failed_ != none) results_.failure(first_failed_).raise();
    return std::move(results_).values();
  }

 private:
  static constexpr std::size_t none = ~std::size_t{0};

  void run(bool stop_at_failure) {
    call_ = dispatcher_->number_call();
    try {
      if constexpr (closure) {
        ClosureMap<F, Items> state{f_, Items(range_)};
        state_ = &state;
        if constexpr (route == Route::snapshot) {
          if (state.items.size() == 0) return run_closure(0, stop_at_failure);
          const SnapshotLease lease(dispatcher_, &state);
          source_ = lease.id();
          run_closure(state.items.size(), stop_at_failure);
        } else {
          run_closure(state.items.size(), stop_at_failure);
        }
      } else {
        run_portable(stop_at_failure);
      }
    } catch (...) {
      abandon(0);
      throw;
    }
  }

  void run_portable(bool stop_at_failure) {
    std::optional<std::uint64_t> left;
    if constexpr (std::ranges::sized_range<Range>) {
      left = std::ranges::size(range_);
      results_.reserve(*left);
    }
    progress_.total = left;
    auto it = std::ranges::begin(range_);
    const auto end = std::ranges::end(range_);
    loop(stop_at_failure, [&] {
      if (it == end) return false;
      Chunk chunk;
      chunk.base = results_.size();
      Writer out = Writer::of_call();
      out.raw(code_of<&run_items<F, Arguments, Result>>());
      write_callable<F>(out, f_);
      chunk.head = out.size();
      const std::size_t size = sizer_.next(left);
      std::uint32_t count = 0;
      std::optional<Failure> refused;  // of the item behind the chunk's last: it can't travel
      if constexpr (copied) {
        if (sizeof(std::remove_cvref_t<Ref>) <= dispatcher_->options().max_message_bytes) count = copy_items(out, it, end, size);
      }
      while (count < size && it != end && !refused && out.size() <= max_chunk_bytes) {
        refused = write_item(out, *it, chunk.base + count);
        ++it;
        if (!refused) ++count;
      }
      if (left) *left -= std::min<std::uint64_t>(*left, count + (refused ? 1U : 0U));
      const std::size_t behind = chunk.base + count;
      if (count != 0) {
        chunk.kept = out.take_kept();
        chunk.payload = shared_bytes(std::move(out));
        send(std::move(chunk), count, {retries_});
      }
      if (refused) {
        results_.grow_to(behind + 1);
        fail(behind, *refused);
        ++progress_.done;
        dispatcher_->count_refused_item();
      }
      return true;
    });
  }

  void run_closure(std::uint64_t size, bool stop_at_failure) {
    progress_.total = size;
    std::uint64_t next = 0;
    loop(stop_at_failure, [&] {
      if (next == size) return false;
      const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(sizer_.next(size - next), size - next));
      send_closure(next, count, {retries_});
      next += count;
      return true;
    });
  }

  /// Keeps chunks in flight until there are none: `produce` sends one more, or says that there is none.
  template <class Produce>
  void loop(bool stop_at_failure, Produce produce) {
    progress_.tell();
    bool more = true;
    for (;;) {
      const unsigned workers = dispatcher_->worker_count();  // others may resize the pool meanwhile
      const std::size_t wanted = std::size_t{workers} * 2;
      sizer_.share_among(workers);
      while (more && flying_.size() < wanted && !(stop_at_failure && first_failed_ != none)) more = produce();
      if (stop_at_failure && first_failed_ != none) abandon(first_failed_);
      std::vector<TaskPtr> tasks;
      for (const Chunk& chunk : flying_) tasks.push_back(chunk.task);
      if (progress_.due()) progress_.tell(tasks);
      if (flying_.empty()) break;
      dispatcher_->wait_any(tasks, progress_.next(), workers);
      std::vector<Chunk> landed;
      const auto split = std::partition(flying_.begin(), flying_.end(), [](const Chunk& chunk) {
        return !chunk.task->resolved.load(std::memory_order_acquire);
      });
      std::move(split, flying_.end(), std::back_inserter(landed));
      flying_.erase(split, flying_.end());
      for (Chunk& chunk : landed) land(chunk);
    }
    progress_.finish();
  }

  /// Drops the chunks that begin behind item `index`; those that have not started never will.
  void abandon(std::size_t index) {
    std::erase_if(flying_, [&](const Chunk& chunk) {
      if (chunk.base < index) return false;
      dispatcher_->cancel_unstarted(chunk.task);
      return true;
    });
  }

  /// Writes item number `index`. When it can't be written, or is too large, `out` is as it was, and the answer is why.
  std::optional<Failure> write_item(Writer& out, Ref item, std::size_t index) {
    const std::size_t at = out.size();
    FailureKind kind = FailureKind::serialization;
    std::string why;
    std::exception_ptr cause;
    try {
      if constexpr (!fixed) out.count(0);
      if constexpr (Item::spread) {
        std::apply([&](auto&&... part) { WriteArguments<Arguments>::to(out, std::forward<decltype(part)>(part)...); },
                   std::forward<Ref>(item));
      } else {
        WriteArguments<Arguments>::to(out, std::forward<Ref>(item));
      }
      const std::uint64_t size = out.size() - at - (fixed ? 0 : sizeof(std::uint64_t));
      if constexpr (!fixed) std::memcpy(out.bytes().data() + at, &size, sizeof size);
      if (size <= dispatcher_->options().max_message_bytes) return std::nullopt;
      why = why_too_large(*dispatcher_, size);
      kind = FailureKind::too_large;
    } catch (const std::exception& error) {
      why = error.what();
      cause = std::current_exception();
    } catch (...) {
      why = "its Serializer threw something that is no exception";
      cause = std::current_exception();
    }
    out.bytes().truncate(at);
    FailureRecord record;
    record.kind = kind;
    record.cause = std::move(cause);
    record.where = name_of<F>(f_).text() + ", item " + std::to_string(index);
    record.message = record.where + ", can't be sent to a worker: " + why;
    return Failure(std::move(record));
  }

  /// Writes the items that lie side by side in memory, as they are, until the chunk is full.
  template <class Iterator, class End>
  static std::uint32_t copy_items(Writer& out, Iterator& it, const End& end, std::size_t most) {
    constexpr std::size_t each = sizeof(std::remove_cvref_t<Ref>);
    const auto count = static_cast<std::uint32_t>(
        std::min<std::uint64_t>({most, static_cast<std::uint64_t>(end - it), max_chunk_bytes / each + 1}));
    out.raw(std::to_address(it), count * each);
    it += static_cast<std::iter_difference_t<Iterator>>(count);
    return count;
  }

  void send(Chunk chunk, std::uint32_t count, Tries tries) {
    chunk.task = dispatcher_->make_task();
    chunk.task->items = count;
    chunk.task->call = call_;
    chunk.task->first_item = chunk.base;
    chunk.task->source = source_;
    chunk.task->timeout = timeout_;
    chunk.task->retries = tries.left;
    chunk.task->deaths = tries.deaths;
    chunk.task->name = name_of<F>(f_);
    chunk.task->payload = chunk.payload;
    chunk.task->kept = chunk.kept;
    results_.grow_to(chunk.base + count);
    flying_.reserve(flying_.size() + 1);
    dispatcher_->enqueue(chunk.task, Dispatcher::Caller::waits, state_);
    flying_.push_back(std::move(chunk));  // only what was accepted may be cancelled
  }

  void send_closure(std::uint64_t first, std::uint32_t count, Tries tries) {
    Chunk chunk;
    chunk.base = first;
    Writer out;
    out.raw(code_of<&run_closure_items<F, Items, Result, Item::spread>>());
    out.number<std::uint64_t>(first);
    out.number<std::uint32_t>(count);
    chunk.payload = shared_bytes(std::move(out));
    send(std::move(chunk), count, tries);
  }

  /// A chunk is resolved: its results are decoded here, in the caller, and what did not run goes out again.
  void land(const Chunk& chunk) {
    const Task& task = *chunk.task;
    std::uint64_t failed = 0;
    for (std::size_t at = 0; at < task.results.size(); ++at) failed += decode(chunk, task.results[at]);
    if (failed != 0) dispatcher_->count_failed_items(failed);
    sizer_.measured(task.run_ns, task.items_done);
    std::uint32_t next = task.items_done;
    progress_.done += next;
    if (task.failure && task.item_failed && task.retry_due()) {
      send_again(chunk, next++, 1, {task.retries - 1, task.deaths});
    } else if (task.failure && task.item_failed) {
      fail(chunk.base + next++, *task.failure);
      ++progress_.done;
    } else if (task.failure) {
      for (; next < task.items; ++next, ++progress_.done) fail(chunk.base + next, *task.failure);
    }
    if (next < task.items) send_again(chunk, next, task.items - next, {task.retries, task.failure ? 0 : task.deaths});
  }

  std::uint64_t decode(const Chunk& chunk, const ResultBytes& part) {
    Reader in(part.view());
    std::uint64_t failed = 0;
    for (std::uint32_t at = 0; at < part.count; ++at) {
      if constexpr (MapResults<Result>::plain) {
        at += results_.store_run(chunk.base + part.first + at, part.count - at, in);
        if (at == part.count) break;
      }
      const std::size_t index = chunk.base + part.first + at;
      std::uint64_t word = 0;
      std::span<const std::byte> bytes;
      try {
        word = in.number<std::uint64_t>();
        bytes = in.raw(word >> 1);
      } catch (const std::exception& error) {  // where one result ends, and the next begins, is not known any more
        for (; at < part.count; ++at) {
          ++failed;
          const std::size_t lost = chunk.base + part.first + at;
          fail(lost, undecodable(chunk, lost, error.what()));
        }
        break;
      }
      try {
        if ((word & 1) != 0) {
          ++failed;
          fail(index, read_failure(bytes, {part.pid, chunk.task->id},
                                   chunk.task->text(index) + " in worker " + std::to_string(part.pid),
                                   chunk.task->circumstances()));
          continue;
        }
        results_.store(index, bytes);
      } catch (const std::exception& error) {
        ++failed;
        fail(index, undecodable(chunk, index, error.what()));
      } catch (...) {
        ++failed;
        fail(index, undecodable(chunk, index, "its Serializer threw something that is no exception"));
      }
    }
    return failed;
  }

  static Failure undecodable(const Chunk& chunk, std::size_t index, const std::string& why) {
    FailureRecord record;
    record.kind = FailureKind::serialization;
    record.task = chunk.task->id;
    record.known = chunk.task->circumstances();
    record.where = chunk.task->text(index);
    record.message = record.where + ": its result of type " + readable_name(std::string(type_name<Result>())) +
                     " can't be decoded: " + why;
    return Failure(std::move(record));
  }

  void fail(std::size_t index, const Failure& failure) {
    results_.fail(index, failure);
    ++progress_.failed;
    first_failed_ = std::min(first_failed_, index);
  }

  /// A chunk of `count` of the chunk's items, from number `first` in it on.
  void send_again(const Chunk& chunk, std::uint32_t first, std::uint32_t count, Tries tries) {
    if constexpr (closure) {
      send_closure(chunk.base + first, count, tries);
    } else {
      Reader in(chunk.payload->view());
      in.raw(chunk.head);
      for (std::uint32_t skipped = 0; skipped < first; ++skipped) in.raw(item_size<Arguments>(in));
      const std::size_t left = in.remaining();
      for (std::uint32_t taken = 0; taken < count; ++taken) in.raw(item_size<Arguments>(in));
      Bytes bytes;
      bytes.append(chunk.payload->data(), chunk.head);
      bytes.append(chunk.payload->data() + (chunk.payload->size() - left), left - in.remaining());
      send({nullptr, std::make_shared<const Bytes>(std::move(bytes)), chunk.kept, chunk.head, chunk.base + first}, count, tries);
    }
  }

  static constexpr std::size_t max_chunk_bytes = std::size_t{1} << 20;

  std::shared_ptr<Dispatcher> dispatcher_;
  F& f_;
  Range& range_;
  std::chrono::nanoseconds timeout_;
  unsigned retries_;
  ChunkSizer sizer_;
  const void* state_ = nullptr;
  std::uint32_t source_ = 0;
  std::uint64_t call_ = 0;
  std::vector<Chunk> flying_;
  MapResults<Result> results_;
  std::size_t first_failed_ = none;
  MapProgress progress_;
};

/// A map under a policy; refuses at compile time what can't work.
template <class Policy, class F, class Range>
auto map_under(std::shared_ptr<Dispatcher> dispatcher, F& f, Range& range, MapOptions options) {
  require_callable<Policy, F>();
  check_options(options);
  return Map<route_of<Policy, F>, F, Range>(std::move(dispatcher), f, range, std::move(options));
}

}  // namespace brood::detail
