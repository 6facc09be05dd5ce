// SPDX-License-Identifier: MIT
// A grader: solutions that nobody has looked at run with a bound on time, CPU time and memory, each in a worker of its own
// that is gone afterwards. This keeps accidents in bounds; against malice use a sandbox as well.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include <brood/brood.hpp>

using namespace std::chrono_literals;

using Solution = long (*)(const std::vector<int>&);  // the task: the sum of the numbers

long right(const std::vector<int>& numbers) { return std::accumulate(numbers.begin(), numbers.end(), 0L); }
long wrong(const std::vector<int>& numbers) { return numbers.front(); }
long endless(const std::vector<int>&) {
  for (;;) ::getppid();
}
long asleep(const std::vector<int>&) {
  for (;;) ::pause();
}
long greedy(const std::vector<int>& numbers) {
  std::vector<std::vector<int>> hoard;
  for (;;) hoard.emplace_back(std::size_t{1} << 24, numbers.front());
}
long broken(const std::vector<int>&) { std::abort(); }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const std::pair<std::string, Solution> solutions[] = {{"right", &right},   {"wrong", &wrong},   {"endless", &endless},
                                                        {"asleep", &asleep}, {"greedy", &greedy}, {"broken", &broken}};
  std::vector<int> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), 1);

  brood::Pool<brood::ForkServerPolicy<>> pool({.tasks_per_worker = 1, .output = brood::Output::discard, .kill_tree = true});
  const brood::TaskOptions bounds{
      .timeout = 3s,
      .limits = {.address_space = std::uint64_t{1} << 28, .cpu_time = 1s, .open_files = 16, .core_size = 0, .no_new_privs = true}};
  std::vector<brood::Future<long>> answers;
  for (const auto& [name, solution] : solutions) answers.push_back(pool.submit(bounds, solution, numbers));

  for (std::size_t at = 0; at < answers.size(); ++at) {
    std::cout << solutions[at].first << ": ";
    try {
      std::cout << (answers[at].get() == 500500 ? "accepted" : "wrong answer") << '\n';
    } catch (const std::bad_alloc&) {
      std::cout << "memory limit exceeded\n";
    } catch (const brood::TaskTimeout&) {
      std::cout << "time limit exceeded\n";
    } catch (const brood::WorkerDied& death) {
      std::cout << (death.status().signal() == SIGXCPU ? "time limit exceeded" : "runtime error") << '\n';
    }
  }
}
