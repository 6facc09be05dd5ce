// SPDX-License-Identifier: MIT
// The code of docs/guide/failures.md.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <vector>

#include <brood/brood.hpp>

using namespace std::chrono_literals;

namespace {

//! [register_exception]
struct OutOfPaper {
  int tray = 0;
};

const bool registered = (brood::register_exception<OutOfPaper>(), true);
//! [register_exception]

int work(int number) {
  if (number == 3) throw std::out_of_range("three");
  if (number == 4) std::abort();
  if (number == 5) throw OutOfPaper{2};
  return number;
}

using Pool = brood::Pool<brood::ForkServerPolicy<>>;

void exceptions(Pool& pool) {
  brood::Future<int> future = pool.submit(&work, 3);
  try {
    std::cout << future.get() << '\n';
  } catch (const std::out_of_range& error) {    // as the task threw it
    std::cout << "out of range: " << error.what() << '\n';
  } catch (const brood::WorkerDied& death) {
    std::cout << "its worker " << death.status().describe() << '\n';
  } catch (const brood::Error& error) {         // every other failure that is brood's
    std::cout << error.what() << '\n';
  }

  try {
    pool.submit(&work, 3).get();
  }
  catch (const std::exception& error) {
    if (const auto* from = dynamic_cast<const brood::FromTask*>(&error)) {
      std::cout << "task " << from->task() << " in worker " << from->pid() << ": " << error.what() << '\n';
    }
  }

  try {
    pool.submit(&work, 5).get();
  } catch (const OutOfPaper& error) {
    if (!registered || error.tray != 2) std::abort();
  }
}

void values(Pool& pool) {
  //! [Failure]
  const brood::Outcome<int> outcome = pool.submit(&work, 4).outcome();
  if (!outcome) {
    const brood::Failure& failure = outcome.failure();
    std::cout << failure.message() << '\n'            // one line for a log: who, what, why, what next
              << failure.callable() << '\n'           // the function's name
              << failure.status().describe() << '\n'  // how the worker ended
              << failure.peak_rss_kib() << " KiB\n"   // of memory, at its peak
              << failure.backtrace()                  // of a crash
              << failure.captured_output();           // the last that it printed, with Output::capture
  }
  //! [Failure]
  if (outcome || outcome.failure().kind() != brood::FailureKind::worker_died) std::abort();
}

void again(Pool& pool) {
  const std::vector<int> numbers{1, 2};
  pool.submit({.timeout = 2s, .retries = 2}, &work, 1).get();
  pool.map(&work, numbers, {.timeout = 500ms, .retries = 1});
}

void state(Pool& pool) {
  const brood::PoolStats stats = pool.stats();
  if (stats.state == brood::PoolState::broken) std::cout << stats.cause << '\n';
  if (stats.state != brood::PoolState::running) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  Pool pool;
  exceptions(pool);
  values(pool);
  again(pool);
  state(pool);
}
