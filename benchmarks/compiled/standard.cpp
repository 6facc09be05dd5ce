// SPDX-License-Identifier: MIT
// Compiled by compile.cpp: what a program with threads includes anyway.
#include <future>
#include <map>
#include <string>
#include <thread>
#include <vector>

int main() {
  std::map<std::string, std::vector<int>> numbers{{"one", {1}}};
  auto sum = std::async(std::launch::async, [&] { return numbers["one"][0]; });
  std::thread([] {}).join();
  return sum.get() - 1;
}
