// SPDX-License-Identifier: MIT
// Workers that speak the protocol themselves: a task finds the result pipe and the status page of its own worker and
// says there what it may not. The host kills that worker, fails its task, and nothing else.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

using namespace std::chrono_literals;

namespace {

using brood::FailureKind;
using brood::detail::Block;
using brood::detail::FrameHeader;
using brood::detail::FrameType;
using brood::detail::StatusPage;

int add_one(int n) { return n + 1; }

// ---- what a hostile task uses --------------------------------------------------------------------------------------

std::set<int> descriptors_of_host;  ///< before there was a pool; empty in an exec'ed worker, which inherits none

/// The write end of the worker's result pipe: the one pipe for writing that is not the host's.
int result_pipe() {
  int found = -1;
  for (const int fd : support::numbers_in("/proc/self/fd")) {
    struct stat status {};
    if (fd <= 2 || descriptors_of_host.contains(fd) || ::fstat(fd, &status) != 0 || !S_ISFIFO(status.st_mode)) continue;
    if ((::fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) found = fd;
  }
  return found;
}

StatusPage& status_page() {
  std::istringstream maps(support::read_text("/proc/self/maps"));
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:brood-status") == std::string::npos) continue;
    return *reinterpret_cast<StatusPage*>(std::stoull(line.substr(0, line.find('-')), nullptr, 16));
  }
  std::abort();
}

void say(const void* bytes, std::size_t size) {
  const int pipe = result_pipe();
  const auto* at = static_cast<const char*>(bytes);
  while (size != 0) {
    const ssize_t sent = ::write(pipe, at, size);
    if (sent <= 0) ::_exit(44);  // no lie without a pipe: the test finds WorkerDied with this code
    at += sent;
    size -= static_cast<std::size_t>(sent);
  }
}

FrameHeader header(FrameType type, std::uint64_t size = 0) {
  FrameHeader made;
  made.type = type;
  made.task = brood::this_task::id();
  made.size = size;
  return made;
}

/// Several frames in one write, so that the host finds them together.
class Speech {
 public:
  Speech& operator()(const FrameHeader& said) { return bytes(&said, sizeof said); }
  Speech& operator()(int value) { return bytes(&value, sizeof value); }
  Speech& bytes(const void* at, std::size_t size) {
    text_.append(static_cast<const char*>(at), size);
    return *this;
  }
  const std::string& text() const { return text_; }
  void now() const { say(text_.data(), text_.size()); }

 private:
  std::string text_;
};

[[noreturn]] void wait_for_the_kill() {
  for (;;) ::pause();
}

// ---- the lies ------------------------------------------------------------------------------------------------------

struct Lie {
  const char* name;
  int (*tell)(int);
  FailureKind kind;         ///< what becomes of the task
  const char* message;      ///< a part of the failure's text
};

int wrong_id(int) {
  FrameHeader said = header(FrameType::result, sizeof(int));
  said.task += 1;
  Speech()(said)(7).now();
  wait_for_the_kill();
}

int id_of_no_task(int) {
  FrameHeader said = header(FrameType::result, sizeof(int));
  said.task = ~std::uint64_t{0};
  Speech()(said)(7).now();
  wait_for_the_kill();
}

int unknown_type(int) {
  Speech()(header(static_cast<FrameType>(99))).now();
  wait_for_the_kill();
}

int frame_of_the_host(int) {
  Speech()(header(FrameType::task, sizeof(int)))(7).now();
  wait_for_the_kill();
}

int second_hello(int) {
  FrameHeader said = header(FrameType::hello);
  said.number = 1;
  Speech()(said).now();
  wait_for_the_kill();
}

int second_hello_of_no_task(int) {
  FrameHeader said = header(FrameType::hello);
  said.task = 0;
  said.number = 1;  // a stranger's pid, to be killed by mistake
  Speech()(said).now();
  wait_for_the_kill();
}

int sorry_after_hello(int) {
  FrameHeader said = header(FrameType::failed);
  said.task = 0;
  Speech()(said).now();
  wait_for_the_kill();
}

int no_frame(int) {
  const std::array<unsigned char, 64> nonsense{0xde, 0xad};
  Speech().bytes(nonsense.data(), nonsense.size()).now();
  wait_for_the_kill();
}

int never_ending(int) {
  const std::string nonsense(std::size_t{64} << 10, 'x');
  for (;;) say(nonsense.data(), nonsense.size());
}

int items_of_a_single_call(int) {
  FrameHeader said = header(FrameType::items, sizeof(std::uint64_t));
  said.count = 1;
  const std::uint64_t word = 0;
  Speech()(said).bytes(&word, sizeof word).now();
  wait_for_the_kill();
}

int huge_result(int) {
  Speech()(header(FrameType::result, std::uint64_t{1} << 62)).now();
  wait_for_the_kill();
}

int hugest_result(int) {
  Speech()(header(FrameType::result, ~std::uint64_t{0})).now();
  wait_for_the_kill();
}

int huge_failure(int) {
  Speech()(header(FrameType::failed, std::uint64_t{1} << 50)).now();
  wait_for_the_kill();
}

int half_a_header(int) {
  const FrameHeader said = header(FrameType::result, sizeof(int));
  say(&said, sizeof said / 2);
  return 7;  // the worker's own frame follows: the two make a header of an absurd size
}

/// Where a large result lies, as the worker says.
template <class... Blocks>
int lists(std::uint64_t count, const Blocks&... blocks) {
  Speech list;
  list.bytes(&count, sizeof count);
  (list.bytes(&blocks, sizeof blocks), ...);
  const std::uint64_t own = 0;
  list.bytes(&own, sizeof own);
  FrameHeader said = header(FrameType::large, sizeof count + (sizeof blocks + ... + 0) + sizeof own);
  Speech()(said).bytes(list.text().data(), list.text().size()).now();
  wait_for_the_kill();
}

int list_of_nothing(int) { return lists(0); }
int list_without_end(int) { return lists(~std::uint64_t{0}); }
int list_that_is_cut(int) { return lists(2, Block{8, 4096, 1 << 20}); }
int list_of_nowhere(int) { return lists(1, Block{8, 4096, std::uint64_t{1} << 20}); }
int list_whose_end_is_nowhere(int) {
  static const std::string there(std::size_t{1} << 20, 'x');
  return lists(1, Block{8, reinterpret_cast<std::uintptr_t>(there.data()), std::uint64_t{1} << 39});
}
int list_of_the_kernel(int) { return lists(1, Block{8, ~std::uint64_t{0} - (1 << 21), std::uint64_t{1} << 20}); }
int list_with_a_place_beyond(int) { return lists(1, Block{9, 4096, std::uint64_t{1} << 20}); }
int list_that_goes_back(int) { return lists(2, Block{8, 4096, 1 << 20}, Block{0, 4096, 1 << 20}); }
int list_of_crumbs(int) { return lists(1, Block{8, 4096, 0}); }
int list_too_large(int) { return lists(1, Block{8, 4096, std::uint64_t{1} << 61}); }
int list_whose_sum_is_none(int) {
  return lists(3, Block{8, 4096, ~std::uint64_t{0} / 2}, Block{8, 4096, ~std::uint64_t{0} / 2}, Block{8, 4096, 1 << 20});
}
int another_answer_after_a_list(int) {
  static const std::string there(std::size_t{1} << 20, 'x');
  const std::uint64_t one = 1;
  const std::uint64_t own = 0;
  const Block block{8, reinterpret_cast<std::uintptr_t>(there.data()), there.size()};
  Speech()(header(FrameType::large, sizeof one + sizeof block + sizeof own))
      .bytes(&one, sizeof one).bytes(&block, sizeof block).bytes(&own, sizeof own)(header(FrameType::result, sizeof(int)))(7).now();
  wait_for_the_kill();
}

/// A result whose elements lie here or there, as the worker says: `said` elements, of which `bytes` bytes are told.
[[noreturn]] void lies_about_elements(std::uint64_t said, std::uint64_t bytes, std::size_t places = 1) {
  static const std::string there(std::size_t{2} << 20, 'x');
  const std::uint64_t count = places;
  Speech list;
  list.bytes(&count, sizeof count);
  for (std::size_t at = 0; at < places; ++at) {
    const Block block{sizeof said, reinterpret_cast<std::uintptr_t>(there.data()), bytes / places};
    list.bytes(&block, sizeof block);
  }
  list.bytes(&said, sizeof said);
  Speech()(header(FrameType::large, list.text().size())).bytes(list.text().data(), list.text().size()).now();
  wait_for_the_kill();
}
/// The same for elements that follow.
[[noreturn]] void lies_about_sent_elements(std::uint64_t said, std::size_t bytes) {
  const std::string elements(bytes, 'x');
  Speech()(header(FrameType::result, sizeof said + bytes)).bytes(&said, sizeof said).bytes(elements.data(), bytes).now();
  wait_for_the_kill();
}

using Elements = std::vector<double>;
constexpr std::uint64_t element_room = 1 << 17;  ///< the destination's, in elements: 1 MiB
constexpr std::array<Elements (*)(), 9> element_lies{
    []() -> Elements { lies_about_elements(element_room + 1, (element_room + 1) * sizeof(double)); },
    []() -> Elements { lies_about_elements(1, (element_room + 1) * sizeof(double)); },
    []() -> Elements { lies_about_elements(element_room, (element_room - 1) * sizeof(double)); },
    []() -> Elements { lies_about_elements(element_room, element_room * sizeof(double) + 1); },
    []() -> Elements { lies_about_elements(element_room, element_room * sizeof(double), 2); },
    []() -> Elements { lies_about_elements(std::uint64_t{1} << 61, std::uint64_t{1} << 20); },
    []() -> Elements { lies_about_sent_elements(element_room + 1, (element_room + 1) * sizeof(double)); },
    []() -> Elements { lies_about_sent_elements(std::uint64_t{1} << 61, 8); },
    []() -> Elements {
      Speech()(header(FrameType::result, sizeof(int)))(7).now();
      wait_for_the_kill();
    },
};

constexpr std::array lies{
    Lie{"a list of nothing", &list_of_nothing, FailureKind::protocol, "without anything large"},
    Lie{"a list without end", &list_without_end, FailureKind::protocol, "more than the message can hold"},
    Lie{"a list that is cut", &list_that_is_cut, FailureKind::protocol, "more than the message can hold"},
    Lie{"a list of memory that is not there", &list_of_nowhere, FailureKind::protocol, "memory that it does not have"},
    Lie{"a list of memory that ends before it", &list_whose_end_is_nowhere, FailureKind::protocol, "memory that it does not have"},
    Lie{"a list of the kernel's memory", &list_of_the_kernel, FailureKind::protocol, "memory that it does not have"},
    Lie{"a list with a place beyond the message", &list_with_a_place_beyond, FailureKind::protocol, "a place that is not there"},
    Lie{"a list that goes back", &list_that_goes_back, FailureKind::protocol, "a place that is not there"},
    Lie{"a list of blocks of nothing", &list_of_crumbs, FailureKind::protocol, "a block of 0 bytes"},
    Lie{"a list of more than may be sent", &list_too_large, FailureKind::too_large, "max_message_bytes"},
    Lie{"a list whose sum is none", &list_whose_sum_is_none, FailureKind::protocol, "a block of"},
    Lie{"another answer behind a list", &another_answer_after_a_list, FailureKind::protocol, "while its result is read"},
    Lie{"another task's id", &wrong_id, FailureKind::protocol, "another task than the one it runs"},
    Lie{"the id of no task", &id_of_no_task, FailureKind::protocol, "another task than the one it runs"},
    Lie{"a frame of an unknown type", &unknown_type, FailureKind::protocol, "unknown type"},
    Lie{"a frame that only a host sends", &frame_of_the_host, FailureKind::protocol, "unknown type"},
    Lie{"a second hello", &second_hello, FailureKind::protocol, "unknown type"},
    Lie{"a second hello, of no task", &second_hello_of_no_task, FailureKind::protocol, "another task than the one it runs"},
    Lie{"a failed start after the hello", &sorry_after_hello, FailureKind::protocol, "another task than the one it runs"},
    Lie{"bytes that are no frame", &no_frame, FailureKind::protocol, "no frame"},
    Lie{"bytes without end", &never_ending, FailureKind::protocol, "no frame"},
    Lie{"items for a single call", &items_of_a_single_call, FailureKind::protocol, "items that it was not asked for"},
    Lie{"a result of 4 EiB", &huge_result, FailureKind::too_large, "4611686018427387904 bytes"},
    Lie{"a result of 16 EiB", &hugest_result, FailureKind::too_large, "18446744073709551615 bytes"},
    Lie{"a failure of 1 PiB", &huge_failure, FailureKind::too_large, "max_message_bytes"},
    Lie{"half a header before the result", &half_a_header, FailureKind::too_large, "max_message_bytes"},
};

/// The first whole result of a task is its result, whoever wrote it; what follows may not.
int result_twice(int n) {
  const FrameHeader said = header(FrameType::result, sizeof(int));
  Speech()(said)(n)(said)(n + 1).now();
  wait_for_the_kill();
}

int result_without_end(int n) {
  const FrameHeader said = header(FrameType::result, sizeof(int));
  for (;;) Speech()(said)(n).now();
}

int result_and_failure(int n) {
  Speech()(header(FrameType::result, sizeof(int)))(n)(header(FrameType::failed)).now();
  wait_for_the_kill();
}

int result_of_the_next_task(int n) {
  FrameHeader said = header(FrameType::result, sizeof(int));
  Speech speech;
  speech(said)(n);
  for (int ahead = 1; ahead <= 20; ++ahead) {
    ++said.task;
    speech(said)(1000 + ahead);
  }
  speech.now();
  wait_for_the_kill();
}

int trailing_bytes(int n) {
  const std::string trail(sizeof(FrameHeader), '\xee');
  Speech()(header(FrameType::result, sizeof(int)))(n).bytes(trail.data(), trail.size()).now();
  wait_for_the_kill();
}

// ---- lies on the status page

void scribble_claims(std::uint64_t word) {
  for (auto& claim : status_page().claims) claim.store(word);
}

/// What a wild store leaves: no claim of anything.
int scribble_and_return(int n) {
  scribble_claims(0xdeadbeefdeadbeef);
  return n;
}

int scribble_and_die(int n) {
  scribble_claims(0xdeadbeefdeadbeef);
  ::raise(SIGKILL);
  return n;
}

int absurd_times(int n) {
  status_page().started_ns.store(~std::uint64_t{0});
  status_page().progress.report(~std::uint64_t{0}, 0);
  status_page().task.store(~std::uint64_t{0});
  status_page().items_started.store(~std::uint64_t{0});
  return n;
}

/// Says again and again that it has only just started.
int starts_for_ever() {
  StatusPage& page = status_page();
  for (;;) page.started_ns.store(brood::detail::monotonic_ns());
}
/// An item that says, too, that it is the next, and the next ...
int starts_for_ever_as_others(int item) {
  if (item != 1) return item;
  StatusPage& page = status_page();
  for (;;) {
    ++page.items_started;
    page.started_ns.store(brood::detail::monotonic_ns());
  }
}

// ---- lies about the items of a chunk

struct ItemsLie {
  const char* name;
  std::uint16_t flags;
  std::uint32_t first;
  std::uint32_t count;
  std::uint64_t words;  ///< of payload
};

constexpr std::array items_lies{
    ItemsLie{"more items than there are", 0, 0, 5, 5},
    ItemsLie{"2^32 - 1 items", 0, 0, ~0U, 1},
    ItemsLie{"no items, and not the last", 0, 0, 0, 1},
    ItemsLie{"the last, without most of them", FrameHeader::last, 0, 1, 1},
    ItemsLie{"the last, without any", FrameHeader::last, 0, 0, 0},
    ItemsLie{"others than the next", 0, 1, 1, 1},
    ItemsLie{"others, beyond the end", 0, 4, 1, 1},
    ItemsLie{"2^32 - 1 as the first", 0, ~0U, 1, 1},
    ItemsLie{"first and count that add up to a small number", 0, ~0U, 4, 4},
    ItemsLie{"more items than bytes", 0, 0, 4, 3},
};

/// Item 0 of a chunk of four lies for all.
int lie_about_items(int item, std::size_t which) {
  if (item % 4 != 0) return item;
  const ItemsLie& lie = items_lies[which];
  FrameHeader said = header(FrameType::items, lie.words * sizeof(std::uint64_t));
  said.flags = lie.flags;
  said.first = lie.first;
  said.count = lie.count;
  Speech speech;
  speech(said);
  const std::uint64_t word = 0;
  for (std::uint64_t n = 0; n < lie.words; ++n) speech.bytes(&word, sizeof word);
  speech.now();
  wait_for_the_kill();
}

int single_result_of_a_chunk(int item) {
  if (item % 4 != 0) return item;
  Speech()(header(FrameType::result, sizeof(int)))(item).now();
  wait_for_the_kill();
}

/// The header is right; the words before the results are not.
int absurd_sizes_of_results(int item) {
  if (item % 4 != 0) return item;
  FrameHeader said = header(FrameType::items, 4 * sizeof(std::uint64_t));
  said.flags = FrameHeader::last;
  said.count = 4;
  const std::array<std::uint64_t, 4> words{~std::uint64_t{1}, std::uint64_t{1} << 63, 8, 8};
  Speech()(said).bytes(words.data(), sizeof words).now();
  wait_for_the_kill();
}

/// Dies with a log that says what can't be.
int absurd_log(int item) {
  if (item % 4 != 1) return item;
  StatusPage& page = status_page();
  std::memset(page.log(), 0xff, StatusPage::log_capacity);
  switch (item / 4) {
    case 0: page.items_done.store(~std::uint64_t{0}); break;
    case 1: page.items_done.store(std::uint64_t{3} << 32 | 64); break;
    case 2: page.items_done.store(std::uint64_t{2} << 32 | StatusPage::log_capacity); break;
    case 3: page.items_done.store(std::uint64_t{2} << 32 | (StatusPage::log_capacity + 1)); break;
    default: page.items_done.store(0);
  }
  page.items_started.store(item % 8 < 4 ? 0 : ~std::uint64_t{0});
  ::raise(SIGKILL);
  return 0;
}

// ---- silence

int half_a_header_and_silence(int) {
  const FrameHeader said = header(FrameType::result, sizeof(int));
  say(&said, sizeof said / 2);
  wait_for_the_kill();
}

int half_a_payload_and_silence(int) {
  Speech()(header(FrameType::result, std::uint64_t{1} << 20)).bytes("half", 4).now();
  wait_for_the_kill();
}

int half_a_payload_and_death(int) {
  Speech()(header(FrameType::result, std::uint64_t{1} << 20)).bytes("half", 4).now();
  ::raise(SIGKILL);
  return 0;
}

/// Resident memory of this process, in KiB.
long resident_kib() {
  std::istringstream file(support::own_status("VmRSS"));
  long kib = 0;
  file >> kib;
  return kib;
}

}  // namespace

TEST_CASE_TEMPLATE("a worker that lies on its result pipe is killed, and fails the task that it runs only", Policy,
                   WORKER_POLICIES) {
  const support::Leftovers audit;
  descriptors_of_host = support::numbers_in("/proc/self/fd");
  brood::Pool<Policy> pool({.workers = 2, .max_message_bytes = std::uint64_t{1} << 40});
  std::uint64_t died = 0;
  for (const Lie& lie : lies) {
    CAPTURE(lie.name);
    const support::Gate gate;
    auto beside = pool.submit(&support::wait_for_gate, gate.path(), 5);  // runs in the other worker all the while
    REQUIRE(support::wait_until_running(pool, 1));
    auto lying = pool.submit(lie.tell, 7);
    std::vector<brood::Future<int>> behind;
    for (int n = 0; n < 10; ++n) behind.push_back(pool.submit(&add_one, n));
    const auto outcome = lying.outcome();
    REQUIRE_FALSE(outcome);
    const std::string text = outcome.failure().message();
    CHECK_MESSAGE(outcome.failure().kind() == lie.kind, text);
    CHECK_MESSAGE(text.find(lie.message) != std::string::npos, text);
    CHECK_MESSAGE(text.find("the worker was killed") != std::string::npos, text);
    CHECK(outcome.failure().task() == lying.id());
    for (int n = 0; n < 10; ++n) CHECK(behind[static_cast<std::size_t>(n)].get() == n + 1);
    CHECK(support::eventually([&] { return pool.stats().workers_died == died + 1; }));
    ++died;
    CHECK_FALSE(support::runs(outcome.failure().pid()));
    gate.open();
    CHECK(beside.get() == 5);
  }
  CHECK(resident_kib() < (long{1} << 20));  // no size was believed
}

TEST_CASE_TEMPLATE("what follows a task's result is nobody's result", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  descriptors_of_host = support::numbers_in("/proc/self/fd");
  brood::Pool<Policy> pool({.workers = 1});
  pool.map(&add_one, std::vector<int>(200), {.chunk_size = 1});  // short tasks: from now on work is handed out ahead
  std::uint64_t died = 0;
  for (const auto lie : {&result_twice, &result_without_end, &result_and_failure, &result_of_the_next_task, &trailing_bytes}) {
    auto lying = pool.submit(lie, 7);
    std::vector<brood::Future<int>> behind;
    for (int n = 0; n < 20; ++n) behind.push_back(pool.submit(&add_one, n));
    CHECK(lying.get() == 7);
    for (int n = 0; n < 20; ++n) CHECK(behind[static_cast<std::size_t>(n)].get() == n + 1);
    CHECK(support::eventually([&] { return pool.stats().workers_died == died + 1; }));
    ++died;
  }
  CHECK(pool.stats().failed == 0);
}

TEST_CASE_TEMPLATE("a worker that sends half a frame and stays is killed at the deadline", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  descriptors_of_host = support::numbers_in("/proc/self/fd");
  brood::Pool<Policy> pool({.workers = 2});
  for (const auto silence : {&half_a_header_and_silence, &half_a_payload_and_silence}) {
    auto silent = pool.submit({.timeout = std::chrono::milliseconds(100)}, silence, 0);
    for (int n = 0; n < 50; ++n) CHECK(pool.submit(&add_one, n).get() == n + 1);  // nobody else waits
    const auto outcome = silent.outcome();
    REQUIRE_FALSE(outcome);
    CHECK_MESSAGE(outcome.failure().kind() == FailureKind::timeout, outcome.failure().message());
    CHECK(pool.submit(&add_one, 1).get() == 2);
  }
  auto cancelled = pool.submit(&half_a_header_and_silence, 0);
  REQUIRE(support::wait_until_running(pool, 1));
  CHECK(cancelled.cancel());
  CHECK(cancelled.outcome().failure().kind() == FailureKind::cancelled);
  const auto dead = pool.submit(&half_a_payload_and_death, 0).outcome();
  REQUIRE_FALSE(dead);
  CHECK(dead.failure().kind() == FailureKind::worker_died);
  CHECK(dead.failure().signal() == SIGKILL);
  CHECK(pool.submit(&add_one, 1).get() == 2);
}

TEST_CASE_TEMPLATE("a worker that lies about the items of a chunk is killed, and other chunks are whole", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  descriptors_of_host = support::numbers_in("/proc/self/fd");
  brood::Pool<Policy> pool({.workers = 2});
  std::uint64_t died = 0;
  const auto lied = [&](const auto& outcomes, FailureKind kind) {
    for (int n = 0; n < 4; ++n) {
      CAPTURE(n);
      const auto& each = outcomes[static_cast<std::size_t>(n)];
      REQUIRE_FALSE(each);
      CHECK_MESSAGE(each.failure().kind() == kind, each.failure().message());
    }
    for (int n = 4; n < 8; ++n) CHECK(outcomes[static_cast<std::size_t>(n)].value() == n + 1);
    CHECK(support::eventually([&] { return pool.stats().workers_died == died + 1; }));
    ++died;
    CHECK(pool.map(&add_one, std::vector{1, 2, 3}) == std::vector{2, 3, 4});
  };
  for (std::size_t which = 0; which < items_lies.size(); ++which) {
    CAPTURE(items_lies[which].name);
    std::vector<std::pair<int, std::size_t>> items;
    for (int n = 0; n < 8; ++n) items.emplace_back(n, which);
    const auto outcomes = pool.try_map(
        [](int item, std::size_t lie) { return item < 4 ? lie_about_items(item, lie) : item + 1; }, items, {.chunk_size = 4});
    lied(outcomes, FailureKind::protocol);
  }
  const std::vector<int> items{0, 1, 2, 3, 4, 5, 6, 7};
  lied(pool.try_map([](int item) { return item < 4 ? single_result_of_a_chunk(item) : item + 1; }, items, {.chunk_size = 4}),
       FailureKind::protocol);
  // a whole chunk, told by its header, with results that no decoder takes: only the results are refused
  const auto absurd = pool.try_map([](int item) { return item < 4 ? absurd_sizes_of_results(item) : item + 1; }, items,
                                   {.chunk_size = 4, .timeout = std::chrono::seconds(20)});
  CHECK(absurd.size() == 8);
  for (std::size_t n = 0; n < 4; ++n) {
    REQUIRE_FALSE(absurd[n]);
    CHECK(absurd[n].failure().kind() == FailureKind::serialization);
  }
  pool.kill();
}

TEST_CASE_TEMPLATE("a worker that dies with an absurd log costs its chunk at most", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  descriptors_of_host = support::numbers_in("/proc/self/fd");
  brood::Pool<Policy> pool({.workers = 2});
  std::vector<int> items;
  for (int n = 0; n < 24; ++n) items.push_back(n);
  const auto outcomes = pool.try_map(&absurd_log, items, {.chunk_size = 4});
  REQUIRE(outcomes.size() == 24);
  std::size_t failed = 0;
  for (std::size_t n = 0; n < 24; ++n) {
    if (!outcomes[n]) {
      ++failed;
      CHECK((outcomes[n].failure().kind() == FailureKind::worker_died ||
             outcomes[n].failure().kind() == FailureKind::serialization));
    }
  }
  CHECK(failed >= 6);
  CHECK(pool.map(&add_one, std::vector{1, 2, 3}) == std::vector{2, 3, 4});
}

TEST_CASE_TEMPLATE("a task that writes over its status page harms no other", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  descriptors_of_host = support::numbers_in("/proc/self/fd");
  brood::Pool<Policy> pool({.workers = 1});
  for (int n = 0; n < 3; ++n) {
    CHECK(pool.submit(&absurd_times, n).get() == n);
    CHECK(pool.stats().queued == 0);
    CHECK_FALSE(pool.submit({.timeout = std::chrono::milliseconds(50)}, [](int) {
                      absurd_times(0);
                      wait_for_the_kill();
                      return 0;
                    }, 0).outcome());
    CHECK(pool.submit(&add_one, n).get() == n + 1);
    // it has run, so it must not run again: its value, or a failure
    auto scribbling = pool.submit(&scribble_and_return, n);
    const auto outcome = scribbling.outcome();
    if (!outcome) CHECK(outcome.failure().kind() == FailureKind::protocol);
    CHECK(pool.submit(&add_one, n).get() == n + 1);
    const auto dead = pool.submit(&scribble_and_die, n).outcome();
    REQUIRE_FALSE(dead);
    CHECK(dead.failure().kind() == FailureKind::worker_died);
    CHECK(pool.submit(&add_one, n).get() == n + 1);
  }
}

TEST_CASE_TEMPLATE("a task can't put off its deadline by moving its start", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const auto ran = support::run_in_child(
      [] {
        brood::Pool<Policy> pool({.workers = 1});
        const auto alone = pool.submit({.timeout = 100ms}, &starts_for_ever).outcome();
        std::printf("%s\n", alone ? "a value" : alone.failure().message().c_str());
        if (alone || alone.failure().kind() != FailureKind::timeout) return 1;
        const auto items = pool.try_map(&starts_for_ever_as_others, std::vector{0, 1, 2, 3}, {.chunk_size = 4, .timeout = 100ms});
        std::printf("%s\n", items[1] ? "a value" : items[1].failure().message().c_str());
        if (items[1] || items[1].failure().kind() != FailureKind::timeout) return 2;
        return items[0] && pool.submit(&add_one, 1).get() == 2 ? 0 : 3;
      },
      20'000);
  CHECK_MESSAGE((ran.status.exited() && ran.status.code() == 0), ran.status.describe() << " " << ran.output);
}

TEST_CASE_TEMPLATE("a start hook that lies ends in a LaunchError, not in starts without end", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  descriptors_of_host = support::numbers_in("/proc/self/fd");
  const auto hooks = {+[] {  // no frame
                        const std::string nonsense(sizeof(FrameHeader), '\xee');
                        say(nonsense.data(), nonsense.size());
                      },
                      +[] {  // a result, before any task
                        FrameHeader said;
                        said.type = FrameType::result;
                        said.task = 1;
                        say(&said, sizeof said);
                      }};
  for (const auto hook : hooks) {
    brood::Pool<Policy> pool({.workers = 1, .on_worker_start = hook});
    auto future = pool.submit(&add_one, 1);
    REQUIRE(future.wait_for(std::chrono::seconds(20)));
    const auto outcome = future.outcome();
    REQUIRE_FALSE(outcome);
    CHECK_MESSAGE((outcome.failure().kind() == FailureKind::launch || outcome.failure().kind() == FailureKind::protocol),
                  outcome.failure().message());
    CHECK(pool.stats().workers_died < 50);
  }
}

TEST_CASE_TEMPLATE("a worker that lies about elements is killed, and nothing is written", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  descriptors_of_host = support::numbers_in("/proc/self/fd");
  brood::Pool<Policy> pool({.workers = 1});
  Elements destination(element_room + 1000, -7);
  for (std::size_t at = 0; at < element_lies.size(); ++at) {
    CAPTURE(at);
    const auto outcome = pool.submit_into(std::span(destination).first(element_room), element_lies[at]).outcome();
    REQUIRE(!outcome);
    CHECK_MESSAGE(outcome.failure().kind() == FailureKind::protocol, outcome.failure().message());
    CHECK_MESSAGE(outcome.failure().message().find("the destination of submit_into") != std::string::npos,
                  outcome.failure().message());
    CHECK(destination == Elements(element_room + 1000, -7));
    CHECK(pool.submit(&add_one, 1).get() == 2);
  }
}
