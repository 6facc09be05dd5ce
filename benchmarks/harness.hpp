// SPDX-License-Identifier: MIT
// What the benchmarks share: contestants that take turns, what is said of their samples, and the marks.
//
// A row compares contestants: brood, a limit (what the kernel takes for the least that could do the same), peers. They run
// in the same process, round by round, and each round begins with another one, so that whatever disturbs the machine
// disturbs all of them. The first round only warms up. A ratio is that of two medians of one row.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "peer.hpp"

namespace bench {

using Clock = std::chrono::steady_clock;
using Samples = std::vector<double>;

inline double ns_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

/// How long a call takes, in nanoseconds.
template <class Call>
double timed(Call&& call) {
  const auto start = Clock::now();
  call();
  return ns_since(start);
}

/// Keeps the compiler from dropping what it thinks nobody reads.
inline void use(const void* data) { asm volatile("" : : "r"(data) : "memory"); }

enum class Size { smoke, quick, full };
enum class Kind { brood, limit, peer };
enum class Better { less, more };

/// Of the values given: the one for the size of this run.
template <class T>
T pick(Size size, T smoke, T quick, T full) {
  return size == Size::smoke ? smoke : size == Size::quick ? quick : full;
}

/// From a peer's nanoseconds to the row's unit.
using Convert = std::function<double(double ns)>;
inline double to_us(double ns) { return ns / 1e3; }
inline double to_ms(double ns) { return ns / 1e6; }
inline double as_it_is(double value) { return value; }
/// So many things in that time: how many in a second.
inline Convert per_second(double count) {
  return [count](double ns) { return count * 1e9 / ns; };
}

struct Contestant {
  std::string name;
  Kind kind;
  double x;  // what the row varies, in Benchmark::x_unit; 0 if nothing
  std::function<Samples()> round;
  Samples samples{};
};

/// A bound on a ratio or a value. It is kept or it is missed; nothing ends because of it.
struct Mark {
  std::string what;
  double value;
  std::string unit;  // "x" for a ratio
  bool at_most;
  double bound;
  bool kept() const { return at_most ? value <= bound : value >= bound; }
};

class Row {
 public:
  Row(std::string id, std::string title, std::string unit, Better better, std::string x_unit)
      : id_(std::move(id)), title_(std::move(title)), unit_(std::move(unit)), better_(better), x_unit_(std::move(x_unit)) {}

  void add(Kind kind, std::string name, std::function<Samples()> round, double x = 0) {
    contestants_.push_back({std::move(name), kind, x, std::move(round)});
  }
  void brood(std::string name, std::function<Samples()> round, double x = 0) {
    add(Kind::brood, std::move(name), std::move(round), x);
  }
  void limit(std::string name, std::function<Samples()> round, double x = 0) {
    add(Kind::limit, std::move(name), std::move(round), x);
  }
  /// A contestant in another program (peer.hpp), which is sent `request` for each round. One that can't run is left out.
  void peer(std::string name, std::vector<std::string> command, std::string request, Convert convert, double x = 0) {
    auto program = std::make_shared<Peer>(std::move(command));
    if (!program->trouble().empty()) {
      left_out_.emplace_back(std::move(name), program->trouble());
      return;
    }
    add(Kind::peer, std::move(name), [program, request = std::move(request), convert = std::move(convert)] {
      Samples samples = program->round(request);
      for (double& sample : samples) sample = convert(sample);
      return samples;
    }, x);
  }

  void run(int rounds) {
    for (int round = 0; round <= rounds; ++round) {
      for (std::size_t n = 0; n < contestants_.size(); ++n) {
        Contestant& contestant = contestants_[(n + static_cast<std::size_t>(round)) % contestants_.size()];
        if (!contestant.round) continue;
        try {
          const Samples samples = contestant.round();
          if (round > 0) contestant.samples.insert(contestant.samples.end(), samples.begin(), samples.end());
        } catch (const PeerGone& gone) {
          left_out_.emplace_back(contestant.name, gone.what());
          contestant.round = nullptr;
          contestant.samples.clear();
        }
      }
    }
    for (Contestant& contestant : contestants_) {
      contestant.round = nullptr;  // ends a peer
      std::sort(contestant.samples.begin(), contestant.samples.end());
    }
    std::erase_if(contestants_, [](const Contestant& contestant) { return contestant.samples.empty(); });
  }

  /// The mark is missing when one of the two was left out.
  void mark_ratio(std::string what, std::string_view over, std::string_view under, bool at_most, double bound, double x = 0,
                  double x_under = -1) {
    const Contestant* top = find(over, x);
    const Contestant* bottom = find(under, x_under < 0 ? x : x_under);
    if (top != nullptr && bottom != nullptr) {
      marks_.push_back({std::move(what), median(*top) / median(*bottom), "x", at_most, bound});
    }
  }
  void mark_value(std::string what, std::string_view name, bool at_most, double bound, double x = 0) {
    if (const Contestant* contestant = find(name, x)) {
      marks_.push_back({std::move(what), median(*contestant), unit_, at_most, bound});
    }
  }

  /// Of the contestants with this name, whatever they vary: the largest median against the smallest.
  void mark_spread(std::string what, std::string_view name, double bound) {
    double least = 0;
    double most = 0;
    for (const Contestant& contestant : contestants_) {
      if (contestant.name != name) continue;
      least = least == 0 ? median(contestant) : std::min(least, median(contestant));
      most = std::max(most, median(contestant));
    }
    if (least > 0) marks_.push_back({std::move(what), most / least, "x", true, bound});
  }

  static double median(const Contestant& contestant) { return contestant.samples[contestant.samples.size() / 2]; }
  /// What 99 of 100 samples are better than.
  double p99(const Contestant& contestant) const {
    const std::size_t count = contestant.samples.size();
    const std::size_t bad = std::max<std::size_t>(1, count / 100);
    return contestant.samples[better_ == Better::less ? count - bad : bad - 1];
  }

  const std::string& id() const { return id_; }
  const std::string& title() const { return title_; }
  const std::string& unit() const { return unit_; }
  Better better() const { return better_; }
  const std::string& x_unit() const { return x_unit_; }
  const std::vector<Contestant>& contestants() const { return contestants_; }
  const std::vector<std::pair<std::string, std::string>>& left_out() const { return left_out_; }
  const std::vector<Mark>& marks() const { return marks_; }

 private:
  const Contestant* find(std::string_view name, double x) const {
    for (const Contestant& contestant : contestants_) {
      if (contestant.name == name && contestant.x == x) return &contestant;
    }
    return nullptr;
  }

  std::string id_;
  std::string title_;
  std::string unit_;
  Better better_;
  std::string x_unit_;
  std::vector<Contestant> contestants_;
  std::vector<std::pair<std::string, std::string>> left_out_;
  std::vector<Mark> marks_;
};

// ---- what is printed --------------------------------------------------------------------------------------------------

inline std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value >= 1000 ? "%.0f" : value >= 10 ? "%.1f" : "%.3g", value);
  return text;
}

/// 65536 of "bytes" is 64 KiB.
inline std::string with_unit(double x, std::string_view unit) {
  if (unit == "MiB" && x >= 1024) return number(x / 1024) + " GiB";
  if (unit != "bytes") return number(x) + ' ' + std::string(unit);
  std::ostringstream text;
  text << (x >= 1 << 20 ? x / (1 << 20) : x / 1024) << (x >= 1 << 20 ? " MiB" : " KiB");
  return text.str();
}

inline std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c < ' ' && c >= 0 ? ' ' : c;
  }
  return out + '"';
}

inline void print_table(const Row& row) {
  std::printf("\n%s [%s, %s is better]\n", row.title().c_str(), row.unit().c_str(),
              row.better() == Better::less ? "less" : "more");
  std::printf("  %-52s %9s %12s %12s %9s %8s\n", "", "", "median", "p99", "to brood", "samples");
  for (const Contestant& each : row.contestants()) {
    const auto same = std::find_if(row.contestants().begin(), row.contestants().end(), [&](const Contestant& other) {
      return other.kind == Kind::brood && other.x == each.x;
    });
    const bool comparable = same != row.contestants().end();
    std::printf("  %-52s %9s %12s %12s %9s %8zu\n", each.name.c_str(),
                row.x_unit().empty() ? "" : with_unit(each.x, row.x_unit()).c_str(),
                number(Row::median(each)).c_str(), number(row.p99(each)).c_str(),
                comparable ? number(Row::median(each) / Row::median(*same)).c_str() : "", each.samples.size());
  }
  for (const auto& [name, why] : row.left_out()) std::printf("  left out: %s: %s\n", name.c_str(), why.c_str());
  for (const Mark& mark : row.marks()) {
    std::printf("  %-6s %s: %s %s (%s %s)\n", mark.kept() ? "kept" : "MISSED", mark.what.c_str(), number(mark.value).c_str(),
                mark.unit.c_str(), mark.at_most ? "at most" : "at least", number(mark.bound).c_str());
  }
  std::fflush(stdout);
}

inline void write_json(std::ostream& out, const Row& row) {
  out.precision(9);
  out << "{\"id\": " << quoted(row.id()) << ", \"title\": " << quoted(row.title()) << ", \"unit\": " << quoted(row.unit())
      << ", \"better\": \"" << (row.better() == Better::less ? "less" : "more") << "\", \"x_unit\": " << quoted(row.x_unit())
      << ",\n \"contestants\": [";
  const char* comma = "";
  for (const Contestant& each : row.contestants()) {
    out << comma << "\n  {\"name\": " << quoted(each.name) << ", \"kind\": \""
        << (each.kind == Kind::brood ? "brood" : each.kind == Kind::limit ? "limit" : "peer") << "\", \"x\": " << each.x
        << ", \"median\": " << Row::median(each) << ", \"p99\": " << row.p99(each) << ", \"samples\": " << each.samples.size()
        << "}";
    comma = ",";
  }
  out << "],\n \"left_out\": [";
  comma = "";
  for (const auto& [name, why] : row.left_out()) {
    out << comma << "{\"name\": " << quoted(name) << ", \"why\": " << quoted(why) << "}";
    comma = ", ";
  }
  out << "],\n \"marks\": [";
  comma = "";
  for (const Mark& mark : row.marks()) {
    out << comma << "\n  {\"what\": " << quoted(mark.what) << ", \"value\": " << mark.value << ", \"unit\": " << quoted(mark.unit)
        << ", \"sense\": \"" << (mark.at_most ? "at most" : "at least") << "\", \"bound\": " << mark.bound
        << ", \"kept\": " << (mark.kept() ? "true" : "false") << "}";
    comma = ",";
  }
  out << "]}\n";
}

// ---- the program ------------------------------------------------------------------------------------------------------

struct Benchmark {
  const char* id;
  void (*run)(Row& row, Size size);  // adds contestants, runs them, sets the marks
  const char* title;
  const char* unit;
  Better better = Better::less;
  const char* x_unit = "";  // of what the row varies
};

/// PROGRAM [--quick | --smoke] [--list] [--only ID] [--json FILE]; a row is appended to FILE as one JSON object.
inline int run_all(int argc, char** argv, const std::vector<Benchmark>& benchmarks) {
  Size size = Size::full;
  std::string only;
  std::string json;
  for (int n = 1; n < argc; ++n) {
    const std::string_view option = argv[n];
    if (option == "--quick") {
      size = Size::quick;
    } else if (option == "--smoke") {
      size = Size::smoke;
    } else if (option == "--list") {
      for (const Benchmark& each : benchmarks) std::printf("%s\n", each.id);
      return 0;
    } else if (option == "--only" && n + 1 < argc) {
      only = argv[++n];
    } else if (option == "--json" && n + 1 < argc) {
      json = argv[++n];
    } else {
      std::fprintf(stderr, "usage: %s [--quick | --smoke] [--list] [--only ID] [--json FILE]\n", argv[0]);
      return 2;
    }
  }
  bool found = false;
  for (const Benchmark& each : benchmarks) {
    if (!only.empty() && only != each.id) continue;
    found = true;
    Row row(each.id, each.title, each.unit, each.better, each.x_unit);
    try {
      each.run(row, size);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s: %s: %s\n", argv[0], each.id, error.what());
      return 1;
    }
    print_table(row);
    if (json.empty()) continue;
    std::ofstream out(json, std::ios::app);
    write_json(out, row);
    if (!out.flush()) {
      std::fprintf(stderr, "%s: can't write %s\n", argv[0], json.c_str());
      return 1;
    }
  }
  if (!found) std::fprintf(stderr, "%s: there is no row '%s'; --list tells which there are\n", argv[0], only.c_str());
  return found ? 0 : 2;
}

}  // namespace bench
