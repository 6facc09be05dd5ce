// SPDX-License-Identifier: MIT
// An ordinary shared library; it knows nothing of brood.
#include "shared_library.hpp"

std::string shout(const std::string& text) {
  std::string result = text;
  for (char& c : result) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return result + '!';
}
