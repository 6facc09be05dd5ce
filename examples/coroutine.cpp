// SPDX-License-Identifier: MIT
// Coroutines: await a task, race some, wait for all. Each step runs in another process, and the code reads from top to bottom.
#include <iostream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <brood/brood.hpp>

using Pool = brood::Pool<brood::ForkServerPolicy<>>;

std::string fetch(const std::string& mirror) {
  if (mirror == "down") throw std::runtime_error("no answer");
  return "the text of " + mirror;
}

int count_words(const std::string& text) {
  int words = 0;
  for (std::size_t at = 0; at < text.size(); ++at) words += text[at] != ' ' && (at == 0 || text[at - 1] == ' ') ? 1 : 0;
  return words;
}

int longest_word(const std::string& text) {
  std::size_t longest = 0;
  std::size_t length = 0;
  for (const char c : text) {
    length = c == ' ' ? 0 : length + 1;
    if (length > longest) longest = length;
  }
  return static_cast<int>(longest);
}

// A coroutine that returns a Future runs at once, up to the first co_await that has to wait.
brood::Future<std::string> report(Pool& pool) {
  const std::vector<std::string> mirrors = {"down", "mirror"};
  const std::string text = co_await pool.first_of(&fetch, mirrors);  // the first that succeeds

  const auto [words, length] = co_await brood::when_all(pool.submit(&count_words, text), pool.submit(&longest_word, text));
  std::string line = std::to_string(words) + " words, the longest has " + std::to_string(length) + " letters";

  try {
    co_await pool.submit(&fetch, "down");
  } catch (const std::runtime_error& error) {  // what the task threw, with its type
    line += "; down: " + std::string(error.what());
  }
  co_return line;
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  Pool pool({.workers = 2});
  std::cout << report(pool).then([](const std::string& line) { return "report: " + line; }).get() << '\n';
}
