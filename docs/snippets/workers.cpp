// SPDX-License-Identifier: MIT
// The code of docs/guide/workers.md.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include <brood/brood.hpp>

using namespace std::chrono_literals;

namespace {

double estimate(int n) {
  brood::RandomEngine& random = brood::this_worker::random_engine();
  int hits = 0;
  for (int i = 0; i < n; ++i) {
    const double x = random.uniform();
    const double y = random.uniform();
    if (x * x + y * y < 1) ++hits;
  }
  return 4.0 * hits / n;
}

void open_log(const std::string& path, int level);

std::string opened;
void open_log(const std::string& path, int level) { opened = path + std::to_string(level); }
void flush_log() {}
std::string log_name() { return opened; }

struct Model {
  int answer = 42;
};
int ask() { return brood::preloaded<Model>().answer; }

std::string threads() {
  const char* const value = ::getenv("OMP_NUM_THREADS");
  return value == nullptr ? "" : value;
}

void require(bool condition) {
  if (!condition) std::abort();
}

void numbers() {
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 8, .seed = 42});
  std::vector<double> estimates = pool.map(&estimate, std::vector<int>(1000, 10'000));
  const double mean = std::accumulate(estimates.begin(), estimates.end(), 0.0) / 1000;
  require(mean > 3.14 && mean < 3.143);
}

void hooks() {
  brood::Pool<brood::ForkServerPolicy<>> pool({
      .workers = 8,
      .on_worker_start = brood::worker_hook(&open_log, "worker.log", 2),
      .on_worker_stop = [] { flush_log(); },
  });
  require(pool.submit(&log_name).get() == "worker.log2");
  //! [resize]
  pool.resize(16);      // the batch has come: those that are needed start at once
  pool.resize(2);       // the night is over
  //! [resize]
}

void idle() {
  brood::Pool<brood::ForkServerPolicy<Model>> pool({.workers = 8, .idle_timeout = 30s});
  require(pool.submit(&ask).get() == 42);
}

void surroundings() {
  brood::Pool<brood::SpawnPolicy> pool({
      .workers = 4,
      .working_directory = "/tmp",
      .environment = {"OMP_NUM_THREADS=1", "TMPDIR=/var/tmp", "LD_PRELOAD"},
  });
  require(pool.submit(&threads).get() == "1");
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  numbers();
  hooks();
  idle();
  surroundings();
}
