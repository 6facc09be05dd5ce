// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace brood::inline v0_1::detail {

/// The last of what somebody has written; the memory that it takes is bounded.
class OutputTail {
 public:
  /// So much is kept of a task's output.
  static constexpr std::size_t kept = std::size_t{64} << 10;

  void append(std::span<const std::byte> bytes) {
    if (bytes.size() > kept) bytes = bytes.last(kept);
    if (text_.size() + bytes.size() > 2 * kept) text_.erase(0, text_.size() - kept);
    text_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  /// Unless it ends so already.
  void append_once(std::string_view text) {
    if (!text_.ends_with(text)) append(std::as_bytes(std::span(text)));
  }

  /// What is kept; afterwards nothing is.
  std::string take() {
    if (text_.size() > kept) text_.erase(0, text_.size() - kept);
    return std::exchange(text_, {});
  }

  void clear() noexcept { text_.clear(); }

 private:
  std::string text_;
};

/// The end of what a worker printed before it failed to start, for a message; empty when it printed nothing.
inline std::string quote_tail(std::string printed) {
  constexpr std::size_t shown = 1000;
  while (!printed.empty() && printed.back() == '\n') printed.pop_back();
  if (printed.empty()) return {};
  if (printed.size() > shown) printed.replace(0, printed.size() - shown, "...");
  return "; it printed: " + printed;
}

}  // namespace brood::detail
