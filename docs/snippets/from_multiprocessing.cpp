// SPDX-License-Identifier: MIT
// The code of docs/guide/from-multiprocessing.md.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <ranges>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

using namespace std::chrono_literals;

namespace {

int square(int n) { return n * n; }
int add(int one, int other) { return one + other; }
void prepare() {}
int load_model() { return 3; }
void work(const std::string&) {}
void forever() {
  for (;;) ::pause();
}
int parse(const std::string& text) { return std::stoi(text); }
void count(brood::Channel<int, void> host) {
  for (int n = 0; n < 2; ++n) host.send(n);
}
void fill(brood::SharedArray<double> part) {
  for (double& each : part) each = 1;
}

void answer(brood::Channel<std::string> host) {
  while (const auto question = host.receive()) host.send("you said " + *question);
}
void count_up(brood::SharedArray<int> counter) { std::atomic_ref(counter[0]) += 1; }
int power(int x, int n) { return n == 0 ? 1 : x * power(x, n - 1); }
void say(const brood::Fd& lock, int n) {
  ::lockf(lock.get(), F_LOCK, 0);  // a worker that dies leaves it
  std::cout << n << std::endl;
  ::lockf(lock.get(), F_ULOCK, 0);
}
void hold(const brood::Fd& lock, brood::Channel<int, void> host) {
  ::lockf(lock.get(), F_LOCK, 0);
  host.send(1);
  ::usleep(300'000);
}
int crash() { return ::raise(SIGSEGV); }

struct Model { int factor = load_model(); };
int predict(int x) { return brood::preloaded<Model>().factor * x; }

void require(bool condition) {
  if (!condition) std::abort();
}

void calls() {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 4});
  const auto squares = pool.map(&square, std::views::iota(0, 10));
  require(squares[9] == 81);
  const int nine = pool.submit(&square, 3).get();
  require(nine == 9);
  {
    const auto result = pool.submit(&square, 3);
    std::cout << result.get() << '\n';
  }
  std::cout << pool.map_reduce(&square, std::plus<int>(), std::views::iota(0, 4), 0) << '\n';
  std::vector<brood::Future<int>> results;
  for (int n = 0; n < 4; ++n) results.push_back(pool.submit(&square, n));
  require(results[3].get() == 9);
  try {
    pool.submit({.timeout = 100ms}, &forever).get();
  } catch (const brood::TaskTimeout&) { std::cout << "late\n"; }  // forever() has been ended
  for (const int square_ : pool.stream(&square, std::views::iota(0, 10)))
    std::cout << square_ << '\n';
  for (const int square_ : pool.stream_unordered(&square, std::views::iota(0, 10)))
    std::cout << square_ << '\n';
  const auto sums = pool.map(&add, std::vector<std::pair<int, int>>{{1, 2}, {3, 4}});
  require(sums[1] == 7);
  try {
    pool.submit(&parse, "x").get();
  } catch (const std::invalid_argument& error) { std::cout << error.what() << '\n'; }
  pool.submit(&square, 5).then([](int value) { std::cout << value << '\n'; });
  {
    auto [mine, theirs] = brood::channel<void, int>();
    auto done = pool.submit(&count, std::move(theirs));
    for (const int number : mine) std::cout << number << '\n';
    done.get();
  }
  {
    brood::SharedArray<double> array(1000);
    pool.map(&fill, array.split(4));
    require(array[999] == 1);
  }
  pool.close();
  pool.wait();
}

void chunks(const std::vector<int>& numbers) {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2, .on_worker_start = &prepare});
  const auto squares = pool.map(&square, numbers, {.chunk_size = 100});
  require(squares.size() == numbers.size());
}

void heavy() {
  brood::Pool<brood::ForkServerPolicy<Model>> pool({.workers = 1});
  require(pool.submit(&predict, 4).get() == 12);
}

void fresh() {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2, .tasks_per_worker = 1});
  require(pool.submit(&square, 3).get() == 9);
}

void spawned() {
  brood::Pool<brood::SpawnPolicy> pool({.workers = 2});
  require(pool.submit(&square, 3).get() == 9);
}

void process() {
  auto process = brood::async<brood::ForkServerPolicy<>>(&work, "bob");
  process.wait();
}

void completed(const std::vector<std::string>& texts) {
  brood::Pool<brood::ForkServerPolicy<>> pool;
  //! [try_stream_unordered]
  for (const auto& parsed : pool.try_stream_unordered(&parse, texts))
    std::cout << (parsed ? std::to_string(*parsed) : parsed.failure().message()) << '\n';
  //! [try_stream_unordered]
}

void several(const std::vector<std::string>& names) {
  std::vector<brood::Future<void>> processes;
  for (const auto& name : names) processes.push_back(brood::async<brood::ForkServerPolicy<>>(&work, name));
  brood::when_all(processes).wait();
}

void talk() {
  auto [mine, theirs] = brood::channel<std::string>();
  auto process = brood::async<brood::ForkServerPolicy<>>(&answer, std::move(theirs));
  mine.send("hello");
  std::cout << *mine.receive() << '\n';
  mine.close();
  process.get();
}

void raise_together() {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2});
  brood::SharedArray<int> counter(1);
  pool.map(&count_up, std::vector(10, counter));
  require(counter[0] == 10);
}

void ended() {
  auto process = brood::async<brood::ForkServerPolicy<>>(&crash);
  std::cout << process.outcome().failure().signal() << '\n';  // 11; message() says where it crashed
}

void the_same(const std::vector<int>& xs) {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2});
  const auto cubes = pool.map(&power, xs | std::views::transform([](int x) { return std::pair(x, 3); }));
  require(cubes.back() == 27);
}

void locked() {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 4});
  const brood::Fd lock(::memfd_create("lock", MFD_CLOEXEC));
  for (int n = 0; n < 10; ++n) pool.submit(&say, lock, n);
  pool.wait();
  // while one has it, another waits
  auto [mine, theirs] = brood::channel<void, int>();
  const auto holds = pool.submit(&hold, lock, std::move(theirs));
  require(mine.receive() == 1);
  const auto waits = pool.submit(&say, lock, 10);
  require(!waits.wait_for(50ms));
  require(holds.wait_for(10s));
  waits.get();
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  calls();
  chunks({1, 2, 3});
  heavy();
  fresh();
  spawned();
  process();
  completed({"1", "x"});
  several({"bob", "eve"});
  talk();
  raise_together();
  ended();
  the_same({1, 2, 3});
  locked();
}
