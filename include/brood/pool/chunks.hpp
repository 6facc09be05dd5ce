// SPDX-License-Identifier: MIT
// internal
// Items that travel in chunks: what map and streams have in common. A chunk whose worker died comes back with what was
// finished; the item that was running is the one that failed, and the items behind it go out again. An item that is run again
// travels alone, after its pause.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <brood/pool/chunk_sizer.hpp>
#include <brood/pool/dispatcher.hpp>
#include <brood/pool/options.hpp>
#include <brood/pool/outcome.hpp>
#include <brood/pool/submit.hpp>
#include <brood/worker/items.hpp>

namespace brood::inline v0_1::detail {

inline constexpr std::size_t max_chunk_bytes = std::size_t{1} << 20;

struct Chunk {
  TaskPtr task;
  std::shared_ptr<const Bytes> payload;
  std::shared_ptr<const void> kept;  ///< what the payload names
  std::size_t head = 0;              ///< bytes of the payload before the first item
  std::uint64_t base = 0;            ///< the index of the first item in the range
};

/// What a chunk's items have left and behind them.
struct Tries {
  unsigned left = 0;    ///< each
  unsigned deaths = 0;  ///< of one that travels alone
};

/// How the items of one range are to run.
struct ItemOptions {
  CallableName name;
  std::chrono::nanoseconds timeout{0};
  unsigned retries = 0;
  std::size_t chunk_size = 0;
  int priority = 0;
  bool folds = false;  ///< Task::folds
  std::source_location where{};  ///< Task::where
};

/// The chunks that are out, and where their results go. Results has grow_to, store, fail and, where `plain`, store_run: see
/// MapResults.
template <class R, class Results>
class ChunkFlight {
 public:
  ChunkFlight(std::shared_ptr<Dispatcher> pool, const ItemOptions& wanted)
      : dispatcher(std::move(pool)),
        options(wanted),
        sizer(dispatcher->options().tasks_per_worker != 0 ? 1 : wanted.chunk_size, dispatcher->worker_count()) {}

  static constexpr std::uint64_t none = ~std::uint64_t{0};

  const std::shared_ptr<Dispatcher> dispatcher;
  const ItemOptions options;
  ChunkSizer sizer;
  const void* state = nullptr;  ///< of a closure, under a policy that runs inline
  std::uint32_t source = 0;     ///< of a closure, else
  std::uint64_t call = 0;       ///< its number among the pool's calls
  std::vector<Chunk> flying;
  Results results;
  std::uint64_t first_failed = none;
  std::uint64_t settled = 0;  ///< items that have come to their end
  std::uint64_t failed = 0;   ///< those of them that have failed

  void send(Chunk chunk, std::uint32_t count, Tries tries) {
    chunk.task = dispatcher->make_task();
    chunk.task->items = count;
    chunk.task->call = call;
    chunk.task->first_item = chunk.base;
    chunk.task->source = source;
    chunk.task->priority = options.priority;
    chunk.task->folds = options.folds;
    chunk.task->timeout = options.timeout;
    chunk.task->retries = tries.left;
    chunk.task->deaths = tries.deaths;
    chunk.task->name = options.name;
    chunk.task->where = options.where;
    chunk.task->payload = chunk.payload;
    chunk.task->kept = chunk.kept;
    results.grow_to(chunk.base + count);
    flying.reserve(flying.size() + 1);
    dispatcher->enqueue(chunk.task, Dispatcher::Caller::waits, state);
    flying.push_back(std::move(chunk));  // only what was accepted may be cancelled
  }

  /// What was written as a chunk, of `count` items; the call behind the head is `out`'s from `head` on.
  void send_written(Writer&& out, std::size_t head, std::uint64_t base, std::uint32_t count) {
    Chunk chunk;
    chunk.base = base;
    chunk.head = head;
    chunk.kept = out.take_kept();
    chunk.payload = shared_bytes(std::move(out));
    send(std::move(chunk), count, {options.retries});
  }

  /// A chunk of `count` of the chunk's items, from number `first` in it on. `item_size`: of the next item of a payload.
  void send_part(const Chunk& chunk, std::uint32_t first, std::uint32_t count, Tries tries, std::size_t (*item_size)(Reader&)) {
    Reader in(chunk.payload->view());
    in.raw(chunk.head);
    for (std::uint32_t skipped = 0; skipped < first; ++skipped) in.raw(item_size(in));
    const std::size_t left = in.remaining();
    for (std::uint32_t taken = 0; taken < count; ++taken) in.raw(item_size(in));
    Bytes bytes;
    bytes.append(chunk.payload->data(), chunk.head);
    bytes.append(chunk.payload->data() + (chunk.payload->size() - left), left - in.remaining());
    send({nullptr, std::make_shared<const Bytes>(std::move(bytes)), chunk.kept, chunk.head, chunk.base + first}, count, tries);
  }

  /// Those of the chunks that are out.
  std::vector<TaskPtr> tasks() const {
    std::vector<TaskPtr> all;
    all.reserve(flying.size());
    for (const Chunk& chunk : flying) all.push_back(chunk.task);
    return all;
  }

  /// Takes the chunks that are resolved: their results are decoded here, in the caller, and what did not run goes out again,
  /// by again(chunk, first, count, tries). False when there was none.
  template <class Again>
  bool land(Again again) {
    const auto split = std::partition(flying.begin(), flying.end(), [](const Chunk& chunk) {
      return !chunk.task->resolved.load(std::memory_order_acquire);
    });
    if (split == flying.end()) return false;
    std::vector<Chunk> landed(std::make_move_iterator(split), std::make_move_iterator(flying.end()));
    flying.erase(split, flying.end());
    for (const Chunk& chunk : landed) land(chunk, again);
    return true;
  }

  /// Drops the chunks that begin behind item `index`; those that have not started never will.
  void abandon(std::uint64_t index) {
    std::erase_if(flying, [&](const Chunk& chunk) {
      if (chunk.base < index) return false;
      dispatcher->cancel_unstarted(chunk.task);
      return true;
    });
  }

  void fail(std::uint64_t index, const Failure& failure) {
    results.fail(index, failure);
    first_failed = std::min(first_failed, index);
    ++failed;
  }

  /// An item can't travel.
  void refuse(std::uint64_t index, const Failure& failure) {
    results.grow_to(index + 1);
    fail(index, failure);
    ++settled;
    dispatcher->count_refused_item();
  }

 private:
  template <class Again>
  void land(const Chunk& chunk, Again& again) {
    const Task& task = *chunk.task;
    std::uint64_t bad = 0;
    for (std::size_t at = 0; at < task.results.size(); ++at) bad += decode(chunk, task.results[at]);
    if (bad != 0) dispatcher->count_failed_items(bad);
    sizer.measured(task.run_ns, task.items_done);
    std::uint32_t next = task.items_done;
    settled += next;
    if constexpr (requires { results.take_unfolded(); }) {
      // what these have come to is lost with the worker: they are a part of what is run again
      const std::uint32_t unfolded = results.take_unfolded();
      if (unfolded != 0 && task.retry_due()) {
        settled -= unfolded;
        again(chunk, next - unfolded, unfolded, Tries{task.retries});
      }
    }
    if (task.failure && task.item_failed && task.retry_due()) {
      again(chunk, next++, 1U, Tries{task.retries - 1, task.deaths});
    } else if (task.failure && task.item_failed) {
      fail(chunk.base + next++, *task.failure);
      ++settled;
    } else if (task.failure) {
      for (; next < task.items; ++next, ++settled) fail(chunk.base + next, *task.failure);
    }
    if (next < task.items) again(chunk, next, task.items - next, Tries{task.retries, task.failure ? 0 : task.deaths});
  }

  std::uint64_t decode(const Chunk& chunk, const ResultBytes& part) {
    Reader in(part.view());
    TakenDescriptors descriptors(part.received, part.received_error);
    std::uint64_t bad = 0;
    for (std::uint32_t at = 0; at < part.count; ++at) {
      if constexpr (Results::plain) {
        at += results.store_run(chunk.base + part.first + at, part.count - at, in);
        if (at == part.count) break;
      }
      const std::uint64_t index = chunk.base + part.first + at;
      std::uint64_t word = 0;
      std::span<const std::byte> bytes;
      try {
        word = in.number<std::uint64_t>();
        bytes = in.raw(word >> 1);
      } catch (const std::exception& error) {  // where one result ends, and the next begins, is not known any more
        for (; at < part.count; ++at) {
          ++bad;
          const std::uint64_t lost = chunk.base + part.first + at;
          fail(lost, undecodable(chunk, lost, error.what()));
        }
        break;
      }
      try {
        if ((word & 1) != 0) {
          ++bad;
          fail(index, read_failure(bytes, {part.pid, chunk.task->id},
                                   chunk.task->text(index) + " in worker " + std::to_string(part.pid),
                                   chunk.task->circumstances()));
          continue;
        }
        Reader item(bytes);
        results.store(index, item.with(&descriptors));
      } catch (const std::exception& error) {
        ++bad;
        fail(index, undecodable(chunk, index, error.what()));
      } catch (...) {
        ++bad;
        fail(index, undecodable(chunk, index, "its Serializer threw something that is no exception"));
      }
    }
    return bad;
  }

  static Failure undecodable(const Chunk& chunk, std::uint64_t index, const std::string& why) {
    FailureRecord record;
    record.kind = FailureKind::serialization;
    record.task = chunk.task->id;
    record.known = chunk.task->circumstances();
    record.where = chunk.task->text(index);
    record.message = record.where + ": its result of type " + readable_name(std::string(type_name<R>())) +
                     " can't be decoded: " + why;
    return Failure(std::move(record));
  }
};

/// How the items of a range travel to f. `Ref` is what its iterators refer to.
template <class F, class Ref>
struct ItemWriter {
  using Item = ItemCall<false, F, Ref>;
  using Arguments = typename Item::Types::Arguments;
  using Result = typename Item::Types::Result;
  static constexpr bool fixed = fixed_size<Arguments> != 0;

  /// Whether the bytes of such a range in memory are those of its items on the wire.
  template <class Iterator, class End>
  static constexpr bool copied = fixed && !Item::spread && std::contiguous_iterator<Iterator> &&
                                 std::sized_sentinel_for<End, Iterator> &&
                                 std::is_same_v<Arguments, std::tuple<std::remove_cvref_t<Ref>>>;

  /// Writes item number `index`. When it can't be written, or is too large, `out` is as it was, and the answer is why.
  static std::optional<Failure> write(const Dispatcher& dispatcher, const CallableName& name, Writer& out, Ref item,
                                      std::uint64_t index) {
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
      if (size <= dispatcher.options().max_message_bytes) return std::nullopt;
      why = why_too_large(dispatcher, size);
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
    record.where = name.text() + ", item " + std::to_string(index);
    record.message = record.where + ", can't be sent to a worker: " + why;
    return Failure(std::move(record));
  }

  /// Writes items that lie side by side in memory, as they are, `most` of them. Returns how many.
  template <class Iterator, class End>
  static std::uint32_t copy(const Dispatcher& dispatcher, Writer& out, Iterator& it, const End& end, std::size_t most,
                            std::uint64_t most_bytes) {
    constexpr std::size_t each = sizeof(std::remove_cvref_t<Ref>);
    if (each > dispatcher.options().max_message_bytes) return 0;
    const auto count = static_cast<std::uint32_t>(
        std::min<std::uint64_t>({most, static_cast<std::uint64_t>(end - it), most_bytes / each + 1}));
    out.raw(std::to_address(it), count * each);
    it += static_cast<std::iter_difference_t<Iterator>>(count);
    return count;
  }
};

}  // namespace brood::detail
