// SPDX-License-Identifier: MIT
// internal
// A chunk of map_reduce: its items are combined where they run, and one value comes back. It is the result of the chunk's last
// item, the others have none; a chunk that ends early gives it to the last item that was finished.
#pragma once

#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>

#include <brood/worker/items.hpp>

namespace brood::inline v0_1::detail {

/// The values of a chunk's items so far, combined.
template <class T, class C>
class ChunkFold {
 public:
  ChunkFold(TaskContext& context, Writer& out, C& combine) noexcept : context_(context), out_(out), combine_(combine) {}

  /// Runs one item, whose value is value(). False when no further item may start.
  template <class Value>
  bool run(bool last, Value value) {
    const bool had = has_value_;
    has_value_ = false;
    const bool ran = run_item(context_, out_, [&] {
      T fresh = value();
      if (folded_) {
        folded_.emplace(combine_(std::move(*folded_), std::move(fresh)));
      } else {
        folded_.emplace(std::move(fresh));
      }
      if (last) write();
      has_value_ = true;
    });
    if (ran || !had) return ran;
    const bool failed = make_result(context_, out_, [&] { write(); });
    context_.items->amend(failed, out_.view());
    return false;
  }

 private:
  void write() {
    out_.number<std::uint8_t>(1);  // so that it is never empty
    out_.value<T>(*folded_);
  }

  TaskContext& context_;
  Writer& out_;
  C& combine_;
  std::optional<T> folded_;
  bool has_value_ = false;  ///< the last item had no failure
};

/// The thunk of a chunk that is folded.
template <class F, class C, class Arguments, class T>
void run_fold(TaskContext& context, Reader& in, Writer& out) {
  const ContextScope scope(context);
  const SharedMemory::Reuse reuse;
  F f = read_callable<F>(in);
  C combine = read_callable<C>(in);
  ChunkFold<T, C> fold(context, out, combine);
  while (in.remaining() != 0) {
    const auto bytes = in.raw(item_size<Arguments>(in));
    const bool ran = fold.run(in.remaining() == 0, [&]() -> T {
      Reader item = Reader::of_call(bytes).with(in.descriptors());
      Arguments arguments = ReadTuple<Arguments>::from(item);
      item.finish();
      return std::apply(f, std::move(arguments));
    });
    if (!ran) return;
  }
}

/// A fold that stays where it is made.
template <class F, class C, class Items>
struct ClosureFold : ClosureMap<F, Items> {
  C& combine;
};

/// The thunk of such a chunk: only which items.
template <class F, class C, class Items, class T, bool spread>
void run_closure_fold(TaskContext& context, Reader& in, Writer& out) {
  const ContextScope scope(context);
  auto& map = *static_cast<ClosureFold<F, C, Items>*>(const_cast<void*>(context.snapshot));
  const auto first = in.number<std::uint64_t>();
  const auto count = in.number<std::uint32_t>();
  in.finish();
  ChunkFold<T, C> fold(context, out, map.combine);
  for (std::uint32_t index = 0; index < count; ++index) {
    const bool ran = fold.run(index + 1 == count, [&]() -> T {
      decltype(auto) item = map.items.at(first + index);
      if constexpr (spread) {
        return std::apply(map.f, std::forward<decltype(item)>(item));
      } else {
        return map.f(std::forward<decltype(item)>(item));
      }
    });
    if (!ran) return;
  }
}

}  // namespace brood::detail
