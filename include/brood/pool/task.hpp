// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <atomic>
#include <cassert>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <brood/core/config.hpp>
#include <brood/core/bytes.hpp>
#include <brood/core/errors.hpp>
#include <brood/core/task_progress.hpp>
#include <brood/pool/assembly.hpp>
#include <brood/pool/landing.hpp>
#include <brood/wire/code_pointer.hpp>
#include <brood/worker/failure.hpp>

namespace brood::inline v0_1::detail {

class Dispatcher;
class Pull;
struct Attachment;

/// Results as they arrived: one value, or those of `count` items from `first` on.
struct ResultBytes {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  pid_t pid = 0;  ///< the worker that sent them
  std::size_t offset = 0;  ///< where in `bytes` they begin
  Bytes bytes;
  mutable std::vector<Fd> received{};  ///< descriptors that they name; whoever decodes them takes these
  int received_error = 0;  ///< an errno: why they are not there

  std::span<const std::byte> view() const noexcept { return bytes.view().subspan(offset); }
};

/// The parts of a task's results in the order in which they came. The first needs no memory of its own: a single call has
/// no other.
class ResultParts {
 public:
  std::size_t size() const noexcept { return first_ ? 1 + more_.size() : 0; }
  const ResultBytes& operator[](std::size_t at) const noexcept { return at == 0 ? *first_ : more_[at - 1]; }
  void push_back(ResultBytes&& part) {
    if (first_) {
      more_.push_back(std::move(part));
    } else {
      first_.emplace(std::move(part));
    }
  }
  void clear() noexcept {
    first_.reset();
    more_.clear();
  }

 private:
  std::optional<ResultBytes> first_;
  std::vector<ResultBytes> more_;
};

/// Who a task's callable is, for messages. Costs nothing until somebody asks.
struct CallableName {
  std::string_view type;
  const void* code = nullptr;

  std::string text() const { return code != nullptr ? name_of_code(code) : readable_name(std::string(type)); }
};

/// One task, from submit to the end of its last future.
///
///   queued ──assign──▶ assigned ──result, failure, death──▶ resolved
///      ▲──────revoke, death before it started, retry───┘
///
/// Everything but `resolved` and `readers` is guarded by the dispatcher's mutex until the task is resolved; then it does not change.
struct Task {
  enum class State : std::uint8_t { queued, assigned, resolved };

  TaskId id = 0;
  State state = State::queued;
  std::uint32_t items = 0;       ///< of a chunk; 0 for a single call
  std::uint32_t items_done = 0;  ///< of a chunk: how many have results
  std::uint64_t call = 0;        ///< its number among the calls of the pool; of a chunk, the map's
  std::uint64_t first_item = 0;  ///< of a chunk: the index of its first item in the range
  bool folds = false;            ///< of a chunk: its results are one, which comes with the last item
  bool item_failed = false;      ///< of a chunk: `failure` is that of item number items_done alone; later ones never started
  bool cancel_wanted = false;    ///< its worker is being killed for it
  bool timed_out = false;        ///< its worker is being killed for its deadline
  bool halted = false;           ///< of a chunk: no further item starts
  bool limited = false;          ///< its payload begins with limits of its own: its worker ends with it
  std::chrono::nanoseconds timeout{0};  ///< of the task, or of each item of a chunk; 0: none
  std::chrono::steady_clock::time_point assigned_at{};  ///< of a task with a timeout
  unsigned unstarted_deaths = 0;  ///< how often the worker died that it was to be the next task of
  unsigned deaths = 0;    ///< how often its worker died under it; an item that is run again has a chunk of its own
  unsigned retries = 0;   ///< left to the task, or to each item of a chunk
  int priority = 0;       ///< higher ones go first
  std::uint32_t slot = 0;        ///< where it is assigned
  std::uint64_t number = 0;      ///< its claim number there
  std::uint32_t source = 0;      ///< whose workers can run it
  CallableName name;
  std::source_location where{};  ///< of the call; line 0: not known
  std::shared_ptr<const Bytes> payload;  ///< what the worker is to be told; let go of when the task is resolved
  std::shared_ptr<const void> kept;      ///< what the payload names; let go of at the same time
  std::uint64_t run_ns = 0;
  std::chrono::steady_clock::time_point queued_at{};  ///< where a trace wants to know
  std::uint64_t charged = 0;  ///< bytes that count as pending
  bool delayed = false;       ///< it waits for its next try
  ResultParts results;
  std::vector<Fd> received;  ///< descriptors of the result
  int received_error = 0;    ///< an errno: why they are not there
  std::shared_ptr<const Attachment> attachment;  ///< its large parts; null where it has none
  Assemble assemble = nullptr;     ///< how a large result is put together while it is read; null: as parts
  std::unique_ptr<const Landing> landing;  ///< where its elements are wanted; null: nowhere, it is a value
  std::shared_ptr<Pull> pull;      ///< of a large result: what is read, or was
  bool pull_refused = false;       ///< its worker was told to send its result through the pipe
  TaskProgress progress;  ///< as it was last seen
  std::string output;  ///< the last that it printed, when that is captured
  std::optional<Failure> failure;
  std::vector<std::function<void()>> callbacks;
  std::shared_ptr<Dispatcher> dispatcher;
  std::atomic<unsigned> readers{0};  ///< that will read its result beside its future
  std::atomic<bool> resolved{false};

  /// Whether the failure is a death after which the task, or the chunk's item, is to be run again.
  bool retry_due() const noexcept {
    if (!failure || failure->kind() != FailureKind::worker_died) return false;
    return retries != 0;
  }

  /// What is known of it beside its failure.
  Circumstances circumstances() const {
    Circumstances known;
    known.callable = name.text();
    known.output = output;
    return known;
  }

  /// "task 7 (score)", or "task 7 (score, submitted at main.cpp:42)"
  std::string text() const { return "task " + std::to_string(id) + " (" + name.text() + submitted() + ")"; }
  std::string submitted() const;
  /// "task 7 (score), item 2", with the index in the range
  std::string text(std::uint64_t item) const { return text() + ", item " + std::to_string(item); }
};

inline std::string Task::submitted() const {
  std::string_view file = where.file_name();
  if (where.line() == 0 || file.find("/brood/pool/") != std::string_view::npos) return {};  // our own line says nothing
  file.remove_prefix(file.rfind('/') + 1);
  return ", submitted at " + std::string(file) + ":" + std::to_string(where.line());
}

BROOD_INLINE void drop_pull(Task& task) noexcept;  // dispatcher_pulls.hpp

using TaskPtr = std::shared_ptr<Task>;

}  // namespace brood::detail
