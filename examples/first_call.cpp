// SPDX-License-Identifier: MIT
// The smallest program: a function runs in another process, and what it returns arrives here. The call looks like a
// direct one: arguments are converted to the function's parameter types, then serialized.
#include <unistd.h>

#include <iostream>
#include <string>

#include <brood/brood.hpp>

std::string greet(const std::string& name, int times) {
  std::string text = "hello";
  for (int i = 0; i < times; ++i) text += ", " + name;
  return text;
}

int main(int argc, char** argv) {
  brood::init(argc, argv);  // first: the pool starts this program again, and the copy becomes a server here

  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2});
  brood::Future<std::string> greeting = pool.submit(&greet, "brood", 3);
  brood::Future<bool> elsewhere = pool.submit([](pid_t host) { return ::getpid() != host; }, ::getpid());

  std::cout << greeting.get() << '\n';
  std::cout << "in another process: " << (elsewhere.get() ? "yes" : "no") << '\n';
}
