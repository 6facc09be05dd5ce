// SPDX-License-Identifier: MIT
// The dictionary of spell.cpp: an ordinary class that knows nothing of processes.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

/// The file that a default-built Dictionary reads.
inline std::string word_list = "/usr/share/dict/words";

/// How many characters must be deleted, inserted, replaced or swapped with their neighbour to turn a into b.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);  // the row before the last
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

/// A word list with an index for suggestions. Two words at an edit distance of up to two have a rest in common: what is
/// left of them when up to two characters are deleted from each. So every word is filed under all its rests (those of
/// its first seven characters suffice). It makes the search fast, but the index has some million entries: it is slow to
/// build, and one wants to build it once.
class Dictionary {
 public:
  struct Suggestion {
    std::size_t distance;
    std::string word;
  };

  Dictionary() : Dictionary(word_list) {}

  /// Throws std::runtime_error when the file can't be read or holds no word.
  explicit Dictionary(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error(path + ": " + std::strerror(errno));
    for (std::string line; std::getline(file, line);) {
      if (line.find('\0') != std::string::npos) throw std::runtime_error(path + ": not a word list, but a binary file");
      const bool is_name = std::any_of(line.begin(), line.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
      if (!line.empty() && !is_name && !line.ends_with("'s")) words_.push_back(line);
    }
    if (words_.empty()) throw std::runtime_error(path + ": there is no word in it");
    std::sort(words_.begin(), words_.end());
    words_.erase(std::unique(words_.begin(), words_.end()), words_.end());

    for (std::uint32_t i = 0; i < words_.size(); ++i) {
      for_each_rest(words_[i], [&](std::uint32_t rest) { index_.emplace_back(rest, i); });
    }
    std::sort(index_.begin(), index_.end());
    index_.erase(std::unique(index_.begin(), index_.end()), index_.end());
  }

  bool has(const std::string& word) const { return std::binary_search(words_.begin(), words_.end(), word); }

  /// The nearest words, the best first: by edit distance, then by how many letters they keep, and in their places.
  std::vector<Suggestion> suggest(const std::string& word) const {
    std::vector<std::uint32_t> candidates;
    for_each_rest(word, [&](std::uint32_t rest) {
      auto at = std::lower_bound(index_.begin(), index_.end(), std::pair{rest, std::uint32_t{0}});
      for (; at != index_.end() && at->first == rest; ++at) candidates.push_back(at->second);
    });
    std::sort(candidates.begin(), candidates.end());
    candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());

    using Rank = std::tuple<std::size_t, std::ptrdiff_t, std::ptrdiff_t, std::uint32_t>;  // the smaller, the better
    std::vector<Rank> found;
    const std::size_t farthest = word.size() < 6 ? 1 : 2;
    for (const std::uint32_t i : candidates) {
      if (words_[i].size() > word.size() + farthest || words_[i].size() + farthest < word.size()) continue;
      const std::size_t distance = edit_distance(word, words_[i]);
      if (distance > farthest) continue;
      found.emplace_back(distance, -letters_in_common(word, words_[i]), -ends_in_common(word, words_[i]), i);
    }
    std::sort(found.begin(), found.end());
    std::vector<Suggestion> result;
    for (const auto& [distance, letters, ends, i] : found) {
      if (result.size() == 3 || distance > std::get<0>(found.front())) break;
      result.push_back({distance, words_[i]});
    }
    return result;
  }

 private:
  /// Calls use(hash) for the beginning of a word, and for what is left of it without any one or two characters.
  template <class Use>
  static void for_each_rest(std::string_view word, Use use) {
    const auto hash = [](std::string_view text) {
      return static_cast<std::uint32_t>(std::hash<std::string_view>()(text));
    };
    const std::string_view start = word.substr(0, 7);
    use(hash(start));
    for (std::size_t i = 0; i < start.size(); ++i) {
      std::string one(start);
      one.erase(i, 1);
      use(hash(one));
      for (std::size_t j = i; j < one.size(); ++j) {
        std::string two = one;
        two.erase(j, 1);
        use(hash(two));
      }
    }
  }

  /// How many letters two words share, wherever they are.
  static std::ptrdiff_t letters_in_common(std::string a, std::string b) {
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    std::string both;
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
    return std::ssize(both);
  }

  /// The length of the beginning and of the end that two words share.
  static std::ptrdiff_t ends_in_common(std::string_view a, std::string_view b) {
    return (std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin()) +
           (std::mismatch(a.rbegin(), a.rend(), b.rbegin(), b.rend()).first - a.rbegin());
  }

  std::vector<std::string> words_;                              // sorted
  std::vector<std::pair<std::uint32_t, std::uint32_t>> index_;  // hash of a rest, number of a word; sorted
};
