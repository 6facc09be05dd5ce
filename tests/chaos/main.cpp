// SPDX-License-Identifier: MIT
// brood_chaos: the promises of docs/reliability.md, tried hard. Repeatable by its seed as far as the machine's timing is.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <brood/brood.hpp>

#include "chaos/host.hpp"
#include "chaos/options.hpp"
#include "chaos/ours.hpp"
#include "chaos/watchdog.hpp"
#include "support/child.hpp"

namespace chaos {

// Futures don't show their tasks; how often a task is resolved can't be seen otherwise. An explicit instantiation may
// name a private member.
namespace {
brood::detail::TaskPtr open_task(const brood::Future<std::uint64_t>& future);
template <auto member>
struct Opened {
  friend brood::detail::TaskPtr open_task(const brood::Future<std::uint64_t>& future) { return future.*member; }
};
template struct Opened<&brood::Future<std::uint64_t>::task_>;
}  // namespace

brood::detail::TaskPtr task_of(const brood::Future<std::uint64_t>& future) { return open_task(future); }

namespace {

std::vector<Mode> modes() {
  return {kills(), growth(), deadlines(), shutdown(), host_death(), cycles(), dead_writes(), sizes(), signals(), busy_programs()};
}

const Mode& find_mode(const std::vector<Mode>& all, std::string_view name) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Mode& mode) { return mode.name == name; });
  if (found == all.end()) throw std::invalid_argument("there is no mode '" + std::string(name) + "'");
  return *found;
}

bool has_word(std::string_view words, const std::string& word) {
  std::istringstream in{std::string(words)};
  for (std::string each; in >> each;) {
    if (each == word) return true;
  }
  return false;
}

void print_usage(std::ostream& out) {
  out << "Usage: brood_chaos MODE [options]\n\nEnds with 1 when a promise was broken, with 3 when nothing goes on.\n\nModes\n";
  for (const Mode& mode : modes()) {
    out << "  " << mode.name << std::string(14 - mode.name.size(), ' ') << mode.what << '\n';
    std::istringstream words{std::string(mode.takes)};
    out << std::string(16, ' ');
    for (std::string each; words >> each;) out << "--" << each << " N  ";
    out << '\n' << std::string(16, ' ') << "faults: " << mode.injects << '\n';
  }
  out << R"(  self-test     injects each fault into each mode: the report must show it

Every mode takes
  --policy fork|spawn|server|all
  --seed N        what is random follows from it (default 1)
  --patience N    seconds without progress after which it ends, and says who waits for whom (default 60)
  --judge-times   times and memory are judged too: for a machine that does nothing else
  --inject FAULT  does on purpose what the report must then show
  --json FILE     adds the marks to FILE, one object a line
)";
}

struct CommandLine {
  Options options;
  std::string json;
};

CommandLine read_options(const Mode& mode, int argc, char** argv) {
  CommandLine line{mode.defaults, ""};
  Options& options = line.options;
  struct Number {
    const char* name;
    unsigned* target;
    bool common;
  };
  const Number numbers[] = {{"tasks", &options.tasks, false},
                            {"rounds", &options.rounds, false},
                            {"workers", &options.workers, false},
                            {"recycle", &options.recycle, false},
                            {"kill-ms", &options.kill_ms, false},
                            {"kill-server-ms", &options.kill_server_ms, false},
                            {"mib", &options.mib, false},
                            {"jobs", &options.jobs, false},
                            {"seed", &options.seed, true},
                            {"patience", &options.patience, true}};
  for (int at = 2; at < argc; ++at) {
    const std::string name = argv[at];
    if (name == "--judge-times") {
      options.judge_times = true;
      continue;
    }
    if (!name.starts_with("--") || at + 1 >= argc) throw std::invalid_argument("'" + name + "' is no option, or needs a value");
    const std::string value = argv[++at];
    if (name == "--policy") {
      if (!has_word("fork spawn server all", value)) throw std::invalid_argument("--policy is fork, spawn, server or all");
      options.policy = value;
    } else if (name == "--inject") {
      if (!has_word(mode.injects, value)) throw std::invalid_argument("this mode has no fault '" + value + "'");
      options.inject = value;
    } else if (name == "--json") {
      line.json = value;
    } else {
      const auto* const number = std::find_if(std::begin(numbers), std::end(numbers), [&](const Number& it) {
        return name == "--" + std::string(it.name) && (it.common || has_word(mode.takes, it.name));
      });
      if (number == std::end(numbers)) throw std::invalid_argument("mode " + std::string(mode.name) + " has no option " + name);
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *number->target);
      if (error != std::errc() || end != value.data() + value.size()) throw std::invalid_argument(name + " needs a number");
    }
  }
  return line;
}

bool run(const Mode& mode, const CommandLine& line) {
  const Watchdog watchdog{std::chrono::seconds(line.options.patience)};
  bool kept = true;
  for (const Report& report : mode.run(line.options)) {
    report.print();
    if (!line.json.empty()) report.append_json(line.json);
    kept = kept && report.kept();
  }
  return kept;
}

/// Whether the watchdog ends a program that hangs, and tells of the worker that it waits for.
bool watchdog_barks() {
  const support::Ran ran = support::run_in_child([] {
    ::setpgid(0, 0);  // it kills what is in its group, or bears its mark
    mark_host();
    brood::detail::helper_threads.store(0);
    const Watchdog watchdog{std::chrono::seconds(1)};
    brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
    const Watched watched(pool);
    Watchdog::beat("a task that never ends", 7);
    pool.submit([] {
      for (;;) ::pause();
    }).wait();
    return 0;
  });
  const bool told = ran.status.exited() && ran.status.code() == 3 &&
                    ran.output.find("a task that never ends (number 7)") != std::string::npos &&
                    ran.output.find(": busy, task 1,") != std::string::npos &&
                    ran.output.find("system call") != std::string::npos;
  std::printf("%-12s %-12s %-38s %s\n", "watchdog", "hang", "who waits for whom", told ? "shown" : "NOT SHOWN");
  if (!told) std::printf("%s\n", ran.output.c_str());
  return told;
}

/// A report that can't show a fault is worth nothing: each fault must break the mark that is about it.
bool self_test() {
  struct Case {
    const char* mode;
    const char* fault;
    const char* mark;
    unsigned tasks;
    unsigned rounds;
    unsigned mib;
    unsigned kill_ms = 0;
    unsigned kill_server_ms = 0;
  };
  constexpr Case cases[] = {
      {"kills", "unresolved", "unresolved", 100, 0, 0},
      {"kills", "unheard", "resolved, but nobody was told", 100, 0, 0},
      {"kills", "twice", "resolved twice", 100, 0, 0},
      {"kills", "start", "started twice", 100, 0, 0},
      {"kills", "wrong", "wrong values", 100, 0, 0},
      {"kills", "death", "failures (at most: kills)", 100, 0, 0},
      {"kills", "otherwise", "failed otherwise than by a death", 100, 0, 0},
      {"kills", "spare", "workers killed", 100, 0, 0, 1},
      {"kills", "spare-server", "servers killed", 100, 0, 0, 0, 1},
      {"kills", "missed", "timed deaths heard of as something else", 100, 1, 0},
      {"kills", "late", "a death is heard of, p99", 100, 2, 0},
      {"kills", "leftover", "left behind", 100, 0, 0},
      {"growth", "memory", "host's memory grows by", 2000, 0, 0},
      {"growth", "descriptor", "descriptors more, in the host", 1000, 0, 0},
      {"growth", "zombie", "zombies", 1000, 0, 0},
      {"growth", "failure", "failures too many or too few", 1000, 0, 0},
      {"deadlines", "late", "busy loop: late by, p99", 1, 0, 0},
      {"deadlines", "unseen", "asleep: timed", 1, 0, 0},
      {"deadlines", "survivor", "not timed out", 1, 0, 0},
      {"deadlines", "bystander", "tasks behind them that failed", 1, 0, 0},
      {"shutdown", "slow", "a pool's end, longest", 0, 1, 1},
      {"shutdown", "slow-kill", "a pool's end, longest", 0, 1, 1},
      {"shutdown", "lost", "states not tried to the end", 0, 1, 1},
      {"shutdown", "unresolved", "unresolved", 0, 1, 1},
      {"shutdown", "leftover", "left behind", 0, 1, 1},
      {"host-death", "survivor", "hosts that something outlived", 0, 1, 0},
      {"host-death", "daemon", "hosts that something outlived", 0, 1, 0},
      {"cycles", "descriptor", "left behind", 0, 5, 0},
      {"cycles", "process", "left behind", 0, 5, 0},
      {"cycles", "orphan", "left behind", 0, 5, 0},
      {"dead-writes", "raw-write", "hosts ended by a signal", 0, 5, 1},
      {"dead-writes", "handler", "signal state changed", 0, 5, 1},
      {"sizes", "checksum", "payloads that differ", 0, 0, 1},
      {"sizes", "cap", "caps that did not hold", 0, 0, 1},
      {"signals", "calm", "handlers run in the host", 0, 3, 1},
      {"signals", "child", "handlers run elsewhere", 0, 3, 1},
      {"signals", "memory", "checksums that differ", 0, 3, 1},
      {"signals", "canary", "canaries that differ", 0, 3, 1},
      {"signals", "wrong", "wrong values", 0, 3, 1},
      {"signals", "death", "failed tasks", 0, 3, 1},
      {"signals", "kill", "hosts ended by a signal", 0, 3, 1},
      {"busy-programs", "held", "refused beside pools", 0, 20, 0},
      {"busy-programs", "idle", "programs run beside pools", 0, 20, 0},
      {"busy-programs", "wrong", "wrong values", 0, 20, 0},
  };
  const std::vector<Mode> all = modes();
  bool shown = true;
  for (const Mode& mode : all) {  // no fault may be left out
    std::istringstream faults{std::string(mode.injects)};
    for (std::string fault; faults >> fault;) {
      const auto* const found = std::find_if(std::begin(cases), std::end(cases), [&](const Case& it) {
        return it.mode == mode.name && it.fault == fault;
      });
      if (found != std::end(cases)) continue;
      std::printf("%-12s %-12s is not tried here\n", std::string(mode.name).c_str(), fault.c_str());
      shown = false;
    }
  }
  shown = watchdog_barks() && shown;
  const Watchdog watchdog(std::chrono::seconds(60));
  leaving_patience = 200ms;  // what is left behind here stays
  for (const Case& each : cases) {
    const Mode& mode = find_mode(all, each.mode);
    Options options = mode.defaults;
    options.policy = "server";
    options.tasks = each.tasks;
    options.rounds = each.rounds;
    options.mib = each.mib;
    options.workers = 2;
    options.kill_ms = each.kill_ms;
    options.kill_server_ms = each.kill_server_ms;
    options.patience = 1;
    options.judge_times = true;
    options.inject = each.fault;
    const std::vector<Report> reports = mode.run(options);
    const bool seen = std::any_of(reports.begin(), reports.end(), [&](const Report& it) { return it.broken(each.mark); });
    std::printf("%-12s %-12s %-38s %s\n", each.mode, each.fault, each.mark, seen ? "shown" : "NOT SHOWN");
    std::fflush(stdout);
    if (!seen) {
      for (const Report& report : reports) report.print();
    }
    shown = shown && seen;
  }
  return shown;
}

}  // namespace
}  // namespace chaos

int main(int argc, char** argv) try {
  chaos::mark_run(argv);
  brood::init(argc, argv);
  const std::string_view name = argc > 1 ? argv[1] : "--help";
  if (name == "--help" || name == "-h") {
    chaos::print_usage(std::cout);
    return argc > 1 ? 0 : 2;
  }
  ::setpgid(0, 0);
  ::signal(SIGPIPE, SIG_DFL);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  if (name == "self-test") return chaos::self_test() ? 0 : 1;
  const std::vector<chaos::Mode> all = chaos::modes();
  const chaos::Mode& mode = chaos::find_mode(all, name);
  return chaos::run(mode, chaos::read_options(mode, argc, argv)) ? 0 : 1;
} catch (const std::exception& error) {
  std::cout.flush();
  std::cerr << "brood_chaos: " << error.what() << "; see brood_chaos --help\n";
  return 2;
}
