// SPDX-License-Identifier: MIT
// map_reduce: each worker counts the words of its lines and adds the counts up, the host adds up what the workers have.
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <brood/brood.hpp>

using Counts = std::map<std::string, int>;

Counts count_words(const std::string& line) {
  Counts counts;
  std::istringstream words(line);
  for (std::string word; words >> word;) ++counts[word];
  return counts;
}

Counts add(Counts one, const Counts& other) {
  for (const auto& [word, count] : other) one[word] += count;
  return one;
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool;

  const std::vector<std::string> lines{
      "a server is made once",
      "a worker is made for each place",
      "a task is made for each call",
  };
  for (const auto& [word, count] : pool.map_reduce(&count_words, &add, lines, Counts())) {
    if (count > 1) std::cout << word << ' ' << count << '\n';
  }
}
