// SPDX-License-Identifier: MIT
// The examples of the public names: the headers' comments name the parts between two marks, `//! [name]`, with \snippet.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <brood/brood.hpp>
#include <brood/progress.hpp>

using namespace std::chrono_literals;

namespace {

using Pool = brood::Pool<brood::ForkServerPolicy<>>;

void require(bool condition) {
  if (!condition) std::abort();
}

int half(int n) {
  if (n % 2 != 0) throw std::domain_error("odd");
  return n / 2;
}
void doze() {
  for (;;) ::pause();
}
int crash() { return ::raise(SIGKILL); }
int fail() { throw 5; }
std::vector<double> row(int n) { return std::vector<double>(static_cast<std::size_t>(n), 1.5); }

struct Point {
  double x = 0;
  double y = 0;
};

// ---- policies

struct Model {
  explicit Model(int of = 1) : factor(of) {}
  int factor;
};
int scaled(int n) { return brood::preloaded<Model>().factor * n; }

void policies() {
  //! [ForkPolicy]
  std::vector<int> table(1000, 7);                                // the workers have it, as it is now
  brood::Pool<brood::ForkPolicy> copies({.workers = 2});
  int seven = copies.submit([&](std::size_t at) { return table[at]; }, 3).get();
  //! [ForkPolicy]
  require(seven == 7);

  //! [SpawnPolicy]
  brood::Pool<brood::SpawnPolicy> fresh({.workers = 2});
  int four = fresh.submit(&half, 8).get();
  //! [SpawnPolicy]
  require(four == 4);

  //! [ForkServerPolicy]
  brood::Pool<brood::ForkServerPolicy<Model>> pool({.workers = 2}, {brood::preload_args<Model>(5)});
  int ten = pool.submit([](int n) { return brood::preloaded<Model>().factor * n; }, 2).get();
  //! [ForkServerPolicy]
  require(ten == 10 && pool.submit(&scaled, 2).get() == 10);

  //! [PreloadStats]
  for (const brood::PreloadStats& each : pool.stats().preloads) {
    std::cout << each.type << ": " << std::chrono::duration<double>(each.time).count() << " s\n";
    for (const std::string& what : each.left_behind) std::cout << "  left behind: " << what << '\n';
  }
  //! [PreloadStats]

  //! [InlinePolicy]
  brood::Pool<brood::InlinePolicy> here;
  int three = here.submit(&half, 6).get();                        // called by submit, in this process
  //! [InlinePolicy]
  require(three == 3);

  //! [SharedLibrary]
  using Math = brood::SharedLibrary<"libm.so.6">;
  brood::Pool<brood::ForkServerPolicy<Math>> opened({.workers = 1});
  double one = opened.submit([] { return brood::preloaded<Math>().symbol<double(double)>("cos")(0); }).get();
  //! [SharedLibrary]
  require(one == 1);
}

//! [WorkerPolicy]
struct Logged {
  static constexpr std::string_view name = "Logged";
  std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions& options) const {
    std::clog << options.name << ": a server starts\n";
    return brood::launch_by_exec<Logged>(options);        // or launch_by_fork, or a WorkerSource of your own
  }
  static pid_t start_worker(brood::Server& server, brood::WorkerChannel& channel) { return brood::start_by_fork(server, channel); }
};
static_assert(brood::WorkerPolicy<Logged> && !brood::CopiesHost<Logged> && !brood::RunsInline<Logged>);
//! [WorkerPolicy]

void own_policy() {
  brood::Pool<Logged> pool({.workers = 1});
  require(pool.submit(&half, 8).get() == 4);
}

// ---- calls

void calls(Pool& pool) {
  //! [submit]
  brood::Future<int> future = pool.submit(&half, 8);              // a function and its arguments
  auto text = pool.submit([](std::string s, int n) { return s.substr(0, static_cast<std::size_t>(n)); }, "hello", 2);
  std::cout << future.get() << text.get() << '\n';                // 4he
  //! [submit]

  //! [TaskOptions]
  auto urgent = pool.submit({.timeout = 2s, .retries = 1, .priority = 10, .limits = {.cpu_time = 5s}}, &half, 8);
  //! [TaskOptions]
  require(urgent.get() == 4);

  //! [submit_into]
  std::vector<double> matrix(200);
  std::size_t written = pool.submit_into(std::span(matrix).first(100), &row, 100).get();   // behind it: as it was
  //! [submit_into]
  require(written == 100 && matrix[99] == 1.5 && matrix[100] == 0);

  //! [map]
  std::vector<int> halves = pool.map(&half, std::vector{2, 4, 6});                // 1, 2, 3
  //! [map]
  require(halves.at(2) == 3);

  //! [MapOptions]
  pool.map(&half, std::vector{2, 4}, {.chunk_size = 1, .timeout = 1s, .retries = 1, .progress = brood::progress_line("halves")});
  //! [MapOptions]

  //! [try_map]
  for (const brood::Outcome<int>& outcome : pool.try_map(&half, std::vector{2, 3}))
    std::cout << (outcome ? std::to_string(*outcome) : outcome.failure().message()) << '\n';
  //! [try_map]

  //! [Outcome]
  brood::Outcome<int> outcome = pool.submit(&half, 3).outcome();
  if (!outcome) std::cout << outcome.failure().message() << '\n';  // "... threw std::domain_error: odd"
  int value = outcome ? outcome.value() : 0;
  //! [Outcome]
  require(value == 0);

  //! [Outcome void]
  brood::Outcome<void> done = pool.submit([] { std::cout << "in a worker\n"; }).outcome();
  if (!done) done.failure().raise();
  //! [Outcome void]

  //! [FailureKind]
  if (outcome.failure().kind() == brood::FailureKind::exception) std::cout << "it is the task's own fault\n";
  //! [FailureKind]

  //! [stream]
  for (int each : pool.stream(&half, std::views::iota(0) | std::views::transform([](int n) { return 2 * n; }), {.in_flight = 64}))
    if (each == 100) break;                                       // an endless input; what is in flight is cancelled
  //! [stream]

  //! [Stream]
  auto results = pool.stream_unordered(&half, std::vector{2, 4, 6});
  for (int each : results) std::cout << results.index() << ": " << each << '\n';  // in any order; the item's number
  //! [Stream]

  //! [try_stream]
  for (auto& each : pool.try_stream(&half, std::vector{2, 3, 4}))
    if (!each) std::cout << each.failure().message() << '\n';     // of the second; the third comes all the same
  //! [try_stream]

  //! [Pool::first_of]
  int first = pool.first_of(&half, std::vector{3, 4, 6}).get();   // 2 or 3: the first that succeeds
  //! [Pool::first_of]
  require(first == 2 || first == 3);

  //! [async]
  brood::Future<int> alone = brood::async<brood::SpawnPolicy>(&half, 10);         // a process for this call only
  std::cout << alone.get() << '\n';
  //! [async]

  //! [stats]
  const brood::PoolStats stats = pool.stats();
  std::cout << stats.done << " done, " << stats.queued << " wait, busy " << 100 * stats.busy_share() << " %\n";
  for (const brood::WorkerStats& worker : stats.workers)
    if (worker.state == brood::WorkerState::busy) std::cout << worker.pid << " runs " << worker.callable << '\n';
  if (stats.state == brood::PoolState::broken) std::cout << stats.cause << '\n';
  //! [stats]
  require(stats.failed >= 2);
}

void futures(Pool& pool) {
  //! [Future]
  brood::Future<int> future = pool.submit(&half, 8);
  while (!future.wait_for(100ms)) std::cout << "task " << future.id() << " is not done\n";
  std::cout << future.get() << '\n';                              // 4; get() && moves a large value out
  //! [Future]

  //! [cancel]
  brood::Future<void> forever = pool.submit(&doze);
  forever.cancel();                                               // its worker is killed, if it has started
  //! [cancel]
  require(!forever.outcome());

  //! [TaskId]
  brood::TaskId number = pool.submit(&half, 8).id();              // as in messages: "task 7 (half(int), ..."
  //! [TaskId]
  require(number > 1);

  //! [Future::progress]
  auto counting = pool.submit([] {
    for (std::uint64_t n = 1; n <= 1000; ++n) brood::this_task::progress(n, 1000);
  });
  std::cout << 100 * counting.progress().share() << " % done\n";  // just now
  //! [Future::progress]
  counting.get();
  require(counting.progress() == brood::TaskProgress{1000, 1000});
}

//! [co_await]
brood::Future<int> quarter(Pool& pool, int n) {     // a coroutine: it runs in the host
  int once = co_await pool.submit(&half, n);        // suspended meanwhile; throws what the task threw
  co_return co_await pool.submit(&half, once);
}
//! [co_await]

void ends() {
  //! [PoolOptions]
  brood::Pool<brood::ForkServerPolicy<>> pool({
      .workers = 4,
      .tasks_per_worker = 1000,
      .memory_per_worker = std::uint64_t{1} << 30,
      .task_timeout = 10s,
      .spares = 1,
      .name = "halves",
  });
  //! [PoolOptions]

  //! [wait]
  for (int n = 0; n < 100; n += 2) pool.submit(&half, n);
  pool.close();                                                   // submit throws PoolClosed from now on
  pool.wait(brood::progress_line("halves"));                      // or pool.wait()
  //! [wait]

  //! [PoolClosed]
  try {
    pool.submit(&half, 8);
  } catch (const brood::PoolClosed& error) {
    std::cout << error.what() << '\n';
  }
  //! [PoolClosed]

  Pool other({.workers = 1});
  auto task = other.submit(&doze);
  //! [kill]
  other.cancel_pending();                                         // what has not started never will
  other.kill();                                                   // what runs is killed; its futures: TaskCancelled
  //! [kill]
  require(!task.outcome());
}

void event_loop() {
  //! [poll]
  Pool pool({.helper_thread = false});
  auto future = pool.submit(&half, 8).then([](int four) { std::cout << four << '\n'; });
  while (!future.ready()) {                                       // your loop: epoll, asio, libuv, ...
    pollfd watched{pool.descriptor(), POLLIN, 0};
    if (::poll(&watched, 1, -1) > 0) pool.poll();
  }
  //! [poll]
}

// ---- workers

//! [this_worker]
std::string who() {
  return "task " + std::to_string(brood::this_task::id()) + " in worker " + std::to_string(brood::this_worker::index()) +
         ", process " + std::to_string(brood::this_worker::pid());
}
//! [this_worker]

void greet(std::string_view) {}
void greet_by_name(const std::string& name) { greet(name); }

void workers() {
  //! [worker_hook]
  Pool pool({.workers = 2, .on_worker_start = brood::worker_hook(&greet_by_name, "Ana"), .on_worker_stop = [] { greet("bye"); }});
  //! [worker_hook]
  require(pool.submit(&who).get().starts_with("task 1 in worker "));

  //! [random_engine]
  Pool seeded({.seed = 42});
  auto dice = seeded.map([](int) { return brood::this_worker::random_engine()() % 6 + 1; }, std::views::iota(0, 10));
  //! [random_engine]

  //! [RandomEngine]
  brood::RandomEngine of_item_3(42, 0, 3);                        // that of item 3 of the pool's first call
  bool same = of_item_3() % 6 + 1 == dice[3];
  std::array deck{1, 2, 3, 4};
  std::shuffle(deck.begin(), deck.end(), of_item_3);
  //! [RandomEngine]
  require(same);

  //! [Limits]
  Pool bounded({.limits = {.address_space = std::uint64_t{8} << 30, .cpu_time = 60s, .open_files = 256, .core_size = 0, .nice = 5}});
  //! [Limits]

  //! [Output]
  Pool quiet({.output = brood::Output::capture});
  auto future = quiet.submit([] { std::cout << "to the host's memory\n"; });
  std::string said = future.output();
  //! [Output]
  require(said == "to the host's memory\n");

  //! [LogHook]
  Pool logged({.log = [](brood::LogLevel level, std::string_view text) {
    if (level >= brood::LogLevel::warning) std::clog << text << '\n';
  }});
  //! [LogHook]
  require(!logged.submit(&crash).outcome());
}

// ---- what goes wrong

void failures(Pool& pool) {
  //! [Error]
  try {
    pool.submit(&crash).get();
  } catch (const brood::Error& error) {                           // whatever brood says; not what a task threw
    std::cout << error.what() << '\n';
  }
  //! [Error]

  //! [FromTask]
  try {
    pool.submit(&half, 3).get();
  } catch (const std::exception& error) {
    if (auto* from = dynamic_cast<const brood::FromTask*>(&error)) std::cout << error.what() << ", in worker " << from->pid() << '\n';
  }
  //! [FromTask]

  //! [TaskError]
  try {
    pool.submit(&fail).get();
  } catch (const brood::TaskError& error) {
    std::cout << "it threw something of type " << error.type() << '\n';           // int
  }
  //! [TaskError]

  //! [WorkerDied]
  try {
    pool.submit(&crash).get();
  } catch (const brood::WorkerDied& death) {
    std::cout << "worker " << death.pid() << ' ' << death.status().describe() << '\n';   // was killed by signal 9 (SIGKILL, ...
    if (death.out_of_memory()) std::cout << "at " << death.peak_rss_kib() << " KiB\n";
  }
  //! [WorkerDied]

  //! [ExitStatus]
  brood::ExitStatus end = pool.submit([] { ::_exit(3); }).outcome().failure().status();
  if (end.exited()) std::cout << "code " << end.code() << '\n';   // 3
  if (end.signaled()) std::cout << "signal " << end.signal() << '\n';
  //! [ExitStatus]
  require(end.code() == 3);

  //! [TaskTimeout]
  try {
    pool.submit({.timeout = 50ms}, &doze).get();
  } catch (const brood::TaskTimeout& error) {                     // it does not run any more
    std::cout << error.what() << '\n';
  }
  //! [TaskTimeout]

  //! [TaskCancelled]
  auto future = pool.submit(&doze);
  future.cancel();
  try {
    future.get();
  } catch (const brood::TaskCancelled&) {
    std::cout << "given up\n";
  }
  //! [TaskCancelled]

  //! [MessageTooLarge]
  Pool small({.max_message_bytes = 1000});
  try {
    small.submit(&row, 1000).get();                               // its result has 8000 bytes
  } catch (const brood::MessageTooLarge& error) {
    std::cout << error.what() << '\n';
  }
  //! [MessageTooLarge]

  //! [QueueFull]
  Pool bounded({.workers = 1, .max_pending_bytes = 1000});
  try {
    for (;;) bounded.submit(&half, 8);
  } catch (const brood::QueueFull&) {
    bounded.wait();                                               // then go on
  }
  //! [QueueFull]

  //! [LaunchError]
  try {
    Pool nowhere({.working_directory = "/no/such/place"});
  } catch (const brood::PreloadError& error) {                    // the constructor of a Preload
    std::cout << error.preload() << ": " << error.what() << '\n';
  } catch (const brood::InitMissing& error) {                     // main does not begin with brood::init
    std::cout << error.what() << '\n';
  } catch (const brood::HostIsThreaded& error) {                  // ForkPolicy only
    std::cout << error.what() << '\n';
  } catch (const brood::ImageMismatch& error) {                   // a plugin and the program have different versions of brood
    std::cout << error.what() << '\n';
  } catch (const brood::LaunchError& error) {                     // this one: stage() is "chdir", error() is ENOENT
    std::cout << error.what() << '\n';
  }
  //! [LaunchError]

  //! [ProtocolError]
  try {
    pool.submit(&half, 8).get();
  } catch (const brood::ProtocolError& error) {                   // the task wrote to the library's descriptors, or memory
    std::cout << error.what() << '\n';
  }
  //! [ProtocolError]

  //! [SerializationError]
  try {
    pool.submit([](brood::Fd file) { return file.get(); }, brood::Fd(1'000'000)).get();  // no such descriptor
  } catch (const brood::SerializationError& error) {
    std::cout << error.what() << '\n';                            // "argument 1 of ..."
  }
  //! [SerializationError]

  //! [WrongProcess]
  brood::Pool<brood::ForkPolicy> copies({.workers = 1});
  auto outcome = copies.submit([&] { return pool.submit(&half, 8).get(); }).outcome();   // in a copy of the host: it has no workers
  if (!outcome) std::cout << outcome.failure().message() << '\n';
  //! [WrongProcess]
  require(!outcome);
}

// ---- channels, descriptors, shared memory

void count_up(brood::Sender<int> out) {
  for (int n = 0; n < 3; ++n) out.send(n);
}
void shout(brood::Channel<std::string, std::string> host) {
  while (auto text = host.receive()) host.send(*text + "!");
}

void channels(Pool& pool) {
  //! [Sender]
  auto [mine, theirs] = brood::channel<void, int>();              // a Receiver<int>, and a Sender<int> for the task:
  pool.submit(&count_up, std::move(theirs));                      // void count_up(brood::Sender<int> out)
  for (int number : mine) std::cout << number << '\n';            // ends when the task closes its end, returns, or dies
  //! [Sender]

  //! [Channel::receive]
  auto [near, far] = brood::channel<std::string, std::string>({.capacity = 64 << 10});
  auto task = pool.submit(&shout, std::move(far));
  near.send("hey");
  if (auto answer = near.receive_for(10s)) std::cout << *answer << '\n';          // hey!
  near.close();                                                   // the task's receive() returns nothing now
  //! [Channel::receive]
  task.get();

  //! [ChannelClosed]
  try {
    near.send("too late");
  } catch (const brood::ChannelClosed& error) {
    std::cout << error.what() << '\n';
  }
  //! [ChannelClosed]

  //! [ChannelDeadlock]
  brood::Pool<brood::InlinePolicy> here;
  auto [waits, in_vain] = brood::channel<std::string, std::string>();
  auto outcome = here.submit(&shout, std::move(in_vain)).outcome();   // inside of submit nobody sends to it
  if (!outcome) std::cout << outcome.failure().message() << '\n';     // ChannelDeadlock
  //! [ChannelDeadlock]
  require(!outcome && waits);

  //! [Fd]
  int ends[2];
  if (::pipe(ends) != 0) return;
  brood::Fd out(ends[0]);
  brood::Fd in(ends[1]);
  pool.submit([](brood::Fd pipe) { return ::write(pipe.get(), "x", 1); }, std::move(in)).get();
  char byte = 0;
  if (::read(out.get(), &byte, 1) == 1) std::cout << byte << '\n';    // x
  //! [Fd]
  require(byte == 'x');
}

void shared(Pool& pool) {
  //! [SharedArray]
  brood::SharedArray<double> array(1'000'000);                    // zeros
  pool.map([](brood::SharedArray<double> part) { std::ranges::fill(part, 2.0); }, array.split(4));   // in place
  std::cout << array[999'999] << '\n';                            // 2
  //! [SharedArray]
  require(array.back() == 2);

  //! [freeze]
  brood::SharedArray<const double> frozen = std::move(array).freeze();
  double third = pool.submit([](brood::SharedArray<const double> all) { return all.at(2); }, frozen).get();
  //! [freeze]
  require(third == 2);

  //! [SharedMemoryError]
  brood::SharedArray<int> one(8);
  brood::SharedArray<int> other = one;                            // the same memory
  try {
    static_cast<void>(std::move(one).freeze());                   // other could still write to it
  } catch (const brood::SharedMemoryError& error) {
    std::cout << error.what() << '\n';
  }
  //! [SharedMemoryError]

  //! [Serializable]
  static_assert(brood::Serializable<std::vector<Point>>);         // an aggregate: member by member
  static_assert(!brood::Serializable<int*>);
  //! [Serializable]

  //! [Shareable]
  static_assert(brood::Shareable<Point>);                         // SharedArray<Point> is possible
  static_assert(!brood::Shareable<std::string>);                  // it points to its text
  //! [Shareable]

  //! [version]
  static_assert(brood::version_major == 0, "made for another brood");
  std::cout << brood::version_major << '.' << brood::version_minor << '.' << brood::version_patch << '\n';
  //! [version]
}

}  // namespace

//! [init]
int main(int argc, char** argv) {
  brood::init(argc, argv);      // first line: servers and workers go no further
  Pool pool;
  //! [init]
  policies();
  own_policy();
  calls(pool);
  futures(pool);
  require(quarter(pool, 8).get() == 2);
  ends();
  event_loop();
  workers();
  failures(pool);
  channels(pool);
  shared(pool);
}
