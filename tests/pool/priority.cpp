// SPDX-License-Identifier: MIT
// TaskOptions::priority: what starts first.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <ranges>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>
#include <brood/pool/task_queue.hpp>

#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using Pool = brood::Pool<support::ForkServer>;
using brood::detail::Task;
using brood::detail::TaskPtr;
using brood::detail::TaskQueue;

/// What tasks have done, in the order in which they did it: one file, to which each appends a line.
class Diary {
 public:
  const std::string& path() const { return gate_.path(); }
  std::vector<int> read() const {
    std::ifstream in(path());
    std::vector<int> all;
    for (int n = 0; in >> n;) all.push_back(n);
    return all;
  }

 private:
  support::Gate gate_;
};

int note(const std::string& path, int n) {
  std::ofstream(path, std::ios::app) << n << '\n';
  return n;
}

TaskPtr task(int priority, brood::TaskId id) {
  auto made = std::make_shared<Task>();
  made->priority = priority;
  made->id = id;
  return made;
}

}  // namespace

TEST_CASE("TaskQueue: the highest first, and the first come among equals") {
  TaskQueue queue;
  CHECK_FALSE(queue.ranked());
  CHECK(queue.next() == nullptr);
  brood::TaskId id = 0;
  for (const int priority : {0, 5, -3, 0, 5, -3, 7, 0}) queue.push_back(task(priority, ++id));
  CHECK(queue.ranked());
  CHECK(queue.mixed());
  CHECK(queue.size() == 8);
  queue.push_front(task(5, 100));
  queue.push_front(task(0, 200));
  const std::vector<brood::TaskId> expected{7, 100, 2, 5, 200, 1, 4, 8, 3, 6};
  std::vector<brood::TaskId> listed;
  for (const TaskPtr& each : queue.all()) listed.push_back(each->id);
  CHECK(listed == expected);
  const TaskPtr first = queue.next();
  CHECK(first->id == 7);
  queue.push_front(first);
  queue.remove_front(first);
  for (const TaskPtr& each : queue.all()) {
    if (each->id == 5 || each->id == 3 || each->id == 1) each->state = Task::State::resolved;
  }
  queue.drop_resolved();
  CHECK(queue.size() == 6);
  std::vector<brood::TaskId> taken;
  while (const TaskPtr each = queue.next()) taken.push_back(each->id);
  CHECK(taken == std::vector<brood::TaskId>{100, 2, 200, 4, 8, 6});
  CHECK(queue.empty());
  CHECK_FALSE(queue.mixed());
}

TEST_CASE("tasks of a higher priority start first, those of one in the order in which they came") {
  const support::Leftovers audit;
  const support::Gate gate;
  const Diary diary;
  Pool pool({.workers = 1});
  auto first = pool.submit(&support::wait_for_gate, gate.path(), 0);
  CHECK(support::wait_until_running(pool, 1));
  int n = 0;
  for (const int priority : {0, 2, -1, 2, 0, 9, -1}) {
    pool.submit({.priority = priority}, &note, diary.path(), ++n);
  }
  gate.open();
  first.get();
  pool.wait();
  CHECK(diary.read() == std::vector{6, 2, 4, 1, 5, 3, 7});
}

TEST_CASE("what was handed out ahead of time does not delay a higher task by more than the one that runs") {
  const support::Leftovers audit;
  const support::Gate gate;
  const Diary diary;
  Pool pool({.workers = 1});
  // the worker is busy with tasks so short that those behind it are handed out ahead of time, until it meets the gate
  for (int n = 0; n < 300; ++n) pool.submit([] {});
  auto running = pool.submit(&support::wait_for_gate, gate.path(), 0);
  for (int n = 0; n < 60; ++n) pool.submit({.priority = n < 40 ? 0 : -5}, &note, diary.path(), n);
  CHECK(support::eventually([&] { return pool.stats().done == 300 && pool.stats().running == 1; }));
  pool.submit({.priority = 1}, &note, diary.path(), 1000);
  pool.submit({.priority = 2}, &note, diary.path(), 2000);
  pool.submit({.priority = -1}, &note, diary.path(), 3000);
  gate.open();
  pool.wait();
  std::vector<int> expected{2000, 1000};
  for (int n = 0; n < 40; ++n) expected.push_back(n);
  expected.push_back(3000);
  for (int n = 40; n < 60; ++n) expected.push_back(n);
  CHECK(diary.read() == expected);
}

TEST_CASE("a task that is run again goes before those of its priority that wait") {
  const support::Leftovers audit;
  const support::Gate mark;
  const Diary diary;
  const auto dies_once = [](const std::string& path, const std::string& file) {
    if (::access(file.c_str(), F_OK) != 0) {
      ::close(::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
      ::raise(SIGKILL);
    }
    note(path, 1);
  };
  Pool pool({.workers = 1});
  const support::Gate gate;
  auto again = pool.submit({.retries = 1}, dies_once, diary.path(), mark.path());
  auto waits = pool.submit(&support::wait_for_gate, gate.path(), 0);  // while the pause lasts
  for (int n = 2; n < 10; ++n) pool.submit(&note, diary.path(), n);
  CHECK(support::wait_until_running(pool, 1));
  support::eventually([&] { return ::access(mark.path().c_str(), F_OK) == 0 && pool.stats().workers_died == 1; });
  timespec longer_than_the_pause{0, 30'000'000};  // which is 1 ms
  ::nanosleep(&longer_than_the_pause, nullptr);
  pool.stats();  // hears of it
  gate.open();
  pool.wait();
  again.get();
  CHECK(diary.read() == std::vector{1, 2, 3, 4, 5, 6, 7, 8, 9});
}

TEST_CASE("maps and streams have a priority; what was cancelled leaves nothing behind") {
  const support::Leftovers audit;
  Pool pool({.workers = 1});
  for (const bool streams : {false, true}) {
    CAPTURE(streams);
    const support::Gate gate;
    const Diary diary;
    auto first = pool.submit(&support::wait_for_gate, gate.path(), 0);
    CHECK(support::wait_until_running(pool, 1));
    for (int n = 0; n < 5; ++n) pool.submit(&note, diary.path(), n);
    CHECK(pool.submit({.priority = 3}, &note, diary.path(), 99).cancel());
    const auto items = std::views::iota(100, 104) | std::views::transform([&](int n) { return std::pair(diary.path(), n); });
    std::thread other([&] {
      if (streams) {
        CHECK(std::ranges::distance(pool.stream(&note, items, {.in_flight = 2, .chunk_size = 1, .priority = 1})) == 4);
      } else {
        pool.map(&note, items, {.chunk_size = 1, .priority = 1});
      }
    });
    CHECK(support::eventually([&] { return pool.stats().queued == 5 + 2; }));  // two chunks for its worker
    gate.open();
    other.join();
    pool.wait();
    const std::vector<int> order = diary.read();
    REQUIRE(order.size() == 9);
    CHECK(order[0] == 100);
    CHECK(order[1] == 101);
  }
}
