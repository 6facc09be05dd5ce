// SPDX-License-Identifier: MIT
// The code of docs/policies.md.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include <brood/brood.hpp>

namespace {

std::vector<float> load_weights() { return std::vector<float>(1000, 0.5F); }

struct Journal {
  explicit Journal(const char*) {}
  void open(const char*) { fd = ::open("/dev/null", O_WRONLY | O_CLOEXEC); }
  void close() { fd = -1; }
  int fd = -1;
};

namespace hook {

struct Model {
  Model() : weights(load_weights()), journal("journal.db") {
    journal.close();                          // so that nothing is left behind
  }
  void after_fork() {
    journal.open("journal.db");               // a descriptor and a lock of this worker's own
    random.seed(std::random_device()());      // else all workers draw the same numbers
  }
  std::vector<float> weights;
  Journal journal;
  std::mt19937 random;
};

bool journal_is_open() { return brood::preloaded<Model>().journal.fd >= 0; }

void run() {
  brood::ForkServerPolicy<Model> policy;
  policy.strict = true;
  brood::Pool<brood::ForkServerPolicy<Model>> pool({.workers = 8}, policy);
  if (!pool.submit(&journal_is_open).get()) std::abort();
}

}  // namespace hook

struct Model {
  explicit Model(std::string name) : file(std::move(name)) {}
  std::string file;
};
struct Index {
  std::string of = brood::preloaded<Model>().file;
};

std::string indexed_file() { return brood::preloaded<Index>().of; }

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  hook::run();
  brood::Pool<brood::ForkServerPolicy<Model, Index>> pool(
      {.workers = 8}, brood::ForkServerPolicy<Model, Index>{brood::preload_args<Model>("m.bin")});
  if (pool.submit(&indexed_file).get() != "m.bin") std::abort();
}
