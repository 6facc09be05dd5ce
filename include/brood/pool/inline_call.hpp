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
inline InlineAnswer call_inline(const Task& task, const void* state, const std::vector<PreloadedObject>* preloaded,
                                std::uint64_t seed, std::uint64_t max_result_bytes) {
  class Items final : public ItemSink {
   public:
    Items(ResultParts& into, ProgressWords& words) : progress(words), into_(into) {}

    ProgressWords& progress;

    bool start() override {
      progress.report(0, 0);
      return true;
    }
    void finish(bool failed, std::span<const std::byte> bytes) override {
      if (!attached.empty()) flush();
      const std::uint64_t word = std::uint64_t{bytes.size()} << 1 | (failed ? 1U : 0U);
      bytes_.append(&word, sizeof word);
      bytes_.append(bytes.data(), bytes.size());
      ++count_;
      if (!attached.empty()) flush(std::exchange(attached, {}));
    }
    void amend(bool failed, std::span<const std::byte> bytes) override {
      bytes_.truncate(bytes_.size() - sizeof(std::uint64_t));
      --count_;
      finish(failed, bytes);
    }
    void pass_descriptors() override {}

    /// What is here becomes a part of the results.
    void flush(std::vector<Fd> named = {}) {
      if (count_ == 0) return;
      into_.push_back({first_, count_, ::getpid(), 0, std::exchange(bytes_, Bytes()), std::move(named)});
      first_ += std::exchange(count_, 0);
    }

    std::vector<Fd> attached;  ///< descriptors of the item that is about to be finished

   private:
    ResultParts& into_;
    Bytes bytes_;
    std::uint32_t first_ = 0;
    std::uint32_t count_ = 0;
  };

  InlineAnswer answer;
  ProgressWords progress;
  Items sink(answer.results, progress);
  TaskContext context;
  context.task = task.id;
  context.call = task.call;
  context.item = task.first_item;
  context.random.begin(seed);
  context.preloaded = preloaded;
  context.snapshot = state;
  context.items = &sink;
  context.progress = &progress;
  context.max_result_bytes = max_result_bytes;
  try {
    ListedDescriptors descriptors(descriptors_of(task.kept), true);
    Reader in = Reader::of_call(task.payload->view()).with(&descriptors);
    const auto thunk = reinterpret_cast<Thunk>(read_code(in));
    Writer out;
    out.attach_to(task.items == 0 ? &answer.received : &sink.attached);
    thunk(context, in, out);
    if (task.items != 0) {
      sink.flush();
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
