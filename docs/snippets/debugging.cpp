// SPDX-License-Identifier: MIT
// The code of docs/guide/debugging.md.
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>

#include <brood/brood.hpp>

namespace {

struct Dictionary {
  std::string word = "fork";
};
bool known(const std::string& word) { return brood::preloaded<Dictionary>().word == word; }
int score(int number) { return number < 0 ? std::abort(), 0 : number; }

#ifdef DEBUG_HERE
using Policy = brood::InlinePolicy;
#else
using Policy = brood::ForkServerPolicy<Dictionary>;
#endif

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<Policy> pool;
  if (!pool.submit(&known, "fork").get()) std::abort();

  try {
    pool.submit(&score, -1).get();
  } catch (const brood::WorkerDied& death) {
    std::cerr << death.what() << '\n' << death.backtrace();   // who, what, where; then the stack
    if (death.signal() != SIGABRT) throw;
  }
}
