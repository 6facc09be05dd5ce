// SPDX-License-Identifier: MIT
// The code of docs/guide/streams.md.
#include <cstdlib>
#include <iostream>
#include <map>
#include <ranges>
#include <sstream>
#include <string>
#include <vector>

#include <brood/brood.hpp>

namespace {

struct Thumbnail {
  int width = 0;
};

int shown = 0;
auto files_as_they_arrive() { return std::views::iota(1, 6); }
Thumbnail shrink(int file) { return {file * 8}; }
void show(const Thumbnail&) { ++shown; }
double score(int candidate) { return candidate / 2.0; }

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

int answer(int question) { return question; }
void reindex(int) {}

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool;
  for (const Thumbnail& image : pool.stream(&shrink, files_as_they_arrive())) show(image);
  require(shown == 5);

  const std::vector<int> candidates{1, 2, 3};
  auto results = pool.stream_unordered(&score, candidates);
  for (const double score : results) std::cout << results.index() << ": " << score << '\n';

  const std::vector<std::string> lines{"one two", "two"};
  //! [map_reduce]
  Counts all = pool.map_reduce(&count_words, &add, lines, Counts());
  //! [map_reduce]
  require(all["two"] == 2);

  const int question = 42;
  const std::vector<int> documents{1, 2};
  pool.submit({.priority = 10}, &answer, question);          // before everything of priority 0
  pool.map(&reindex, documents, {.priority = -1});           // behind it
}
