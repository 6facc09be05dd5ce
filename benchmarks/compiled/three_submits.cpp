// SPDX-License-Identifier: MIT
// Compiled by compile.cpp.
#include <string>
#include <vector>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool;
  auto number = pool.submit([](int x) { return x + 1; }, 1);
  auto text = pool.submit([](const std::string& x) { return x + "!"; }, "text");
  auto values = pool.submit([](const std::vector<double>& x) { return x; }, std::vector<double>(3));
  return number.get() == 2 && text.get() == "text!" && values.get().size() == 3 ? 0 : 1;
}
