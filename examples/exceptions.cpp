// SPDX-License-Identifier: MIT
// What a task throws is thrown again by Future::get, with its type: a standard exception as itself, a type of your own
// after register_exception, anything else as TaskError. Each knows where it comes from: it is a FromTask as well.
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <brood/brood.hpp>

struct NotInStock : std::runtime_error {
  using std::runtime_error::runtime_error;  // constructible from a text, so it can be rebuilt here
};

int element(std::size_t index) { return std::vector<int>{1, 2, 3}.at(index); }
void order(const std::string& thing) { throw NotInStock(thing + " is not in stock"); }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::register_exception<NotInStock>();  // before the pool
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});

  try {
    pool.submit(&element, 7).get();
  } catch (const std::out_of_range& error) {
    const auto* const origin = dynamic_cast<const brood::FromTask*>(&error);
    std::cout << "std::out_of_range from task " << (origin != nullptr ? origin->task() : 0) << '\n';
  }
  try {
    pool.submit(&order, "a brood hen").get();
  } catch (const NotInStock& error) {
    std::cout << "NotInStock: " << error.what() << '\n';
  }
  try {
    pool.submit([] { throw 42; }).get();
  } catch (const brood::TaskError& error) {
    std::cout << "TaskError: something of type " << error.type() << '\n';
  }
}
