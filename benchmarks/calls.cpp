// SPDX-License-Identifier: MIT
// What a call costs when the workers are up: alone, many outstanding, and as a map.
#include <future>
#include <numeric>
#include <vector>

#include <brood/brood.hpp>

#include "harness.hpp"
#include "raw.hpp"

namespace {

using namespace bench;
using Server = brood::ForkServerPolicy<>;

constexpr const char* pool_apply = "multiprocessing.Pool, fork";

std::vector<std::string> script(const std::string& name, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {python, peer_script(name)});
  return arguments;
}

template <class Call>
Samples times_us(int calls, Call call) {
  Samples samples;
  for (int n = 0; n < calls; ++n) samples.push_back(to_us(timed(call)));
  return samples;
}

// ---- one call at a time -------------------------------------------------------------------------------------------------

void run_call(Row& row, Size size, bool one_cpu) {
  const int calls = pick(size, 10, 300, 500);
  const std::string request = std::to_string(calls);
  const Child echoing([](int in, int out) { echo(in, out); });
  row.limit("two pipes", [&] {
    return times_us(calls, [&, byte = char{}]() mutable { echoing.exchange(&byte, 1); });
  });
  brood::Pool<Server> pool({.workers = 1});
  row.brood("brood", [&] { return times_us(calls, [&] { pool.submit([] {}).get(); }); });
  row.add(Kind::peer, "std::async, a thread", [&] {
    return times_us(calls, [] { std::async(std::launch::async, [] {}).get(); });
  });
  for (const char* method : {"fork", "spawn", "forkserver"}) {
    if (size != Size::full && std::string_view(method) != "fork") continue;
    row.peer(std::string("multiprocessing.Pool, ") + method, script("multiprocessing_pool", {method, "call"}), request, to_us);
    row.peer(std::string("ProcessPoolExecutor, ") + method, script("executor", {method, "call"}), request, to_us);
  }
  row.peer("joblib's loky", script("loky_executor", {"call"}), request, to_us);
  row.peer("Boost.Interprocess, message_queue", {peer_program("boost_queue"), "call"}, request, to_us);
  row.peer("ZeroMQ, REQ/REP over ipc", {peer_program("zeromq"), "call"}, request, to_us);
  if (!one_cpu) {  // it waits busily: two of its processes on one CPU would wait for each other's time slices
    row.peer("Open MPI, send and receive", {peer_program("open_mpi.sh"), "call"}, request, to_us);
  }
  row.run(pick(size, 1, 6, 20));
  const std::string where = one_cpu ? ", on one CPU" : "";
  row.mark_ratio("submit(noop).get() against two pipes" + where, "brood", "two pipes", true, 1.5);
  row.mark_ratio("Pool.apply against submit(noop).get()" + where, pool_apply, "brood", false, 10);
}

void call(Row& row, Size size) { run_call(row, size, false); }

void call_one_cpu(Row& row, Size size) {
  const OneCpu pinned;
  run_call(row, size, true);
}

// ---- many outstanding ---------------------------------------------------------------------------------------------------

/// Two children that write one answer for each request of 8 bytes, before they look at the next one; requests and answers
/// are carried in bulk.
void exchange_in_bulk(const Child (&children)[2], std::size_t requests) {
  constexpr std::size_t each = 4'000;  // fits a pipe twice
  static std::uint64_t buffer[each];
  for (std::size_t sent = 0; sent < requests; sent += 2 * each) {
    for (const Child& child : children) must(write_all(child.out, buffer, sizeof buffer), "write");
    for (const Child& child : children) must(read_all(child.in, buffer, sizeof buffer), "read");
  }
}

void outstanding(Row& row, Size size) {
  const int tasks = pick(size, 100, 20'000, 20'000);
  const std::string request = std::to_string(tasks);
  const Convert rate = per_second(tasks);
  const Child children[2] = {Child([](int in, int out) { echo(in, out, 8); }), Child([](int in, int out) { echo(in, out, 8); })};
  row.limit("two pipes for each worker, one write for each task", [&] {
    constexpr std::size_t requests = 24'000;
    return Samples{per_second(requests)(timed([&] { exchange_in_bulk(children, requests); }))};
  });
  brood::Pool<Server> pool({.workers = 2});
  row.brood("brood", [&] {
    std::vector<brood::Future<void>> futures;
    futures.reserve(static_cast<std::size_t>(tasks));
    return Samples{rate(timed([&] {
      for (int n = 0; n < tasks; ++n) futures.push_back(pool.submit([] {}));
      for (auto& future : futures) future.get();
    }))};
  });
  row.add(Kind::peer, "std::async, a thread for each", [&] {
    std::vector<std::future<void>> futures;
    futures.reserve(static_cast<std::size_t>(tasks));
    return Samples{rate(timed([&] {
      for (int n = 0; n < tasks; ++n) futures.push_back(std::async(std::launch::async, [] {}));
      for (auto& future : futures) future.get();
    }))};
  });
  row.peer("multiprocessing.Pool, fork", script("multiprocessing_pool", {"fork", "outstanding"}), request, rate);
  const int fewer = tasks / 4;  // these are slow, and no faster with more
  row.peer("ProcessPoolExecutor, fork, 5,000", script("executor", {"fork", "outstanding"}), std::to_string(fewer),
           per_second(fewer));
  row.peer("joblib's loky, 5,000", script("loky_executor", {"outstanding"}), std::to_string(fewer), per_second(fewer));
  row.run(pick(size, 1, 3, 5));
  row.mark_value("20,000 outstanding futures, 2 workers", "brood", false, 300'000);
  row.mark_ratio("20,000 outstanding futures against Pool.apply_async", "brood", pool_apply, false, 20);
}

// ---- map ----------------------------------------------------------------------------------------------------------------

void map(Row& row, Size size) {
  const int items = pick(size, 1'000, 1'000'000, 1'000'000);
  const std::string request = std::to_string(items);
  const Convert rate = per_second(items);
  std::vector<int> numbers(static_cast<std::size_t>(items));
  std::iota(numbers.begin(), numbers.end(), 0);
  const Child children[2] = {Child([](int in, int out) { echo(in, out); }), Child([](int in, int out) { echo(in, out); })};
  row.limit("two pipes for each worker, 32 KiB at a time", [&] {
    constexpr std::size_t step = 8'000;
    std::vector<int> results(numbers.size());
    return Samples{rate(timed([&] {
      for (std::size_t at = 0; at + 2 * step <= numbers.size(); at += 2 * step) {
        for (std::size_t n = 0; n < 2; ++n) {
          must(write_all(children[n].out, &numbers[at + n * step], step * sizeof(int)), "write");
        }
        for (std::size_t n = 0; n < 2; ++n) {
          must(read_all(children[n].in, &results[at + n * step], step * sizeof(int)), "read");
        }
      }
    }))};
  });
  brood::Pool<Server> pool({.workers = 2});
  row.brood("brood", [&] {
    std::vector<int> results;
    const double ns = timed([&] { results = pool.map([](int x) { return x; }, numbers); });
    if (results != numbers) throw std::runtime_error("map returned something else");
    return Samples{rate(ns)};
  });
  row.peer("multiprocessing.Pool, fork", script("multiprocessing_pool", {"fork", "map"}), request, rate);
  row.peer("ProcessPoolExecutor, fork, in 8 chunks", script("executor", {"fork", "map"}), request, rate);
  row.peer("joblib's loky, in 8 chunks", script("loky_executor", {"map"}), request, rate);
  row.run(pick(size, 1, 3, 9));
  row.mark_value("map of a no-op over 10^6 ints, 2 workers", "brood", false, 20e6);
  row.mark_ratio("map of a no-op over 10^6 ints against Pool.map", "brood", pool_apply, false, 7);
}

// ---- what a task says on its way ----------------------------------------------------------------------------------------

double report_ns(std::uint64_t count) {
  return timed([&] {
    for (std::uint64_t n = 1; n <= count; ++n) brood::this_task::progress(n, count);
  }) / static_cast<double>(count);
}

void progress(Row& row, Size size) {
  const std::uint64_t reports = pick<std::uint64_t>(size, 1'000, 1'000'000, 1'000'000);
  brood::Pool<Server> pool({.workers = 1});
  row.brood("brood", [&] { return Samples{pool.submit(&report_ns, reports).get()}; });
  row.run(pick(size, 1, 5, 9));
  row.mark_value("a report of progress, of 10^6", "brood", true, 20);
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  return run_all(argc, argv, {
      {"call", call, "one call to a warm worker: submit(noop).get()", "us"},
      {"call_one_cpu", call_one_cpu, "one call to a warm worker, all processes on one CPU", "us"},
      {"outstanding", outstanding, "20,000 outstanding calls of a no-op, 2 workers", "tasks/s", Better::more},
      {"map", map, "map of a no-op over 10^6 ints, 2 workers", "items/s", Better::more},
      {"progress", progress, "a task that reports its progress 10^6 times: one report", "ns"},
  });
}
