// SPDX-License-Identifier: MIT
// Programs whose start is slow or talks: what runs before main in every server and exec'ed worker, too.
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/program.hpp"

namespace {

int add_one(int n) { return n + 1; }

/// What a library's static constructor does that prints a banner, wants an answer, and takes its time.
template <class Policy>
int talks(int argc, char** argv) {
  std::printf("banner on stdout\n");
  std::fprintf(stderr, "banner on stderr\n");
  std::cout << "banner of a stream\n" << std::flush;
  char answer = 0;
  static_cast<void>(!::read(STDIN_FILENO, &answer, 1));  // of /dev/null
  ::usleep(100'000);
  brood::init(argc, argv);
  brood::Pool<Policy> pool({.workers = 2, .tasks_per_worker = 2});
  const bool good = pool.map(&add_one, std::vector<int>(8), {.chunk_size = 1}) == std::vector<int>(8, 1);
  const auto died = pool.submit([] { ::_exit(5); }).outcome();
  std::fprintf(stderr, "%s\n", good && !died && pool.submit(&add_one, 1).get() == 2 ? "all is well" : "wrong");
  return good ? 0 : 1;
}

const support::Program talks_fork("talks-ForkPolicy", &talks<brood::ForkPolicy>);
const support::Program talks_spawn("talks-SpawnPolicy", &talks<brood::SpawnPolicy>);
const support::Program talks_server("talks-ForkServer", &talks<support::ForkServer>);

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("a program that prints, reads and dawdles before init works; what it prints is not taken for the library's") {
  for (const std::string policy : {"ForkPolicy", "SpawnPolicy", "ForkServer"}) {
    CAPTURE(policy);
    const support::Leftovers audit;
    const support::Ran ran = support::run_in_child([&]() -> int {
      ::close(STDIN_FILENO);
      support::exec({"/bin/sh", "-c", "exec " + support::own_path() + " --program=talks-" + policy + " < /dev/null"});
    });
    CHECK_MESSAGE(ran.status.describe() == "exited with code 0", ran.output);
    CHECK_MESSAGE(ran.output.find("all is well") != std::string::npos, ran.output);
    // once for each image that was started, and whole
    const std::size_t images = count(ran.output, "banner on stderr\n");
    CHECK(count(ran.output, "banner on stdout\n") == images);
    CHECK(count(ran.output, "banner of a stream\n") == images);
    if (policy == "ForkPolicy") CHECK(images == 1);
    if (policy == "ForkServer") CHECK(images == 2);
    if (policy == "SpawnPolicy") CHECK(images >= 6);
  }
}
