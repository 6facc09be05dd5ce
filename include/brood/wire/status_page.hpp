// SPDX-License-Identifier: MIT
// internal
// Memory that one worker shares with the host and with nobody else. It tells the host, without a system call, what
// the worker was doing when it died.
//
// Claims. The host numbers the tasks that it hands to a worker 1, 2, 3, ... and, before it sends task n, sets
// claims[n % size] to "n is offered". The worker starts task n only if it can turn that into "n is claimed"; the host
// takes task n back only if it can turn it into "n is revoked". Exactly one of the two succeeds, so a task that was
// taken back never starts, and one that started is known to have started.
//
// Items. The results of a chunk's items are collected in the log behind the page, so that those of finished items
// survive the worker. `done` says how many items are finished and how many bytes of the log hold results of the last
// ones, in one word, so that a kill can't come between the two.
//
// Halting. Each item starts by adding one to `items_started`. The host halts a chunk by setting a bit in that word: the
// same operation tells it which item was the last to start, and no other starts after it. So a kill for an item that has
// passed its deadline can't hit the item behind it.
//
// Large results. The worker says where its result lies and waits; the word `transfer` is how the host tells it that the
// result was read, or is wanted through the pipe.
//
// Descriptors. A worker whose task has some, or returns some, asks the host for a connection that can carry them. The host
// answers in the word `post`: it has taken one end of a pair of sockets, or, where it may not, wants a name to connect to.
//
// Crashes. Behind the page proper is room for what a handler notes when the worker crashes.
//
// The host treats all of it as a stranger's bytes: each word is read once and checked.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <brood/core/task_progress.hpp>
#include <brood/os/crash_handler.hpp>
#include <brood/os/mapping.hpp>

namespace brood::inline v0_1::detail {

/// What a task says of its progress. `number` tells whose the words are: those of a task that has ended stay until the
/// next one begins.
struct ProgressWords {
  std::atomic<std::uint64_t> number{0};  ///< a claim number; 0: nobody's
  std::uint64_t done = 0;  ///< atomic by the compiler's builtins: std::atomic's functions are calls in a build without -O
  std::uint64_t total = 0;

  [[gnu::always_inline]] void report(std::uint64_t now_done, std::uint64_t of_total) noexcept {
    __atomic_store_n(&done, now_done, __ATOMIC_RELAXED);
    __atomic_store_n(&total, of_total, __ATOMIC_RELAXED);
  }
  TaskProgress value() const noexcept { return {__atomic_load_n(&done, __ATOMIC_ACQUIRE), __atomic_load_n(&total, __ATOMIC_ACQUIRE)}; }

  /// Before the next task is claimed.
  void clear() noexcept {
    number.store(0, std::memory_order_relaxed);
    __atomic_store_n(&done, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&total, 0, __ATOMIC_RELEASE);
  }
  /// What that task has said; nothing when the words are another's.
  std::optional<TaskProgress> of(std::uint64_t wanted) const noexcept {
    if (number.load(std::memory_order_acquire) != wanted) return std::nullopt;
    const TaskProgress told = value();
    return number.load(std::memory_order_relaxed) == wanted ? std::optional(told) : std::nullopt;
  }
};

struct StatusPage {
  static constexpr std::size_t claim_count = 64;
  static constexpr std::size_t crash_offset = 1024;
  static constexpr std::size_t log_offset = 4096;
  static constexpr std::size_t log_capacity = std::size_t{256} << 10;
  static constexpr std::size_t mapping_size = log_offset + log_capacity;

  static constexpr std::uint64_t halted_bit = std::uint64_t{1} << 63;
  static constexpr unsigned start_shift = 6;
  static constexpr std::uint64_t in_start_hook = ~std::uint64_t{0};

  enum class Transfer : std::uint32_t { idle = 0, offered = 1, taken = 2, refused = 3 };
  enum class Post : std::uint32_t { idle = 0, asked = 1, taken = 2, name_wanted = 3, connected = 4, sent = 5 };
  static constexpr std::uint32_t post_refused = std::uint32_t{1} << 16;
  enum class Claim : std::uint64_t { offered = 0, claimed = 1, revoked = 2 };

  std::atomic<std::uint64_t> task{0};           ///< the task that runs, 0 between tasks
  std::atomic<std::uint64_t> started_ns{0};     ///< CLOCK_MONOTONIC at its start
  ProgressWords progress;                       ///< of the task that runs; in a chunk, of the item that runs
  std::atomic<std::uint64_t> items_started{0};  ///< of the chunk that runs
  std::atomic<std::uint64_t> items_done{0};     ///< of the chunk that runs << 32 | bytes of the log in use
  /// What runs while the worker starts: n is after_fork of the n-th Preload, then in_start_hook; 0 before and after.
  std::atomic<std::uint64_t> start_step{0};
  std::atomic<std::uint64_t> cpu_end_s{0};      ///< the CPU time of the process at which its limit ends it; 0: none
  std::atomic<std::uint64_t> cpu_share_s{0};    ///< the limit of which that is the end
  std::atomic<std::uint32_t> transfer{0};       ///< a Transfer; the worker sleeps on it
  std::atomic<std::uint32_t> post{0};           ///< a Post, or post_refused and an errno; the worker sleeps on it
  std::atomic<std::uint64_t> post_name{0};      ///< of a socket at which the worker listens; 0: none yet
  std::atomic<std::uint64_t> post_secret{0};    ///< what the host says first
  std::atomic<std::int32_t> post_end{-1};       ///< one end of a pair of the worker's, for the host to take
  alignas(64) std::array<std::atomic<std::uint64_t>, claim_count> claims{};
  /// When the tasks with these claims have started: the lower bits of the time in units of 64 ns.
  std::array<std::atomic<std::uint32_t>, claim_count> starts{};

  static constexpr std::uint64_t claim_word(std::uint64_t number, Claim claim) noexcept {
    return number << 2 | static_cast<std::uint64_t>(claim);
  }

  void offer(std::uint64_t number) noexcept {
    claims[number % claim_count].store(claim_word(number, Claim::offered), std::memory_order_release);
  }
  /// Before that task is claimed, at the time of its start.
  void begin(std::uint64_t number, std::uint64_t ns) noexcept {
    items_started.store(0, std::memory_order_relaxed);
    items_done.store(0, std::memory_order_relaxed);
    progress.clear();
    started_ns.store(ns, std::memory_order_relaxed);
    starts[number % claim_count].store(static_cast<std::uint32_t>(ns >> start_shift), std::memory_order_relaxed);
  }
  /// The time of a start, in ns, of which `guess` is less than two minutes off.
  std::uint64_t start_near(std::uint64_t number, std::uint64_t guess) const noexcept {
    const std::uint32_t told = starts[number % claim_count].load(std::memory_order_relaxed);
    const std::uint64_t about = guess >> start_shift;
    return (about + static_cast<std::uint64_t>(static_cast<std::int32_t>(told - static_cast<std::uint32_t>(about)))) << start_shift;
  }
  bool claim(std::uint64_t number) noexcept { return move(number, Claim::claimed); }
  bool revoke(std::uint64_t number) noexcept { return move(number, Claim::revoked); }
  /// Whether a task that was offered, and that nobody offered another in the place of, may have started. A word that is
  /// none of ours counts as a start: what the worker has written over must not run twice.
  bool may_have_started(std::uint64_t number) const noexcept {
    const std::uint64_t word = claims[number % claim_count].load(std::memory_order_acquire);
    return word != claim_word(number, Claim::offered) && word != claim_word(number, Claim::revoked);
  }
  /// Whether a task that can't be claimed was taken back: its place says so, or holds a later one. Else the page has been
  /// written over.
  bool was_taken_back(std::uint64_t number) const noexcept {
    constexpr std::uint64_t laps = 1U << 20;  // a random word is not within so many
    const std::uint64_t word = claims[number % claim_count].load(std::memory_order_acquire);
    const std::uint64_t ahead = (word >> 2) - number;
    if (ahead == 0) return word == claim_word(number, Claim::revoked);
    return ahead % claim_count == 0 && ahead / claim_count < laps && (word & 3) <= static_cast<std::uint64_t>(Claim::revoked);
  }

  /// The worker's next item: false when the chunk was halted before it.
  bool start_item() noexcept {
    std::uint64_t started = items_started.load(std::memory_order_relaxed);
    do {
      if ((started & halted_bit) != 0) return false;  // not counted: it never starts
    } while (!items_started.compare_exchange_weak(started, started + 1, std::memory_order_acq_rel));
    return true;
  }
  /// How many items have started when no other will.
  std::uint64_t halt_items() noexcept { return items_started.fetch_or(halted_bit, std::memory_order_acq_rel) & ~halted_bit; }

  CrashRecord& crash() noexcept {
    return *reinterpret_cast<CrashRecord*>(reinterpret_cast<std::byte*>(this) + crash_offset);
  }
  std::byte* log() noexcept { return reinterpret_cast<std::byte*>(this) + log_offset; }

 private:
  bool move(std::uint64_t number, Claim to) noexcept {
    std::uint64_t expected = claim_word(number, Claim::offered);
    return claims[number % claim_count].compare_exchange_strong(expected, claim_word(number, to),
                                                                std::memory_order_acq_rel);
  }
};
static_assert(sizeof(StatusPage) <= StatusPage::crash_offset);
static_assert(StatusPage::crash_offset + sizeof(CrashRecord) <= StatusPage::log_offset);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// One mapping of a status page and its log.
class StatusMapping {
 public:
  StatusMapping() noexcept = default;
  StatusMapping(int fd, Inherit inherit) : mapping_(fd, StatusPage::mapping_size, inherit) {}

  static Fd make_memory() { return make_shared_memory("brood-status", StatusPage::mapping_size); }

  /// Fresh shared memory is zero, and so is a fresh page: nothing has to be constructed.
  StatusPage& page() const noexcept { return *static_cast<StatusPage*>(mapping_.data()); }
  explicit operator bool() const noexcept { return static_cast<bool>(mapping_); }

 private:
  Mapping mapping_;
};

/// The host's mapping of one that a worker is yet to get, and what it is to be given. Throws SystemError.
struct StatusMemory {
  Fd fd = StatusMapping::make_memory();
  StatusMapping mapping{fd.get(), Inherit::no};
};

}  // namespace brood::detail
