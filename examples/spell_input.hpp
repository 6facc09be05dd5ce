// SPDX-License-Identifier: MIT
// What spell.cpp reads: which files, and which of their words. Knows nothing of processes.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace fs = std::filesystem;

/// The whole of a text file. Throws std::runtime_error when it can't be read or is no text.
inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(std::string("can't be read: ") + std::strerror(errno));
  std::error_code unknown;
  if (fs::file_size(path, unknown) > (1U << 24)) throw std::runtime_error("is larger than 16 MiB");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (text.find('\0') != std::string::npos) throw std::runtime_error("is binary, not a text");
  return text;
}

/// Whether to look it up: lower-case letters only, so no name, number, path or code. Bytes from 0x80 are letters in UTF-8.
inline bool is_plain_word(std::string_view token) {
  return token.size() >= 4 && std::all_of(token.begin(), token.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || c == '\'' || static_cast<unsigned char>(c) >= 0x80;
         });
}

/// Calls use(word) for every word of a text that is worth looking up; those with a hyphen in parts.
template <class Use>
void for_each_word(const std::string& text, Use use) {
  constexpr std::string_view around = "\"'()[].,;:!?*";
  std::istringstream in(text);
  for (std::string token; in >> token;) {
    const std::size_t first = token.find_first_not_of(around);
    if (first == std::string::npos) continue;
    std::istringstream parts(token.substr(first, token.find_last_not_of(around) - first + 1));
    for (std::string part; std::getline(parts, part, '-');) {
      if (part.ends_with("'s")) part.resize(part.size() - 2);
      if (is_plain_word(part)) use(part);
    }
  }
}

/// The regular files in a folder and its folders, sorted.
inline std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> result;
  std::error_code error;
  for (fs::recursive_directory_iterator each(folder, error), end; !error && each != end; each.increment(error)) {
    std::error_code unknown;
    if (each->is_regular_file(unknown)) result.push_back(each->path().string());
  }
  if (error) {
    std::cerr << "spell: " << folder << ": " << error.message() << '\n';
  } else if (result.empty()) {
    std::cerr << "spell: " << folder << ": no files in this folder\n";
  }
  std::sort(result.begin(), result.end());
  return result;
}

/// Debian's licence texts, then what its packages have to say: first their README and notes, then their copyright files.
inline std::vector<std::string> default_files() {
  std::vector<std::string> licences;
  std::vector<std::string> notes;
  std::vector<std::string> copyrights;
  std::error_code error;  // what can't be looked into is left out
  const auto is_small_text = [&](const fs::directory_entry& each) {
    if (each.is_symlink(error) || !each.is_regular_file(error)) return false;
    const auto size = each.file_size(error);
    return size >= 2'000 && size <= 64'000;
  };
  for (const auto& each : fs::directory_iterator("/usr/share/common-licenses", error)) {
    if (is_small_text(each)) licences.push_back(each.path().string());
  }
  for (const auto& package : fs::directory_iterator("/usr/share/doc", error)) {
    if (package.is_symlink(error)) continue;
    for (const auto& each : fs::directory_iterator(package.path(), error)) {
      const std::string name = each.path().filename().string();
      const std::string type = each.path().extension().string();
      const bool is_note = name == "README" || type == ".txt" || type == ".md" || type == ".rst";
      if ((is_note || name == "copyright") && is_small_text(each)) {
        (is_note ? notes : copyrights).push_back(each.path().string());
      }
    }
  }
  std::vector<std::string> result;
  for (auto* some : {&licences, &notes, &copyrights}) {
    std::sort(some->begin(), some->end());
    result.insert(result.end(), some->begin(), some->end());
  }
  return result;
}

/// The files to check.
struct Input {
  std::vector<std::string> paths;
  std::size_t refused = 0;  // paths on the command line that are neither files nor folders
};

/// The files under these paths, or the default ones. Tells on stderr what it leaves out.
inline Input choose_files(const std::vector<std::string>& paths, std::size_t most) {
  Input input;
  std::vector<std::string>& files = input.paths;
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::is_directory(status)) {
      const std::vector<std::string> found = files_in(path);
      files.insert(files.end(), found.begin(), found.end());
    } else if (fs::is_regular_file(status)) {
      files.push_back(path);
    } else {
      ++input.refused;
      std::cerr << "spell: " << path << ": " << (error ? error.message() : "is neither a file nor a folder") << '\n';
    }
  }
  if (files.size() > most) {
    std::cerr << "spell: of " << files.size() << " files the first " << most << " are checked (--files N for more)\n";
  }
  if (paths.empty()) files = default_files();
  if (files.size() > most) files.resize(most);
  return input;
}
