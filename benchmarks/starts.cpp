// SPDX-License-Identifier: MIT
// What a fresh worker costs: from the request to its first result, by how much memory the host has; one worker for each
// task; with something heavy to build; and what an idle one keeps.
#include <spawn.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

#include "harness.hpp"
#include "raw.hpp"

namespace {

using namespace bench;

/// What the workers of `one_task_each` have from the server: 16 MiB, touched.
struct Table {
  std::vector<char> bytes = std::vector<char>(std::size_t{16} << 20, 1);
};

/// Takes 200 ms to build.
struct Heavy {
  Heavy() {
    const auto start = Clock::now();
    while (Clock::now() - start < std::chrono::milliseconds(200)) {}
  }
};

template <class Policy>
void until_no_worker(const brood::Pool<Policy>& pool) {
  while (!pool.stats().workers.empty()) std::this_thread::sleep_for(std::chrono::microseconds(200));
}

/// From the request to the first result of a fresh worker, when the one before it is gone.
template <class Policy, class Task>
double first_result(brood::Pool<Policy>& pool, Task task) {
  until_no_worker(pool);
  return timed([&] { pool.submit(task).get(); });
}

// ---- by the memory of the host ------------------------------------------------------------------------------------------

double raw_fork() {
  int ends[2];
  must(::pipe2(ends, O_CLOEXEC) == 0, "pipe2");
  pid_t pid = 0;
  char byte = 0;
  const double ns = timed([&] {
    pid = ::fork();
    if (pid == 0) {
      static_cast<void>(!::write(ends[1], &byte, 1));
      ::_exit(0);
    }
    must(::read(ends[0], &byte, 1) == 1, "read");
  });
  ::close(ends[0]);
  ::close(ends[1]);
  ::waitpid(pid, nullptr, 0);
  return ns;
}

/// posix_spawn is vfork and exec. The image is this program, which answers at the top of main.
double raw_vfork_exec() {
  int ends[2];
  must(::pipe2(ends, O_CLOEXEC) == 0, "pipe2");
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  char name[] = "raw-child";
  char option[] = "--raw-child";
  char* arguments[] = {name, option, nullptr};
  pid_t pid = 0;
  char byte = 0;
  const double ns = timed([&] {
    must(::posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, arguments, environ) == 0, "posix_spawn");
    must(::read(ends[0], &byte, 1) == 1, "read");
  });
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[0]);
  ::close(ends[1]);
  ::waitpid(pid, nullptr, 0);
  return ns;
}

double raw_fork_server(const RawForkServer& server) {
  std::optional<RawWorker> worker;
  const double ns = timed([&] {
    worker.emplace(server.start(true));
    worker->answer();
  });
  worker.reset();
  server.wait_for_answer();
  return ns;
}

brood::PoolOptions with_spare(brood::PoolOptions options) {
  options.spares = 1;
  return options;
}

/// From the request to the first result of a worker that was up before it was asked for.
template <class Pool>
double first_result_of_spare(Pool& pool) {
  while (pool.stats().spares == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  return timed([&] { pool.submit([] {}).get(); });
}

/// The contestants of `start` within one host, by name.
class Starter {
 public:
  double operator()(std::string_view name) {
    if (name == "fork") return raw_fork();
    if (name == "vfork+exec") return raw_vfork_exec();
    if (name == "fork-server") return raw_fork_server(raw_server_);
    if (name == "ForkPolicy") return first_result(fork_, [] {});
    if (name == "SpawnPolicy") return first_result(spawn_, [] {});
    if (name == "ForkServerPolicy") return first_result(server_, [] {});
    if (name == "spare") return first_result_of_spare(spare_);
    throw std::runtime_error("no such contestant");
  }

 private:
  static brood::PoolOptions options() {
    brood::PoolOptions options;
    options.workers = 1;
    options.tasks_per_worker = 1;
    return options;
  }

  RawForkServer raw_server_;
  brood::Pool<brood::ForkPolicy> fork_{options()};
  brood::Pool<brood::SpawnPolicy> spawn_{options()};
  brood::Pool<brood::ForkServerPolicy<>> server_{options()};
  brood::Pool<brood::ForkServerPolicy<>> spare_{with_spare(options())};
};

/// This program as a host with so much memory: a peer that is told the contestant and a number.
int be_host(std::size_t mib) {
  const std::size_t size = mib << 20;
  void* const memory = std::malloc(size + 1);
  if (memory == nullptr) {
    std::puts("missing not enough memory");
    return 0;
  }
  std::memset(memory, 1, size + 1);
  use(memory);
  Starter start;
  std::printf("ready\n");
  std::fflush(stdout);
  std::string name;
  for (int count = 0; std::cin >> name >> count;) {
    for (int n = 0; n < count; ++n) std::cout << start(name) << ' ';
    std::cout << std::endl;
  }
  std::free(memory);
  return 0;
}

void start(Row& row, Size size) {
  struct Variant {
    Kind kind;
    const char* title;
    const char* name;
  };
  const Variant variants[] = {{Kind::limit, "raw fork", "fork"},
                              {Kind::limit, "raw fork server", "fork-server"},
                              {Kind::limit, "raw vfork+exec", "vfork+exec"},
                              {Kind::brood, "ForkServerPolicy", "ForkServerPolicy"},
                              {Kind::brood, "ForkServerPolicy, a spare", "spare"},
                              {Kind::brood, "SpawnPolicy", "SpawnPolicy"},
                              {Kind::brood, "ForkPolicy", "ForkPolicy"}};
  std::vector<int> levels{0, 256, 1024, 4096};
  if (size != Size::full) levels = {0, 1024};
  if (size == Size::smoke) levels = {0};
  std::map<int, std::shared_ptr<Peer>> hosts;
  for (const int mib : levels) {
    auto host = std::make_shared<Peer>(std::vector<std::string>{"/proc/self/exe", "--host", std::to_string(mib)});
    must(host->trouble().empty(), host->trouble().c_str());
    hosts[mib] = host;
  }
  for (const Variant& each : variants) {
    for (const int mib : levels) {
      const bool slow = mib >= 1024 && std::string_view(each.title).find("ork") != std::string::npos &&
                        std::string_view(each.title).find("erver") == std::string::npos;
      const std::string request = std::string(each.name) + ' ' + std::to_string(slow ? 2 : 8);
      row.add(each.kind, each.title, [host = hosts[mib], request] {
        Samples samples = host->round(request);
        for (double& sample : samples) sample = to_ms(sample);
        return samples;
      }, mib);
    }
  }
  for (const char* method : {"fork", "spawn", "forkserver"}) {
    row.peer(std::string("multiprocessing.Process, ") + method,
             {python, peer_script("multiprocessing_pool"), method, "start"}, "2", to_ms);
  }
  row.run(pick(size, 1, 5, 15));
  row.mark_ratio("ForkServerPolicy against a raw fork server", "ForkServerPolicy", "raw fork server", true, 1.3);
  row.mark_ratio("ForkServerPolicy with a spare against one without", "ForkServerPolicy, a spare", "ForkServerPolicy", true, 0.25);
  for (const int mib : levels) {
    if (mib == 0) continue;
    row.mark_ratio("ForkServerPolicy, a host of " + std::to_string(mib) + " MiB against an empty one", "ForkServerPolicy",
                   "ForkServerPolicy", true, 1.2, mib, 0);
  }
}

// ---- one worker for each task -------------------------------------------------------------------------------------------

/// How many processes in a second can be forked, ended and waited for, so many at a time. Measured in a process that has
/// the same as brood's server.
class ForkRate {
 public:
  explicit ForkRate(int in_flight)
      : child_([in_flight](int in, int out) {
          static const Table table;
          use(table.bytes.data());
          for (int count = 0; read_all(in, &count, sizeof count);) {
            const double ns = timed([&] {
              for (int begun = 0, ended = 0; ended < count;) {
                if (begun < count && begun - ended < in_flight) {
                  if (::fork() == 0) ::_exit(0);
                  ++begun;
                } else {
                  ::waitpid(-1, nullptr, 0);
                  ++ended;
                }
              }
            });
            write_all(out, &ns, sizeof ns);
          }
        }) {}
  double measure(int count) const {
    double ns = 0;
    must(write_all(child_.out, &count, sizeof count) && read_all(child_.in, &ns, sizeof ns), "a pipe");
    return count * 1e9 / ns;
  }

 private:
  Child child_;
};

void one_task_each(Row& row, Size size) {
  const int tasks = pick(size, 4, 100, 200);
  const ForkRate one(1);
  const ForkRate two(2);
  row.limit("raw fork, exit, wait, 2 in flight", [&] { return Samples{two.measure(tasks)}; });
  row.limit("raw fork, exit, wait, 1 in flight", [&] { return Samples{one.measure(tasks)}; });
  brood::Pool<brood::ForkServerPolicy<Table>> pool({.workers = 2, .tasks_per_worker = 1});
  row.brood("brood, 2 in flight", [&] {
    std::vector<brood::Future<void>> futures;
    return Samples{per_second(tasks)(timed([&] {
      for (int n = 0; n < tasks; ++n) futures.push_back(pool.submit([] {}));
      for (auto& future : futures) future.get();
    }))};
  });
  const int fewer = pick(size, 4, 40, 40);
  for (const char* method : {"fork", "forkserver"}) {
    if (size != Size::full && std::string_view(method) == "fork") continue;  // most runs of it end in a deadlock, after a while
    row.peer(std::string("multiprocessing.Pool, maxtasksperchild=1, ") + method,
             {python, peer_script("multiprocessing_pool"), method, "one_task_each"}, std::to_string(fewer), per_second(fewer));
  }
  row.run(pick(size, 1, 4, 10));
  row.mark_ratio("one task for each worker against raw fork, exit, wait", "brood, 2 in flight",
                 "raw fork, exit, wait, 2 in flight", false, 0.7);
}

// ---- with something heavy to build --------------------------------------------------------------------------------------

void preload(Row& row, Size size) {
  const auto task = [] { use(&brood::preloaded<Heavy>()); };
  brood::Pool<brood::ForkServerPolicy<Heavy>> server({.workers = 1, .tasks_per_worker = 1});
  brood::Pool<brood::SpawnPolicy> spawn({.workers = 1, .tasks_per_worker = 1});
  row.brood("ForkServerPolicy<Heavy>", [&] {
    Samples samples;
    for (int n = 0; n < 10; ++n) samples.push_back(to_ms(first_result(server, task)));
    return samples;
  });
  row.brood("SpawnPolicy", [&] { return Samples{to_ms(first_result(spawn, task))}; });
  row.run(pick(size, 1, 4, 9));
  row.mark_ratio("a Preload of 200 ms: SpawnPolicy against ForkServerPolicy", "SpawnPolicy", "ForkServerPolicy<Heavy>", false, 100);
}

// ---- what an idle worker keeps ------------------------------------------------------------------------------------------

template <class Policy>
Samples idle_kib(brood::Pool<Policy>& pool) {
  for (;;) {  // until all of them are up, and idle
    std::vector<brood::Future<void>> futures;
    for (int n = 0; n < 8; ++n) {
      futures.push_back(pool.submit([] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }));
    }
    for (auto& future : futures) future.get();
    const auto stats = pool.stats();
    if (stats.workers.size() != 8) continue;
    Samples samples;
    for (const auto& worker : stats.workers) samples.push_back(private_kib(worker.pid));
    return samples;
  }
}

void idle_memory(Row& row, Size size) {
  brood::PoolOptions options;
  options.workers = 8;
  brood::Pool<brood::ForkServerPolicy<>> server(options);
  brood::Pool<brood::SpawnPolicy> spawn(options);
  brood::Pool<brood::ForkPolicy> fork(options);
  const Child bare([](int in, int out) { echo(in, out); });
  row.limit("a forked child that reads a pipe", [&] {
    char byte = 0;
    bare.exchange(&byte, 1);
    return Samples{private_kib(bare.pid())};
  });
  row.brood("ForkServerPolicy", [&] { return idle_kib(server); });
  row.brood("ForkPolicy", [&] { return idle_kib(fork); });
  row.brood("SpawnPolicy", [&] { return idle_kib(spawn); });
  for (const char* method : {"fork", "forkserver", "spawn"}) {
    row.peer(std::string("multiprocessing.Pool, ") + method,
             {python, peer_script("multiprocessing_pool"), method, "idle_memory"}, "8", as_it_is);
  }
  row.run(pick(size, 1, 1, 2));
  row.mark_value("private memory of an idle forked worker", "ForkServerPolicy", true, 400);
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  if (argc == 2 && std::strcmp(argv[1], "--raw-child") == 0) return ::write(1, "", 1) == 1 ? 0 : 1;
  RawForkServer::serve_if_asked(argc, argv);
  if (argc == 3 && std::strcmp(argv[1], "--host") == 0) return be_host(std::strtoull(argv[2], nullptr, 10));
  return run_all(argc, argv, {
      {"start", start, "a fresh worker: request to first result, by touched memory of the host", "ms", Better::less, "MiB"},
      {"one_task_each", one_task_each, "one fresh worker for each task, with 16 MiB preloaded", "tasks/s", Better::more},
      {"preload", preload, "a fresh worker's first result where 200 ms of building come first", "ms"},
      {"idle_memory", idle_memory, "private memory of an idle worker", "KiB"},
  });
}
