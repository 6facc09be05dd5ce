// SPDX-License-Identifier: MIT
// What a large std::vector<double> costs as a result and as an argument, by its size, beside one memcpy.
#include <sys/uio.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include <brood/brood.hpp>

#include "harness.hpp"
#include "raw.hpp"

namespace {

using namespace bench;
using Values = std::vector<double>;

constexpr std::size_t mib = std::size_t{1} << 20;

/// What the workers hold from one task to the next, so that a result need not be made while it is timed.
Values held;
void hold(std::size_t size) { held.assign(size / sizeof(double), 1.0); }
Values give() { return std::move(held); }
double take(const Values& values) { return values.front() + values.back(); }

double rate(std::size_t size, double ns) { return static_cast<double>(size) / ns / 1.073741824; }  // GiB/s

std::vector<std::size_t> sizes_of(Size size) {
  if (size == Size::smoke) return {64 << 10, mib};
  if (size == Size::quick) return {64 << 10, mib, 64 * mib};
  return {4 << 10, 64 << 10, mib, 8 * mib, 64 * mib, 256 * mib};
}

/// What has memory that `size` bytes are copied from. Peers and children that were forked before it have none of it.
struct Limits {
  explicit Limits(std::size_t largest)
      : source(largest / sizeof(double), 1.0),
        warm(largest / sizeof(double), 1.0),
        writer([this](int in, int out) {
          ::fcntl(out, F_SETPIPE_SZ, 1 << 20);
          for (std::size_t size = 0; read_all(in, &size, sizeof size);) write_all(out, source.data(), size);
        }) {}

  double memcpy_fresh(std::size_t size) const {
    std::unique_ptr<FreshMemory> fresh;
    return timed([&] {
      fresh = std::make_unique<FreshMemory>(size);
      std::memcpy(fresh->data(), source.data(), size);
      use(fresh->data());
    });
  }
  double memcpy_warm(std::size_t size) {
    return timed([&] {
      std::memcpy(warm.data(), source.data(), size);
      use(warm.data());
    });
  }
  double read_from_process(std::size_t size) {
    std::unique_ptr<FreshMemory> fresh;
    return timed([&] {
      fresh = std::make_unique<FreshMemory>(size);
      iovec to{fresh->data(), size};
      iovec from{source.data(), size};  // the child has it at the same place
      must(::process_vm_readv(writer.pid(), &to, 1, &from, 1, 0) == static_cast<ssize_t>(size), "process_vm_readv");
    });
  }
  double read_from_pipe(std::size_t size) const {
    std::unique_ptr<FreshMemory> fresh;
    return timed([&] {
      fresh = std::make_unique<FreshMemory>(size);
      must(write_all(writer.out, &size, sizeof size) && read_all(writer.in, fresh->data(), size), "a pipe");
    });
  }

  Values source;
  Values warm;
  Child writer;
};

void run_payload(Row& row, Size size, bool result) {
  const auto sizes = sizes_of(size);
  const std::size_t judged = size == Size::smoke ? mib : 64 * mib;
  Limits limits(sizes.back());
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  for (const std::size_t bytes : sizes) {
    const auto x = static_cast<double>(bytes);
    const int repeats = bytes <= mib ? 10 : bytes <= 8 * mib ? 4 : 1;
    const auto add = [&](Kind kind, const char* name, std::function<double()> once) {
      row.add(kind, name, [=] {
        Samples samples;
        for (int n = 0; n < repeats; ++n) samples.push_back(rate(bytes, once()));
        return samples;
      }, x);
    };
    add(Kind::limit, "memcpy, fresh memory", [&limits, bytes] { return limits.memcpy_fresh(bytes); });
    add(Kind::limit, "memcpy, warm memory", [&limits, bytes] { return limits.memcpy_warm(bytes); });
    add(Kind::limit, "process_vm_readv", [&limits, bytes] { return limits.read_from_process(bytes); });
    add(Kind::limit, "pipe of 1 MiB", [&limits, bytes] { return limits.read_from_pipe(bytes); });
    if (result) {
      add(Kind::brood, "brood", [&pool, bytes] {
        pool.submit(hold, bytes).get();
        Values values;
        const double ns = timed([&] { values = pool.submit(give).get(); });
        if (values.size() * sizeof(double) != bytes) throw std::runtime_error("another result");
        return ns;
      });
    } else {
      add(Kind::brood, "brood", [&pool, bytes] {
        Values values(bytes / sizeof(double), 1.0);
        double sum = 0;
        const double ns = timed([&] { sum = pool.submit(take, std::move(values)).get(); });
        if (sum != 2.0) throw std::runtime_error("another argument");
        return ns;
      });
    }
    if (bytes < mib) continue;
    const std::string mode = result ? "result" : "argument";
    const std::string request = std::to_string(bytes);
    const Convert convert = [bytes](double ns) { return rate(bytes, ns); };
    row.peer("multiprocessing.Pool, fork, numpy", {python, peer_script("multiprocessing_pool"), "fork", mode}, request, convert, x);
    row.peer("ZeroMQ, REQ/REP over ipc", {peer_program("zeromq"), mode}, request, convert, x);
    row.peer("Open MPI, send and receive", {peer_program("open_mpi.sh"), mode}, request, convert, x);
  }
  row.run(pick(size, 1, 3, 7));
  const std::string what = with_unit(static_cast<double>(judged), "bytes") + (result ? " as a result" : " as an argument");
  row.mark_ratio(what + " against memcpy into fresh memory", "brood", "memcpy, fresh memory", false, 0.6,
                 static_cast<double>(judged));
  row.mark_ratio(what + " against CPython", "brood", "multiprocessing.Pool, fork, numpy", false, 5, static_cast<double>(judged));
}

void result(Row& row, Size size) { run_payload(row, size, true); }
void argument(Row& row, Size size) { run_payload(row, size, false); }

// ---- shared memory -------------------------------------------------------------------------------------------------------

double take_shared(brood::SharedArray<const double> values) { return values.front() + values.back(); }
void give_shared(brood::SharedArray<double> values) { values.front() = values.back() = 2.0; }

void shared(Row& row, Size size) {
  std::vector<std::size_t> sizes{mib, 8 * mib, 64 * mib, 256 * mib};
  if (size == Size::smoke) sizes = {64 << 10, mib};
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  for (const std::size_t bytes : sizes) {
    const auto x = static_cast<double>(bytes);
    const brood::SharedArray<double> array(Values(bytes / sizeof(double), 1.0));
    const auto times = [](double us) { return Samples{us}; };
    row.brood("SharedArray, read by the task", [=, &pool] {
      Samples samples;
      for (int n = 0; n < 20; ++n) samples.push_back(to_us(timed([&] { pool.submit(take_shared, array).get(); })));
      return samples;
    }, x);
    row.brood("SharedArray, written by the task", [=, &pool] {
      Samples samples;
      for (int n = 0; n < 20; ++n) samples.push_back(to_us(timed([&] { pool.submit(give_shared, array).get(); })));
      if (array.front() != 2.0) throw std::runtime_error("another array");
      return samples;
    }, x);
    row.brood("std::vector, moved in", [=, &pool] {
      Values values(bytes / sizeof(double), 1.0);
      return times(to_us(timed([&] { pool.submit(take, std::move(values)).get(); })));
    }, x);
  }
  row.run(pick(size, 1, 3, 7));
  for (const char* name : {"SharedArray, read by the task", "SharedArray, written by the task"}) {
    row.mark_spread(std::string(name) + ": the slowest size against the fastest", name, 2);
  }
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  return run_all(argc, argv, {
      {"result", result, "std::vector<double> as a result, by its size", "GiB/s", Better::more, "bytes"},
      {"argument", argument, "std::vector<double> as an argument, moved in, by its size", "GiB/s", Better::more, "bytes"},
      {"shared", shared, "a call with an array of doubles, by its size", "us", Better::less, "bytes"},
  });
}
