// SPDX-License-Identifier: MIT
// internal
// A chunk of a map on the wire: the callable once, then for each item its size and its arguments, so that an item that
// can't be decoded spoils no other. Arguments of one size that are their bytes, whatever these are, come without it.
#pragma once

#include <cxxabi.h>

#include <cstdint>
#include <exception>
#include <iterator>
#include <ranges>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/os/shared_memory.hpp>
#include <brood/worker/call.hpp>
#include <brood/worker/context.hpp>
#include <brood/worker/failure.hpp>

namespace brood::inline v0_1::detail {

template <class T>
inline constexpr bool is_tuple = false;
template <class... T>
inline constexpr bool is_tuple<std::tuple<T...>> = true;
template <class A, class B>
inline constexpr bool is_tuple<std::pair<A, B>> = true;

/// The call of a closure on an item that is there already: nothing travels but what comes back.
template <class F, class... A>
struct ClosureTypes {
  static_assert(std::is_invocable_v<F&, A...>, "brood: the task can't be called with the items of this range");
  using Arguments = std::tuple<>;
  using Returned = typename std::conditional_t<std::is_invocable_v<F&, A...>, std::invoke_result<F&, A...>,
                                               std::type_identity<void>>::type;
  static_assert(!std::is_reference_v<Returned>,
                "brood: the task returns a reference, which would refer to the worker's memory; return a value");
  static_assert(!argument_only<std::remove_cv_t<Returned>>,
                "brood: a task can't return a SharedArray: its worker may end before the host has taken it. Make it in the "
                "host, pass it to the task, and let the task write into it");
  using Result = std::remove_cv_t<Returned>;
};

/// The types with which an item is handed to f: its members when it is a tuple that f takes apart, else itself.
/// `Call` is CallTypes or ClosureTypes.
template <template <class, class...> class Call, class F, class Ref, class Indices>
struct SpreadTypes;
template <template <class, class...> class Call, class F, class Ref, std::size_t... I>
struct SpreadTypes<Call, F, Ref, std::index_sequence<I...>> {
  static constexpr bool invocable = std::is_invocable_v<F&, decltype(std::get<I>(std::declval<Ref>()))...>;
  using Types = Call<F, decltype(std::get<I>(std::declval<Ref>()))...>;
};

template <class T>
using TupleIndices = std::make_index_sequence<std::tuple_size_v<std::remove_cvref_t<T>>>;

template <template <class, class...> class Call, class F, class Ref, bool tuple = is_tuple<std::remove_cvref_t<Ref>>>
struct ItemTypes {
  static constexpr bool spread = false;
  using Types = Call<F, Ref>;
};
template <template <class, class...> class Call, class F, class Ref>
  requires(SpreadTypes<Call, F, Ref, TupleIndices<Ref>>::invocable)
struct ItemTypes<Call, F, Ref, true> {
  static constexpr bool spread = true;
  using Types = typename SpreadTypes<Call, F, Ref, TupleIndices<Ref>>::Types;
};

/// The same for a callable that travels, and for one that does not.
template <bool closure, class F, class Ref>
struct ItemCall : ItemTypes<CallTypes, F, Ref> {};
template <class F, class Ref>
struct ItemCall<true, F, Ref> : ItemTypes<ClosureTypes, F, Ref> {};

/// What the task said about the exception that is being handled.
inline void write_current_failure(Writer& out) {
  try {
    throw;
  } catch (const abi::__forced_unwind&) {
    throw;  // pthread_exit: the worker ends
  } catch (const NotTakenOn& refused) {
    write_failure(out, refused);
  } catch (const ImageMismatch& mismatch) {
    write_failure(out, FailureKind::image_mismatch, mismatch.what());
  } catch (const SerializationError& error) {
    write_failure(out, FailureKind::serialization, error.what());
  } catch (const NoRoom& error) {
    write_failure(out, FailureKind::too_large, error.what());
  } catch (...) {
    write_failure(out, std::current_exception());
  }
}

// What a result of an item becomes that is none, apart from what each item runs through.

[[gnu::cold, gnu::noinline]] inline void write_item_too_large(Writer& out, std::uint64_t limit) {
  const std::uint64_t size = out.size();
  out.roll_back(0, 0);
  write_too_large(out, size, limit);
}
[[gnu::cold, gnu::noinline]] inline void write_item_failure(Writer& out) {
  out.roll_back(0, 0);
  write_current_failure(out);
}

/// Makes the result of an item: what `body` writes, or, when it throws or that can't travel, a failure. Returns whether it is one.
template <class Body>
[[gnu::always_inline]] inline bool make_result(TaskContext& context, Writer& out, const Body& body) {
  out.bytes().truncate(0);
  bool failed = false;
  try {
    body();
    if (out.size() > context.max_result_bytes) {
      write_item_too_large(out, context.max_result_bytes);
      failed = true;
    }
    if (out.attached() != 0) context.items->pass_descriptors();
  } catch (const abi::__forced_unwind&) {
    throw;
  } catch (...) {
    write_item_failure(out);
    failed = true;
  }
  return failed;
}

/// Runs one item and hands its result to the sink. False when no further item may start.
template <class Body>
[[gnu::always_inline]] inline bool run_item(TaskContext& context, Writer& out, const Body& body) {
  if (!context.items->start()) return false;
  const bool failed = make_result(context, out, body);
  context.items->finish(failed, out.view());
  ++context.item;
  return true;
}

/// The bytes of an item's arguments where every item has as many and any bytes can be decoded; else 0.
template <class Tuple>
inline constexpr std::size_t fixed_size = 0;
template <class... T>
inline constexpr std::size_t fixed_size<std::tuple<T...>> = (bulk<T>() && ...) ? (std::size_t{0} + ... + sizeof(T)) : 0;

/// The size of the next item, whose arguments follow.
template <class Arguments>
std::size_t item_size(Reader& in) {
  if constexpr (fixed_size<Arguments> != 0) {
    return fixed_size<Arguments>;
  } else {
    return in.count();
  }
}

/// Runs f with the arguments of each item that follows.
template <class Arguments, class Result, class F>
void run_each(TaskContext& context, Reader& in, Writer& out, F& f) {
  const SharedMemory::Reuse reuse;
  while (in.remaining() != 0) {
    const auto bytes = in.raw(item_size<Arguments>(in));
    const bool ran = run_item(context, out, [&] {
      Reader item = Reader::of_call(bytes).with(in.descriptors());
      Arguments arguments = ReadTuple<Arguments>::from(item);
      item.finish();
      invoke_into<Result>(out, f, std::move(arguments));
    });
    if (!ran) return;
  }
}

/// The thunk of a chunk.
template <class F, class Arguments, class Result>
void run_items(TaskContext& context, Reader& in, Writer& out) {
  const ContextScope scope(context);
  F f = read_callable<F>(in);
  run_each<Arguments, Result>(context, in, out, f);
}

/// The same for a callable that is there already, in a snapshot or in the caller.
template <class F, class Arguments, class Result>
void run_items_in_place(TaskContext& context, Reader& in, Writer& out) {
  const ContextScope scope(context);
  run_each<Arguments, Result>(context, in, out, *static_cast<F*>(const_cast<void*>(context.snapshot)));
}

/// A map that stays where it is made: a snapshot has callable and items already. Item i of the range is `items.at(i)`.
template <class F, class Items>
struct ClosureMap {
  F& f;
  Items items;
};

/// The thunk of a chunk in a snapshot, or in the caller: only which items.
template <class F, class Items, class Result, bool spread>
void run_closure_items(TaskContext& context, Reader& in, Writer& out) {
  const ContextScope scope(context);
  auto& map = *static_cast<ClosureMap<F, Items>*>(const_cast<void*>(context.snapshot));
  const auto first = in.number<std::uint64_t>();
  const auto count = in.number<std::uint32_t>();
  in.finish();
  const auto call = [&](auto&& item) -> decltype(auto) {
    if constexpr (spread) {
      return std::apply(map.f, std::forward<decltype(item)>(item));
    } else {
      return map.f(std::forward<decltype(item)>(item));
    }
  };
  for (std::uint32_t index = 0; index < count; ++index) {
    const bool ran = run_item(context, out, [&] {
      if constexpr (std::is_void_v<Result>) {
        call(map.items.at(first + index));
      } else {
        out.value<Result>(call(map.items.at(first + index)));
      }
    });
    if (!ran) return;
  }
}

/// The items of a range, to be reached by index: by iterator where that is possible, else as values.
template <class Range>
class IndexedItems {
  using Iterator = std::ranges::iterator_t<Range>;
  static constexpr bool direct = std::ranges::random_access_range<Range>;
  static constexpr bool stable = std::ranges::forward_range<Range>;
  using Kept = std::conditional_t<stable, Iterator, std::ranges::range_value_t<Range>>;

 public:
  explicit IndexedItems(Range& range) {
    if constexpr (direct) {
      first_ = std::ranges::begin(range);
      size_ = static_cast<std::uint64_t>(std::ranges::distance(range));
    } else {
      for (auto it = std::ranges::begin(range); it != std::ranges::end(range); ++it) {
        if constexpr (stable) {
          kept_.push_back(it);
        } else {
          kept_.emplace_back(*it);
        }
      }
      size_ = kept_.size();
    }
  }

  std::uint64_t size() const noexcept { return size_; }

  decltype(auto) at(std::uint64_t index) {
    if constexpr (direct) {
      return first_[static_cast<std::iter_difference_t<Iterator>>(index)];
    } else if constexpr (stable) {
      return *kept_[index];
    } else {
      return (kept_[index]);
    }
  }

 private:
  Iterator first_{};
  std::vector<Kept> kept_;
  std::uint64_t size_ = 0;
};

}  // namespace brood::detail
