// SPDX-License-Identifier: MIT
// Checks the spelling of text files, each in a fresh worker process, under three start methods. Every worker needs the
// same dictionary, and that takes a noticeable time to build. The tasks are the same for all three; the policies differ
// in where the dictionary comes from, and the table that is printed in the end shows what that means.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

#include "spell_dictionary.hpp"
#include "spell_input.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// ---- The tasks. They run in workers --------------------------------------------------------------------------------

// What travels back. Plain structs need nothing to be serialized.
struct Unknown {
  std::string word;
  std::vector<std::string> suggestions;
  std::size_t distance = 3;  // of the suggestions; 3 is far
  bool operator==(const Unknown&) const = default;
};
struct Report {
  std::size_t words = 0;
  std::vector<Unknown> unknown;  // those first that are most likely misspelt
  bool operator==(const Report&) const = default;
};

/// The nearer a known word and the longer, the more likely a word is misspelt.
bool more_suspicious(const Unknown& a, const Unknown& b) {
  return std::tuple(a.distance, b.word.size(), a.word) < std::tuple(b.distance, a.word.size(), b.word);
}

/// Looks up the words of one file. In the worker, preloaded<Dictionary>() is
///   under ForkPolicy        what the host had built before the pool was made: the worker is a copy of the host;
///   under SpawnPolicy       built now: the worker is a new process and has nothing yet;
///   under ForkServerPolicy  what the pool's server has built: the worker is a copy of that server.
Report check_file(const std::string& path) {
  const std::string text = read_text(path);  // if this throws, Future::get throws it in the host
  const auto& dictionary = brood::preloaded<Dictionary>();
  Report report;
  std::set<std::string> unknown;
  for_each_word(text, [&](const std::string& word) {
    ++report.words;
    const bool is_plural = word.ends_with('s') && dictionary.has(word.substr(0, word.size() - 1));
    if (!is_plural && !dictionary.has(word)) unknown.insert(word);
  });
  for (const std::string& word : unknown) {
    Unknown& entry = report.unknown.emplace_back();
    entry.word = word;
    for (const Dictionary::Suggestion& each : dictionary.suggest(word)) {
      entry.distance = each.distance;
      entry.suggestions.push_back(each.word);
    }
  }
  std::sort(report.unknown.begin(), report.unknown.end(), more_suspicious);
  return report;
}

/// Next to nothing to do, but it needs the dictionary: the time that it takes is the worker's.
bool is_known(const std::string& word) { return brood::preloaded<Dictionary>().has(word); }

// ---- The job. The same for every policy ----------------------------------------------------------------------------

/// Tells on stderr how far things are: a line that is rewritten on a terminal, now and then a new line elsewhere.
class Progress {
 public:
  explicit Progress(std::string what) : what_(std::move(what)) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() {
    if (terminal_) std::cerr << "\r\033[K" << std::flush;
  }

  void show(const std::string& state) {
    const auto now = Clock::now();
    if (now - last_ < (terminal_ ? std::chrono::milliseconds(50) : std::chrono::seconds(5))) return;
    last_ = now;
    std::cerr << (terminal_ ? "\r\033[K" : "") << what_ << ": " << state << (terminal_ ? "" : "\n") << std::flush;
  }

 private:
  std::string what_;
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  Clock::time_point last_;
};

/// What became of a file: a report, or why there is none.
struct Checked {
  Report report;
  std::string problem;
  bool operator==(const Checked&) const = default;
};

struct Run {
  std::string policy;
  std::uint64_t workers = 0;  // started for the files
  Seconds start_up{0};        // paid once
  Seconds first_result{0};    // the median time from a request to its result in a fresh worker
  Seconds total{0};           // start-up and all files
  std::vector<Checked> files;
};

/// One request at a time, each for a fresh worker; for three seconds or 101 requests.
template <class Policy>
Seconds median_first_result(brood::Pool<Policy>& pool, Progress& progress) {
  std::vector<Seconds> times;
  const auto start = Clock::now();
  while (times.size() < 5 || (times.size() < 101 && Clock::now() - start < std::chrono::seconds(3))) {
    progress.show("measuring the time to a first result");
    const auto request = Clock::now();
    pool.submit(&is_known, "brood").get();
    times.emplace_back(Clock::now() - request);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

template <class Policy>
Run run(const std::string& name, const std::vector<std::string>& paths, void (*prepare)()) {
  Progress progress(name);
  progress.show("starting");
  Run result;
  result.policy = name;

  const auto start = Clock::now();
  prepare();
  brood::PoolOptions options;
  options.tasks_per_worker = 1;  // a fresh worker for every file
  brood::Pool<Policy> pool(options);
  result.start_up = Clock::now() - start;

  std::vector<brood::Future<Report>> futures;
  for (const std::string& path : paths) futures.push_back(pool.submit(&check_file, path));
  for (const brood::Future<Report>& future : futures) {
    while (!future.wait_for(std::chrono::milliseconds(100))) {
      const brood::PoolStats stats = pool.stats();
      progress.show(std::to_string(stats.done + stats.failed) + " of " + std::to_string(paths.size()) + " files");
    }
    Checked& checked = result.files.emplace_back();
    try {
      checked.report = future.get();
    } catch (const std::exception& error) {
      checked.problem = error.what();
    }
  }
  result.total = Clock::now() - start;
  result.workers = pool.stats().workers_started;
  result.first_result = median_first_result(pool, progress);
  return result;
}

std::vector<Run> run_all(const std::vector<std::string>& paths) {
  return {
      // The host builds the dictionary, and its copies have it. The exec'ed processes of the others don't.
      run<brood::ForkPolicy>("ForkPolicy", paths, [] { brood::preloaded<Dictionary>(); }),
      run<brood::SpawnPolicy>("SpawnPolicy", paths, [] {}),
      run<brood::ForkServerPolicy<Dictionary>>("ForkServerPolicy", paths, [] {}),
  };
}

// ---- What is printed -----------------------------------------------------------------------------------------------

std::string to_text(Seconds time) {
  char text[32];
  const bool is_short = time < Seconds(1);
  std::snprintf(text, sizeof text, is_short ? "%.1f ms" : "%.2f s", is_short ? time.count() * 1000 : time.count());
  return text;
}

std::string to_text(const Unknown& unknown, std::size_t most_suggestions) {
  std::string text = unknown.word;
  const std::size_t count = std::min(unknown.suggestions.size(), most_suggestions);
  for (std::size_t i = 0; i < count; ++i) text += (i == 0 ? " -> " : ", ") + unknown.suggestions[i];
  return text;
}

/// As many unknown words of a file as fit in a line, each with its best suggestion.
std::string one_line(const std::string& path, const std::vector<Unknown>& unknown) {
  std::string line = path + ':';
  for (const Unknown& each : unknown) {
    const std::string next = (line.ends_with(':') ? " " : "; ") + to_text(each, 1);
    if (line.size() + next.size() > 74 && !line.ends_with(':')) return line + "; ...";
    line += next;
  }
  return line;
}

/// All unknown words, or those of the files with the most suspicious ones.
void print_results(const Input& input, const std::vector<Checked>& files, bool all) {
  constexpr std::size_t most_lines = 10;
  const std::vector<std::string>& paths = input.paths;
  std::size_t words = 0;
  std::size_t unknown = 0;
  std::size_t problems = 0;
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < files.size(); ++i) {
    words += files[i].report.words;
    unknown += files[i].report.unknown.size();
    if (!files[i].report.unknown.empty()) order.push_back(i);
    if (files[i].problem.empty()) continue;
    ++problems;
    std::cerr << "spell: " << paths[i] << ": " << files[i].problem << '\n';
  }
  if (all) {
    for (const std::size_t i : order) {
      for (const Unknown& each : files[i].report.unknown) std::cout << paths[i] << ": " << to_text(each, 3) << '\n';
    }
  } else {
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      const Unknown& worst_of_a = files[a].report.unknown.front();
      const Unknown& worst_of_b = files[b].report.unknown.front();
      return worst_of_a.word == worst_of_b.word ? a < b : more_suspicious(worst_of_a, worst_of_b);
    });
    for (std::size_t n = 0; n < std::min(order.size(), most_lines); ++n) {
      std::cout << one_line(paths[order[n]], files[order[n]].report.unknown) << '\n';
    }
    if (order.size() > most_lines) std::cout << "... and " << order.size() - most_lines << " more files (--all)\n";
  }
  const std::size_t checked = files.size() - problems;
  problems += input.refused;
  std::cout << '\n'
            << checked << (checked == 1 ? " file, " : " files, ") << words << " words, " << unknown << " unknown";
  if (problems != 0) std::cout << "; " << problems << (problems == 1 ? " file" : " files") << " could not be checked";
  std::cout << "\n\n";
}

/// Prints the comparison. Returns whether all policies came to the same results.
bool print_table(const std::vector<Run>& runs) {
  constexpr const char* row = "%-16s  %7s  %10s  %13s  %9s  %7s\n";
  std::puts("Each file in a fresh worker:");
  std::printf(row, "", "workers", "start-up,", "request to", "total", "same");
  std::printf(row, "policy", "started", "paid once", "first result", "time", "results");
  bool all_agree = true;
  for (const Run& each : runs) {
    const bool agrees = each.files == runs.front().files;
    all_agree = all_agree && agrees;
    std::printf(row, each.policy.c_str(), std::to_string(each.workers).c_str(), to_text(each.start_up).c_str(),
                to_text(each.first_result).c_str(), to_text(each.total).c_str(), agrees ? "yes" : "NO");
  }
  return all_agree;
}

/// What the numbers say, in a sentence.
void print_conclusion(const Run& spawn, const Run& server) {
  const double factor = spawn.first_result / server.first_result;
  if (factor < 2) {
    std::cout << "\nPreloading makes little difference here: this dictionary is built too fast.\n";
    return;
  }
  std::printf(
      "\nWith the dictionary built once, in the fork server, a fresh worker gives its\n"
      "first result after %s instead of %s: %.0f times as fast as a spawned\n"
      "one, and unlike under ForkPolicy this program and its memory are never copied.\n",
      to_text(server.first_result).c_str(), to_text(spawn.first_result).c_str(), factor);
}

// ---- The command line ----------------------------------------------------------------------------------------------

constexpr const char* usage = R"(Usage: spell [--words FILE] [--files N] [--all] [FILE | FOLDER]...

Prints the words that text files have and a word list has not, with suggestions, and
compares three ways of starting the worker processes that look them up. Names, short
words, and what has digits or signs in it are passed over.

  FILE, FOLDER   what to check; without any, the licence texts and documentation
                 found on this machine
  --words FILE   a word list, one word a line (default: /usr/share/dict/words, from
                 Debian's package wamerican)
  --files N      check at most so many files (default: 40)
  --all          print every unknown word, with up to three suggestions

Ends with code 0 when all ways had the same results, 1 when not, 2 when it can't run.
)";

struct Arguments {
  std::size_t most_files = 40;
  bool all = false;
  bool help = false;
  std::vector<std::string> paths;
};

/// Throws std::invalid_argument.
Arguments read_arguments(int argc, char** argv) {
  Arguments result;
  bool options = true;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const bool has_value = argument == "--words" || argument == "--files";
    if (!options || !argument.starts_with("-")) {
      result.paths.emplace_back(argument);
    } else if (has_value && i + 1 == argc) {
      throw std::invalid_argument(std::string(argument) + " needs a value");
    } else if (argument == "--words") {
      word_list = argv[++i];
    } else if (argument == "--files") {
      const std::string_view value = argv[++i];
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result.most_files);
      if (error != std::errc() || end != value.data() + value.size() || result.most_files == 0) {
        throw std::invalid_argument("--files needs a number from 1, not '" + std::string(value) + "'");
      }
    } else if (argument == "--all") {
      result.all = true;
    } else if (argument == "--help" || argument == "-h") {
      result.help = true;
    } else if (argument == "--") {
      options = false;
    } else {
      throw std::invalid_argument("there is no option " + std::string(argument));
    }
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) try {
  // What main does before init happens in servers and spawned workers too: they are started with the same arguments.
  // This is how each of them knows the word list before it builds a Dictionary.
  const Arguments arguments = read_arguments(argc, argv);
  brood::init(argc, argv);

  if (arguments.help) {
    std::cout << usage;
    return 0;
  }
  if (!fs::is_regular_file(word_list) || ::access(word_list.c_str(), R_OK) != 0) {
    throw std::invalid_argument("there is no word list " + word_list +
                                " that can be read; name one with --words, or install Debian's package wamerican");
  }
  const Input input = choose_files(arguments.paths, arguments.most_files);
  if (input.paths.empty()) throw std::invalid_argument("there are no files to check");

  const std::vector<Run> runs = run_all(input.paths);
  print_results(input, runs.front().files, arguments.all);
  const bool all_agree = print_table(runs);
  print_conclusion(runs[1], runs[2]);
  return all_agree ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << "spell: " << error.what() << " (spell --help tells more)\n";
  return 2;
}
