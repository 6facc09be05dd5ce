// SPDX-License-Identifier: MIT
// Results into memory that the caller has: what is there is what the task returned, whichever way it took, nothing beyond it is
// written, and nothing at all once the task is resolved.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using brood::FailureKind;
using Numbers = std::vector<double>;

constexpr std::size_t threshold = brood::detail::block_threshold;
constexpr std::size_t mib = std::size_t{1} << 20;
constexpr double untouched = -7;

template <class T>
std::vector<T> pattern(std::size_t count, std::uint64_t seed = 1) {
  std::vector<T> made(count);
  for (std::size_t at = 0; at < count; ++at) made[at] = static_cast<T>((at + 1) * (2 * seed + 1) % 251);
  return made;
}
Numbers make_numbers(std::size_t count, std::uint64_t seed) { return pattern<double>(count, seed); }
std::vector<std::uint8_t> make_bytes(std::size_t count) { return pattern<std::uint8_t>(count); }
pid_t own_pid() { return ::getpid(); }

/// Whether the front of the destination is the pattern and what is behind it was not written.
bool landed(std::span<const double> destination, std::size_t count, std::uint64_t seed) {
  const Numbers wanted = pattern<double>(count, seed);
  return std::equal(wanted.begin(), wanted.end(), destination.begin()) &&
         std::all_of(destination.begin() + static_cast<std::ptrdiff_t>(count), destination.end(),
                     [](double each) { return each == untouched; });
}

struct Point {
  std::int32_t x = 0;
  std::int32_t y = 0;
  bool operator==(const Point&) const = default;
};

template <class T>
struct OwnAllocator : std::allocator<T> {
  OwnAllocator() = default;
  template <class U>
  OwnAllocator(const OwnAllocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor)
  template <class U>
  struct rebind {
    using other = OwnAllocator<U>;
  };
};

/// What nobody else writes to stays as it is.
class Marks {
 public:
  /// Marks a destination whose task is resolved: a few places only, so that it is done before somebody who still writes is.
  explicit Marks(std::span<double> destination) : destination_(destination) {
    for (std::size_t at = 0; at < destination.size(); at += step) destination[at] = untouched;
  }
  bool all_there() const {
    for (std::size_t at = 0; at < destination_.size(); at += step) {
      if (destination_[at] != untouched) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t step = 4096;
  std::span<double> destination_;
};

/// Lets a pool work on after a task was resolved: nobody writes to the task's destination.
template <class Policy>
void check_nobody_writes(brood::Pool<Policy>& pool, Numbers& destination) {
  const Marks marks(destination);
  for (int n = 0; n < 3; ++n) CHECK(pool.submit(&own_pid).get() > 0);  // the driver has turned, and another worker has started
  CHECK(marks.all_there());
  std::fill(destination.begin(), destination.end(), untouched);
}

/// Whether so much of a destination has been written. A glance at what is another's at that moment, which is what is asked.
__attribute__((no_sanitize("thread"))) bool written_up_to(std::span<double> destination, std::size_t at) {
  return static_cast<const volatile double*>(destination.data())[at] != untouched;
}

/// Whether this process's first thread is in futex(2).
bool first_thread_waits() {
  std::ifstream file("/proc/self/task/" + std::to_string(::getpid()) + "/syscall");
  long number = -1;
  return file >> number && number == SYS_futex;
}

/// From here on, in this process and all that it starts.
void refuse_to_read_others() {
  std::array filter{sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                    sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
                    sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(EPERM)),
                    sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    throw std::runtime_error("this kernel takes no filter of system calls");
  }
  if (::process_vm_readv(::getpid(), nullptr, 0, nullptr, 0, 0) != -1 || errno != EPERM) {
    throw std::runtime_error("process_vm_readv is not refused");
  }
}

}  // namespace

TEST_CASE_TEMPLATE("results of every size land in the destination, and not beyond", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{8}, std::size_t{64} << 10, threshold - 8, threshold, threshold + 8,
                                  mib / 2 - 8, mib / 2, mib / 2 + 8, mib, 3 * mib + 40}) {
    CAPTURE(bytes);
    const std::size_t count = bytes / sizeof(double);
    Numbers destination(count + 1000, untouched);
    auto future = pool.submit_into(destination, &make_numbers, count, bytes);
    CHECK(future.get() == count);
    CHECK(landed(destination, count, bytes));
    CHECK(future.get() == count);  // once more: it does not write again
    if (count != 0) destination[0] = untouched;
    CHECK(*future.outcome() == count);
    CHECK((count == 0 || destination[0] == untouched));

    Numbers exact(count, untouched);
    CHECK(pool.submit_into({.retries = 1}, std::span(exact), &make_numbers, count, bytes).get() == count);
    CHECK(landed(exact, count, bytes));
  }
  CHECK(pool.stats().failed == 0);
  CHECK(pool.stats().workers_died == 0);
}

TEST_CASE_TEMPLATE("destinations are spans, vectors, arrays or strings, and results vectors, arrays or strings", Policy,
                   ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});

  std::string text(300'000, '.');
  CHECK(pool.submit_into(text, [](std::size_t size) { return std::string(size, 'x'); }, std::size_t{200'000}).get() == 200'000);
  CHECK(text == std::string(200'000, 'x') + std::string(100'000, '.'));

  static std::array<std::int32_t, 50'000> large;
  const auto make_array = [] {
    std::array<std::int32_t, 50'000> made{};
    for (std::size_t at = 0; at < made.size(); ++at) made[at] = static_cast<std::int32_t>(at * at);
    return made;
  };
  CHECK(pool.submit_into(large, make_array).get() == large.size());
  CHECK(large == make_array());

  float few[4] = {0, 0, 0, 9};
  CHECK(pool.submit_into(few, [] { return std::array<float, 3>{1, 2, 3}; }).get() == 3);
  CHECK((few[0] == 1 && few[2] == 3 && few[3] == 9));
  CHECK(pool.submit_into(std::span<float, 2>(few, 2), [] { return std::vector<float>{5, 6}; }).get() == 2);
  CHECK((few[0] == 5 && few[1] == 6 && few[2] == 3));

  std::vector<Point> points(70'000);
  CHECK(pool.submit_into(points, [] { return std::vector<Point>(60'000, Point{3, 4}); }).get() == 60'000);
  CHECK((points[59'999] == Point{3, 4} && points[60'000] == Point{}));

  std::vector<std::byte> raw(threshold + 1);
  CHECK(pool.submit_into(raw, [] { return std::vector<std::byte>(threshold + 1, std::byte{7}); }).get() == threshold + 1);
  CHECK(raw == std::vector<std::byte>(threshold + 1, std::byte{7}));

  std::vector<double> other(mib / 8);
  CHECK(pool.submit_into(other, [] { return std::vector<double, OwnAllocator<double>>(mib / 8, 2.5); }).get() == mib / 8);
  CHECK(other == Numbers(mib / 8, 2.5));

  CHECK(pool.submit_into(std::span<int>(), [] { return std::vector<int>(); }).get() == 0);
}

TEST_CASE_TEMPLATE("a destination that is too small fails its task with both sizes, and is not written", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const pid_t worker = pool.submit(&own_pid).get();
  for (const std::size_t count : {std::size_t{3}, threshold / 8, mib}) {
    CAPTURE(count);
    Numbers destination(count, untouched);
    auto future = pool.submit_into(std::span(destination).first(count - 1), &make_numbers, count, std::uint64_t{1});
    CHECK_THROWS_AS(future.get(), brood::MessageTooLarge);
    const auto outcome = future.outcome();
    REQUIRE(!outcome);
    CHECK(outcome.failure().kind() == FailureKind::too_large);
    const std::string& message = outcome.failure().message();
    const std::string size = std::to_string(count) + " elements (" + std::to_string(count * sizeof(double)) + " bytes)";
    CHECK_MESSAGE(message.find(size) != std::string::npos, message);
    CHECK_MESSAGE(message.find(std::to_string(count - 1) + " elements") != std::string::npos, message);
    CHECK(landed(destination, 0, 1));
  }
  CHECK(pool.submit(&own_pid).get() == worker);  // nobody had to be killed for it
}

TEST_CASE_TEMPLATE("the limit on messages holds for what lands in a destination", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1, .max_message_bytes = mib});
  Numbers destination(mib, untouched);
  CHECK(pool.submit_into(destination, &make_numbers, mib / 8 - 1, std::uint64_t{1}).get() == mib / 8 - 1);
  std::fill(destination.begin(), destination.end(), untouched);
  const auto outcome = pool.submit_into(destination, &make_numbers, mib / 8, std::uint64_t{1}).outcome();
  REQUIRE(!outcome);
  CHECK(outcome.failure().kind() == FailureKind::too_large);
  CHECK(landed(destination, 0, 1));
}

TEST_CASE_TEMPLATE("what a task throws is thrown, and its destination is not written", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  Numbers destination(10, untouched);
  const auto throws = [](const std::string& what) -> Numbers { throw std::out_of_range(what); };
  CHECK_THROWS_WITH_AS(pool.submit_into(destination, throws, "no such row").get(), "no such row", std::out_of_range);
  CHECK(landed(destination, 0, 1));
}

TEST_CASE_TEMPLATE("many destinations are filled side by side, also when nobody waits", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  constexpr std::size_t tasks = 12;
  constexpr std::size_t each = threshold / 4;
  Numbers destination(tasks * each, untouched);
  {
    brood::Pool<Policy> pool({.workers = 3});
    for (std::size_t n = 0; n < tasks; ++n) {
      pool.submit_into(std::span(destination).subspan(n * each, each), &make_numbers, n % 2 == 0 ? each : each / 64, n);
    }
    pool.wait();
    CHECK(pool.stats().done == tasks);
  }
  for (std::size_t n = 0; n < tasks; ++n) {
    CHECK(landed(std::span(destination).subspan(n * each, each), n % 2 == 0 ? each : each / 64, n));
  }
}

TEST_CASE("closures under ForkPolicy and InlinePolicy land, too") {
  const support::Leftovers audit;
  const auto check = [](auto& pool) {
    for (const std::size_t count : {std::size_t{5}, mib}) {
      Numbers destination(count + 3, untouched);
      const auto closure = [count, seed = std::uint64_t{4}] { return pattern<double>(count, seed); };
      CHECK(pool.submit_into(destination, closure).get() == count);
      CHECK(landed(destination, count, 4));
      CHECK_THROWS_AS(pool.submit_into(std::span(destination).first(count - 1), closure).get(), brood::MessageTooLarge);
    }
  };
  brood::Pool<brood::InlinePolicy> here;
  check(here);
  brood::Pool<brood::ForkPolicy> there({.workers = 1});
  check(there);
}

TEST_CASE_TEMPLATE("elements come through the pipe where the kernel refuses to read another process", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const auto ran = support::run_in_child([] {
    refuse_to_read_others();
    brood::Pool<Policy> pool({.workers = 1});
    for (const std::size_t count : {threshold / 8 - 1, threshold / 8, mib}) {
      Numbers destination(count + 10, untouched);
      if (pool.submit_into(destination, &make_numbers, count, count).get() != count) return 1;
      if (!landed(destination, count, count)) return 2;
      const auto outcome = pool.submit_into(std::span(destination).first(count - 1), &make_numbers, count, count).outcome();
      if (outcome || outcome.failure().kind() != FailureKind::too_large) return 3;
    }
    Numbers destination(mib, untouched);
    auto given_up = pool.submit_into(destination, &make_numbers, mib, std::uint64_t{1});
    given_up.wait_for(std::chrono::milliseconds(20));
    given_up.cancel();
    given_up.wait();
    const Marks marks(destination);
    pool.submit(&own_pid).get();
    return marks.all_there() ? 0 : 4;
  });
  CHECK_MESSAGE((ran.status.exited() && ran.status.code() == 0), ran.status.describe() << ran.output);
}

TEST_CASE_TEMPLATE("a task that is run again lands what its last run returned", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const support::Gate gate;
  const auto dies_once = [](const std::string& path, std::size_t count) {
    if (::access(path.c_str(), F_OK) != 0) {
      ::close(::open(path.c_str(), O_CREAT | O_WRONLY, 0600));
      ::_exit(3);
    }
    return pattern<double>(count, 2);
  };
  Numbers destination(mib, untouched);
  CHECK(pool.submit_into({.retries = 1}, destination, dies_once, gate.path(), mib).get() == mib);
  CHECK(landed(destination, mib, 2));
}

TEST_CASE_TEMPLATE("when a task was cancelled at any moment of a transfer, nobody writes any more", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  Numbers destination(mib, untouched);
  brood::Pool<Policy> pool({.workers = 1});
  for (int n = 0; n < 16; ++n) {
    auto future = pool.submit_into(destination, &make_numbers, mib, std::uint64_t{7});
    future.wait_for(std::chrono::microseconds(1'500 * n));
    future.cancel();
    const auto outcome = future.outcome();
    if (outcome) {
      CHECK(landed(destination, mib, 7));
    } else {
      CHECK_MESSAGE(outcome.failure().kind() == FailureKind::cancelled, outcome.failure().message());
    }
    check_nobody_writes(pool, destination);
  }
}

TEST_CASE_TEMPLATE("when a worker was killed at any moment of a transfer, nobody writes any more", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  Numbers destination(mib, untouched);
  brood::Pool<Policy> pool({.workers = 1});
  for (int n = 0; n < 16; ++n) {
    const pid_t worker = pool.submit(&own_pid).get();
    auto future = pool.submit_into(destination, &make_numbers, mib, std::uint64_t{7});
    future.wait_for(std::chrono::microseconds(1'500 * n));
    ::kill(worker, SIGKILL);
    const auto outcome = future.outcome();
    if (outcome) {
      CHECK(landed(destination, mib, 7));
    } else {
      CHECK_MESSAGE(outcome.failure().kind() == FailureKind::worker_died, outcome.failure().message());
    }
    check_nobody_writes(pool, destination);
  }
}

TEST_CASE_TEMPLATE("when a deadline has passed at any moment of a transfer, nobody writes any more", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  Numbers destination(mib, untouched);
  brood::Pool<Policy> pool({.workers = 1});
  for (int n = 1; n < 24; n += 2) {
    auto future = pool.submit_into({.timeout = std::chrono::milliseconds(n)}, destination, &make_numbers, mib, std::uint64_t{7});
    const auto outcome = future.outcome();
    if (outcome) {
      CHECK(landed(destination, mib, 7));
    } else {
      CHECK_MESSAGE(outcome.failure().kind() == FailureKind::timeout, outcome.failure().message());
    }
    check_nobody_writes(pool, destination);
  }
}

TEST_CASE_TEMPLATE("when the pool was killed at any moment of a transfer, the destination may go", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  constexpr std::size_t count = 4 * mib;
  constexpr int moments = 12;
  for (int n = 0; n < moments; ++n) {
    brood::Pool<Policy> pool({.workers = 1});
    Numbers destination(count, untouched);
    auto future = pool.submit_into(destination, &make_numbers, count, std::uint64_t{7});
    // nobody waits: the helper thread reads while this thread kills
    const std::size_t moment = count / moments * static_cast<std::size_t>(n);
    REQUIRE(support::eventually([&] { return written_up_to(destination, moment); }));
    pool.kill();
    const Marks marks(destination);
    CHECK(future.ready());
    std::this_thread::yield();
    const auto outcome = future.outcome();
    if (!outcome) CHECK_MESSAGE(outcome.failure().kind() == FailureKind::cancelled, outcome.failure().message());
    CHECK(marks.all_there());
  }
}

TEST_CASE_TEMPLATE("a pool that is destroyed fills the destinations of the futures that were dropped", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  Numbers destination(mib, untouched);
  {
    brood::Pool<Policy> pool({.workers = 1});
    pool.submit_into(destination, &make_numbers, mib, std::uint64_t{5});
  }
  CHECK(landed(destination, mib, 5));
}

TEST_CASE_TEMPLATE("elements are read from a worker that is stopped meanwhile", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  Numbers destination(4 * mib, untouched);
  brood::Pool<Policy> pool({.workers = 1});
  const auto stops = [] {
    auto* const page = brood::detail::current_context()->page;
    std::thread([page] {
      const auto offered = static_cast<std::uint32_t>(brood::detail::StatusPage::Transfer::offered);
      while (page->transfer.load() != offered) std::this_thread::yield();
      // the word says "offered" before the offer is on its way; once the worker waits for the host, it is
      while (page->transfer.load() == offered && !first_thread_waits()) std::this_thread::yield();
      ::kill(::getpid(), SIGSTOP);
    }).detach();
    return pattern<double>(4 * mib, 5);
  };
  CHECK(pool.submit_into(destination, stops).get() == 4 * mib);
  CHECK(landed(destination, 4 * mib, 5));
  pool.kill();
}

TEST_CASE_TEMPLATE("many results that land leave no memory behind", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  std::vector<std::uint8_t> destination(2 * mib);
  for (int n = 0; n < 100; ++n) {
    const std::size_t size = n % 3 == 0 ? 1'000 : 2 * mib - static_cast<std::size_t>(n);
    REQUIRE(pool.submit_into(destination, &make_bytes, size).get() == size);
  }
  CHECK(std::equal(destination.begin(), destination.begin() + 1'000, make_bytes(1'000).begin()));
}
