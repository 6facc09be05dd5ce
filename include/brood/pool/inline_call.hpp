// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <vector>

#include <brood/pool/task.hpp>
#include <brood/worker/call.hpp>
#include <brood/worker/context.hpp>
#include <brood/worker/items.hpp>

namespace brood::inline v0_1::detail {

/// What a task that ran in its caller has to say, in the form in which a worker would have said it.
struct InlineAnswer {
  ResultParts results;
  Bytes failure;  ///< empty: none
  TaskProgress progress;
  std::vector<Fd> received;
};

/// Runs a task in the calling thread, through the same bytes as in a worker. No lock is held.
inline InlineAnswer call_inline(const Task& task, const void* state, std::uint64_t seed, std::uint64_t max_result_bytes) {
  class Items final : public ItemSink {
   public:
    Items(Bytes& into, ProgressWords& words) : progress(words), into_(into) {}

    ProgressWords& progress;

    bool start() override {
      progress.report(0, 0);
      return true;
    }
    void finish(bool failed, std::span<const std::byte> bytes) override {
      const std::uint64_t word = std::uint64_t{bytes.size()} << 1 | (failed ? 1U : 0U);
      into_.append(&word, sizeof word);
      into_.append(bytes.data(), bytes.size());
    }
    void amend(std::span<const std::byte> bytes) override {
      into_.truncate(into_.size() - sizeof(std::uint64_t));
      finish(false, bytes);
    }

   private:
    Bytes& into_;
  };

  InlineAnswer answer;
  Bytes items;
  ProgressWords progress;
  Items sink(items, progress);
  TaskContext context;
  context.task = task.id;
  context.call = task.call;
  context.item = task.first_item;
  context.random.begin(seed);
  context.snapshot = state;
  context.items = &sink;
  context.progress = &progress;
  context.max_result_bytes = max_result_bytes;
  try {
    ListedDescriptors descriptors(descriptors_of(task.kept), true);
    Reader in = Reader::of_call(task.payload->view()).with(&descriptors);
    const auto thunk = reinterpret_cast<Thunk>(read_code(in));
    Writer out;
    if (task.items == 0) out.attach_to(&answer.received);
    thunk(context, in, out);
    if (task.items != 0) {
      answer.results.push_back({0, task.items, ::getpid(), 0, std::move(items)});
    } else if (out.size() > max_result_bytes) {
      Writer why;
      write_too_large(why, out.size(), max_result_bytes);
      answer.failure = std::move(why).take();
    } else {
      answer.results.push_back({0, 1, ::getpid(), 0, std::move(out).take()});
    }
  } catch (const abi::__forced_unwind&) {
    throw;
  } catch (...) {
    Writer out;
    write_current_failure(out);
    answer.failure = std::move(out).take();
  }
  answer.progress = progress.value();
  return answer;
}

}  // namespace brood::detail
