// SPDX-License-Identifier: MIT
// Code in a shared library that the tests are linked with.
#pragma once

#include <string>

#include <brood/policy/fork_server.hpp>
#include <brood/policy/spawn.hpp>
#include <brood/pool/pool.hpp>

namespace linked {

int twice(int n);
std::string library_of(int);

struct Plus {
  int plus = 0;
  int operator()(int n) const;
};

/// These submit lambdas that only the library knows.
int submits(brood::Pool<brood::SpawnPolicy>& pool, int n);
int submits(brood::Pool<brood::ForkServerPolicy<>>& pool, int n);

}  // namespace linked
