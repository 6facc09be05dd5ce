// SPDX-License-Identifier: MIT
// What of the host's memory and of its layout is in a worker, by policy.
#include <sys/auxv.h>
#include <sys/personality.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

namespace {

std::string secret = "nothing";

struct Layout {
  std::uint64_t code = 0;    ///< where a function of the program is
  std::uint64_t library = 0; ///< where libc is
  std::uint64_t canary = 0;  ///< the random bytes that stack canaries and pointer guards are made of
  std::string secret;

  friend bool operator==(const Layout&, const Layout&) = default;
};

Layout look() {
  Layout found;
  found.code = reinterpret_cast<std::uint64_t>(&look);
  found.library = reinterpret_cast<std::uint64_t>(&::getpid);
  std::memcpy(&found.canary, reinterpret_cast<const void*>(::getauxval(AT_RANDOM)), sizeof found.canary);
  found.secret = secret;
  return found;
}

/// Of two workers, one after the other.
template <class Policy>
std::array<Layout, 2> layouts() {
  brood::Pool<Policy> pool({.workers = 1, .tasks_per_worker = 1});
  return {pool.submit(&look).get(), pool.submit(&look).get()};
}

/// Whether the kernel places programs at random here.
bool places_at_random() {
  if ((::personality(0xffffffff) & ADDR_NO_RANDOMIZE) == 0 && support::read_text("/proc/sys/kernel/randomize_va_space") != "0\n") {
    return true;
  }
  MESSAGE("addresses are not compared: this system does not place programs at random");
  return false;
}

}  // namespace

TEST_CASE("ForkPolicy workers have the host's memory and its layout") {
  const support::Leftovers audit;
  secret = "the host's";
  const auto found = layouts<brood::ForkPolicy>();
  CHECK(found[0] == look());
  CHECK(found[1] == look());
  secret = "nothing";
}

TEST_CASE_TEMPLATE("ForkServerPolicy workers share a layout, which is not the host's, and see nothing of its memory", Policy,
                   support::ForkServer, support::ForkServerWithPreloads) {
  const support::Leftovers audit;
  secret = "the host's";
  const auto found = layouts<Policy>();
  CHECK(found[0] == found[1]);
  CHECK(found[0].secret == "nothing");
  CHECK(found[0].canary != look().canary);
  if (places_at_random()) CHECK((found[0].code != look().code || found[0].library != look().library));
  secret = "nothing";
}

TEST_CASE("SpawnPolicy workers have a layout each, and see nothing of the host's memory") {
  const support::Leftovers audit;
  secret = "the host's";
  const auto found = layouts<brood::SpawnPolicy>();
  CHECK(found[0].secret == "nothing");
  CHECK(found[1].secret == "nothing");
  CHECK(std::set{found[0].canary, found[1].canary, look().canary}.size() == 3);
  if (places_at_random()) {
    CHECK((found[0].code != look().code || found[0].library != look().library));
    CHECK((found[1].code != look().code || found[1].library != look().library));
    CHECK((found[0].code != found[1].code || found[0].library != found[1].library));
  }
  secret = "nothing";
}
