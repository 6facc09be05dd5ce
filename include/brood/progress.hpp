// SPDX-License-Identifier: MIT
// A progress line for the terminal. Not part of brood.hpp: include it where it is wanted.
//
//   pool.map(&resize, files, {.progress = brood::progress_line("resizing")});
//
//   resizing:  45%|████████▌          | 450/1000 [00:12<00:15, 36.5/s]
#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <brood/os/terminal.hpp>
#include <brood/pool/progress.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// Columns that a text takes, one for each code point.
inline std::size_t columns_of(std::string_view text) noexcept {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

/// The front of a text, so many columns of it.
inline std::string_view first_columns(std::string_view text, std::size_t most) noexcept {
  std::size_t at = 0;
  for (std::size_t columns = 0; at < text.size(); ++at) {
    if ((text[at] & 0xc0) != 0x80 && columns++ == most) break;
  }
  return text.substr(0, at);
}

/// "02:05", "1:02:05"
inline std::string clock_text(double seconds) {
  constexpr double longest = 360'000;  // beyond it nobody counts
  if (!(seconds >= 0 && seconds < longest)) return "?";
  const auto whole = static_cast<unsigned>(seconds);
  std::array<char, 32> text{};
  if (whole >= 3600) {
    std::snprintf(text.data(), text.size(), "%u:%02u:%02u", whole / 3600, whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text.data(), text.size(), "%02u:%02u", whole / 60, whole % 60);
  }
  return text.data();
}

/// "36.5/s", "2.10s each"
inline std::string rate_text(double rate) {
  if (!(rate > 0)) return "?/s";
  std::array<char, 32> text{};
  if (rate >= 1) {
    std::snprintf(text.data(), text.size(), rate >= 1000 ? "%.0f/s" : "%.1f/s", rate);
  } else {
    std::snprintf(text.data(), text.size(), "%.2fs each", 1 / rate);
  }
  return text.data();
}

/// A bar of so many columns, filled from the left.
inline std::string bar_text(double share, std::size_t columns, bool blocks) {
  constexpr std::array<std::string_view, 9> eighths{" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(columns) * 8);
  std::string text;
  for (std::size_t at = 0; at < columns; ++at) {
    const std::size_t here = std::min<std::size_t>(8, filled - std::min(filled, at * 8));
    text += blocks ? eighths[here] : here == 8 ? "#" : " ";
  }
  return text;
}

/// What the line says, in at most `width` columns.
inline std::string progress_text(const std::string& description, const Progress& now, std::size_t width, bool blocks) {
  const double seconds = std::chrono::duration<double>(now.elapsed).count();
  const double worked = static_cast<double>(now.done) + now.running;
  const double rate = seconds > 0 ? worked / seconds : 0;
  std::string front = description.empty() ? "" : description + ": ";
  std::string back = std::to_string(now.done);
  if (now.total) back += "/" + std::to_string(*now.total);
  back += " [" + clock_text(seconds);
  if (now.total && !now.finished) {
    back += "<" + (rate > 0 ? clock_text(std::max(0.0, static_cast<double>(*now.total) - worked) / rate) : "?");
  }
  back += ", " + rate_text(rate);
  if (now.failed != 0) back += ", " + std::to_string(now.failed) + " failed";
  back += "]";
  std::string bar;
  if (now.total) {
    std::array<char, 16> percent{};
    std::snprintf(percent.data(), percent.size(), "%3d%%", static_cast<int>(now.share() * 100));
    front += percent.data();
    const std::size_t taken = columns_of(front) + columns_of(back) + 3;
    constexpr std::size_t shortest = 4;
    bar = taken + shortest <= width ? "|" + bar_text(now.share(), width - taken, blocks) + "| " : " ";
  }
  return std::string(first_columns(front + bar + back, width));
}

/// Whether the terminal shows UTF-8, by what the environment says.
inline bool shows_utf8() {
  for (const char* const name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* const value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const std::string_view text(value);
    return text.find("UTF-8") != std::string_view::npos || text.find("utf8") != std::string_view::npos;
  }
  return false;
}

}  // namespace detail

/// A progress callback that keeps one line of a terminal up to date: what is done, of how much, for how long and for how
/// much longer, how fast, and how many have failed. Copies share the line. The time to go is from the average so far.
/// \snippet insight.cpp progress_line
class ProgressLine {
 public:
  /// `fd`: a descriptor of the caller's, which it keeps. Where it is no terminal nothing is ever written. A second line that is
  /// drawn on the same terminal at the same time gets in the way of the first.
  explicit ProgressLine(std::string description = {}, int fd = STDERR_FILENO)
      : line_(std::make_shared<Line>(std::move(description), fd)) {}

  /// Draws, but not if that was less than a tenth of a second ago; the first and the last are always drawn. The last leaves
  /// the cursor on a new line, and so does the end of the last copy. Throws nothing of the terminal's.
  void operator()(const Progress& now) const { line_->draw(now); }

 private:
  class Line {
   public:
    Line(std::string description, int fd)
        : description_(std::move(description)), fd_(fd), shown_(detail::is_terminal(fd)), blocks_(shown_ && detail::shows_utf8()) {
      for (char& c : description_) {
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';  // no control of the terminal
      }
    }
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;
    ~Line() { end(); }

    void draw(const Progress& now) {
      constexpr std::chrono::milliseconds interval(100);
      if (!shown_ || (open_ && !now.finished && now.elapsed - drawn_at_ < interval)) return;
      const std::size_t width = std::max<std::size_t>(detail::terminal_width(fd_), 2) - 1;  // a full line would scroll
      open_ = true;
      drawn_at_ = now.elapsed;
      detail::write_text(fd_, "\r" + detail::progress_text(description_, now, width, blocks_) + "\x1b[K");
      if (now.finished) end();
    }

   private:
    void end() noexcept {
      if (std::exchange(open_, false)) detail::write_text(fd_, "\n");
    }

    std::string description_;
    const int fd_;
    const bool shown_;
    const bool blocks_;
    bool open_ = false;  ///< there is a line, and the cursor is on it
    std::chrono::nanoseconds drawn_at_{0};
  };

  std::shared_ptr<Line> line_;
};

/// The same by another name: {.progress = brood::progress_line("resizing")}.
/// \snippet insight.cpp progress_line
inline ProgressLine progress_line(std::string description = {}, int fd = STDERR_FILENO) {
  return ProgressLine(std::move(description), fd);
}

}  // namespace brood
