// SPDX-License-Identifier: MIT
// What brood's headers cost whoever includes them: one file with three submits, beside one with common standard headers.
#include <spawn.h>
#include <sys/wait.h>

#include <string>
#include <vector>

#include "harness.hpp"
#include "raw.hpp"

namespace {

using namespace bench;

double compile_ms(const std::string& file, const std::string& flag = "-O0") {
  std::vector<std::string> words{BROOD_BENCH_CXX, "-std=c++20", "-O0", flag, "-c", "-o", "/dev/null", "-I", BROOD_BENCH_INCLUDE,
                                 std::string(BROOD_BENCH_SOURCE) + "/compiled/" + file};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t pid = 0;
  int status = 0;
  const double ns = timed([&] {
    must(::posix_spawnp(&pid, arguments[0], nullptr, nullptr, arguments.data(), environ) == 0, "posix_spawn");
    ::waitpid(pid, &status, 0);
  });
  if (status != 0) throw std::runtime_error(file + " does not compile");
  return to_ms(ns);
}

void compile(Row& row, Size size) {
  row.limit("<future> <thread> <vector> <string> <map>, -O0", [] { return Samples{compile_ms("standard.cpp")}; });
  row.brood("brood.hpp and three submits, -O0", [] { return Samples{compile_ms("three_submits.cpp")}; });
  row.brood("the same with brood::compiled", [] { return Samples{compile_ms("three_submits.cpp", "-DBROOD_SEPARATE_COMPILATION")}; });
  row.run(pick(size, 1, 1, 2));
  row.mark_ratio("a file with brood.hpp and three submits against standard headers, -O0", "brood.hpp and three submits, -O0",
                 "<future> <thread> <vector> <string> <map>, -O0", true, 2.5);
}

}  // namespace

int main(int argc, char** argv) {
  return run_all(argc, argv, {{"compile", compile, "compiling one file", "ms"}});
}
