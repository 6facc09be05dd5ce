// SPDX-License-Identifier: MIT
// What a mode has to say: lines of text, and marks, which are what was promised beside what was measured.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <ios>
#include <string>
#include <utility>
#include <vector>

namespace chaos {

struct Mark {
  std::string name;
  double measured = 0;
  double limit = 0;  ///< the most that keeps the promise, or the least
  std::string unit;
  bool judged = true;
  bool least = false;

  const char* bound() const noexcept { return least ? "at least" : "at most"; }
  bool kept() const noexcept { return !judged || (least ? measured >= limit : measured <= limit); }
  const char* verdict() const noexcept { return !judged ? "not judged" : kept() ? "kept" : "BROKEN"; }
};

/// "12", or "1.50 ms".
inline std::string amount(double value, const std::string& unit) {
  char text[64];
  std::snprintf(text, sizeof text, value == std::floor(value) && unit.empty() ? "%.0f" : "%.2f", value);
  return unit.empty() ? std::string(text) : text + (" " + unit);
}

/// The p-th part of the values, 0 to 1; 0 of none.
inline double percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto at = static_cast<std::size_t>(std::ceil(p * static_cast<double>(values.size())));
  return values[std::clamp<std::size_t>(at, 1, values.size()) - 1];
}

class Report {
 public:
  Report(std::string mode, std::string subject, unsigned seed)
      : mode_(std::move(mode)), subject_(std::move(subject)), seed_(seed) {}

  void say(std::string line) { lines_.push_back(std::move(line)); }

  /// At most so many of what may not happen: none, where nothing else is said.
  void count(std::string name, double measured, double limit = 0) {
    marks_.push_back({std::move(name), measured, limit, "", true, false});
  }
  /// At least so many of what must have happened: a promise that was not tried is not kept.
  void need(std::string name, double measured, double limit = 1, bool judged = true) {
    marks_.push_back({std::move(name), measured, limit, "", judged, true});
  }
  /// What depends on the machine: judged only when it is ours alone.
  void measure(std::string name, double measured, double limit, std::string unit, bool judged) {
    marks_.push_back({std::move(name), measured, limit, std::move(unit), judged, false});
  }

  bool kept() const {
    return std::all_of(marks_.begin(), marks_.end(), [](const Mark& mark) { return mark.kept(); });
  }
  bool broken(const std::string& name) const {
    return std::any_of(marks_.begin(), marks_.end(), [&](const Mark& mark) { return mark.name == name && !mark.kept(); });
  }

  void print() const {
    std::printf("%s, %s, seed %u\n", mode_.c_str(), subject_.c_str(), seed_);
    for (const std::string& line : lines_) std::printf("  %s\n", line.c_str());
    for (const Mark& mark : marks_) {
      std::printf("    %-42s %14s   %-8s %-12s %s\n", mark.name.c_str(), amount(mark.measured, mark.unit).c_str(), mark.bound(),
                  amount(mark.limit, mark.unit).c_str(), mark.verdict());
    }
    std::fflush(stdout);
  }

  /// Adds one JSON object a mark, each on a line of its own.
  void append_json(const std::string& path) const {
    std::ofstream out(path, std::ios::app);
    for (const Mark& mark : marks_) {
      char numbers[96];
      std::snprintf(numbers, sizeof numbers, R"("measured": %.6g, "limit": %.6g)", mark.measured, mark.limit);
      out << R"({"mode": ")" << mode_ << R"(", "subject": ")" << subject_ << R"(", "seed": )" << seed_ << R"(, "mark": ")"
          << mark.name << R"(", )" << numbers << R"(, "bound": ")" << mark.bound() << R"(", "unit": ")" << mark.unit
          << R"(", "verdict": ")" << mark.verdict() << "\"}\n";
    }
    if (!out.flush()) throw std::ios_base::failure(path + " can't be written");
  }

 private:
  std::string mode_;
  std::string subject_;
  unsigned seed_;
  std::vector<std::string> lines_;
  std::vector<Mark> marks_;
};

/// A line as printf makes it.
template <class... Values>
std::string text(const char* format, Values... values) {
  char line[512];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
  std::snprintf(line, sizeof line, format, values...);
#pragma GCC diagnostic pop
  return line;
}

}  // namespace chaos
