// SPDX-License-Identifier: MIT
// PoolOptions::trace and BROOD_TRACE: the Chrome trace event format.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using Server = brood::ForkServerPolicy<>;

int add_one(int n) { return n + 1; }
int die(int signal) { return ::raise(signal); }
int use_a_pool_inside(int n) {
  brood::Pool<Server> pool({.workers = 1});
  return pool.submit(&add_one, n).get();
}
/// A JSON value, read strictly: what RFC 8259 does not allow is an error.
struct Json {
  std::string text;  ///< of a string; of a number as it is written
  char kind = 0;     ///< '[', '{', '"', '0' for a number
  std::vector<Json> items;
  std::map<std::string, Json> members;

  const Json& operator[](const std::string& key) const { return members.at(key); }
  bool has(const std::string& key) const { return members.count(key) != 0; }
  double number() const { return std::stod(text); }
};

class JsonReader {
 public:
  explicit JsonReader(const std::string& text) : text_(text) {}

  Json whole() {
    Json value = next();
    skip();
    require(at_ == text_.size(), "something behind the end");
    return value;
  }

 private:
  void require(bool holds, const std::string& what) const {
    if (!holds) throw std::runtime_error("at byte " + std::to_string(at_) + ": " + what);
  }
  void skip() {
    while (at_ < text_.size() && std::string(" \t\r\n").find(text_[at_]) != std::string::npos) ++at_;
  }
  char peek() {
    skip();
    require(at_ < text_.size(), "the text ends early");
    return text_[at_];
  }
  void take(char wanted) {
    require(peek() == wanted, std::string("no ") + wanted);
    ++at_;
  }
  Json next() {
    Json value;
    const char first = peek();
    value.kind = first == '[' || first == '{' || first == '"' ? first : '0';
    switch (first) {
      case '[':
        take('[');
        if (peek() != ']') {
          value.items.push_back(next());
          while (peek() == ',') {
            take(',');
            value.items.push_back(next());
          }
        }
        take(']');
        return value;
      case '{':
        take('{');
        if (peek() != '}') {
          member(value);
          while (peek() == ',') {
            take(',');
            member(value);
          }
        }
        take('}');
        return value;
      case '"': value.text = string(); return value;
      default: {
        const std::size_t begin = at_;
        while (at_ < text_.size() && std::string("+-.0123456789eE").find(text_[at_]) != std::string::npos) ++at_;
        value.text = text_.substr(begin, at_ - begin);
        std::size_t used = 0;
        require(!value.text.empty(), "no value");
        static_cast<void>(std::stod(value.text, &used));
        require(used == value.text.size(), "no number");
        require(value.text[0] != '0' || value.text.size() == 1 || value.text[1] == '.', "a number that begins with 0");
        return value;
      }
    }
  }
  void member(Json& into) {
    require(peek() == '"', "no key");
    const std::string key = string();
    take(':');
    require(into.members.emplace(key, next()).second, "a key twice: " + key);
  }
  std::string string() {
    take('"');
    std::string value;
    for (; require(at_ < text_.size(), "an open string"), text_[at_] != '"'; ++at_) {
      const auto c = static_cast<unsigned char>(text_[at_]);
      require(c >= 0x20, "a control character");
      if (c != '\\') {
        const std::size_t size = brood::detail::utf8_length(std::string_view(text_).substr(at_));
        require(size != 0, "no UTF-8");
        value += text_.substr(at_, size);
        at_ += size - 1;
        continue;
      }
      require(++at_ < text_.size(), "an open string");
      if (text_[at_] == 'u') {
        require(at_ + 4 < text_.size(), "an open string");
        value += "\\u" + text_.substr(at_ + 1, 4);
        at_ += 4;
      } else {
        require(std::string("\"\\/bfnrt").find(text_[at_]) != std::string::npos, "an unknown escape");
        value += text_[at_];
      }
    }
    ++at_;
    return value;
  }

  const std::string& text_;
  std::size_t at_ = 0;
};

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE_MESSAGE(in.good(), path.string());
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// What the Trace Event Format (the document of Google's Trace Viewer, which Perfetto follows) asks of an array of events.
void check_format(const std::vector<Json>& events) {
  std::map<std::pair<std::string, std::string>, double> open;  // asynchronous events that have begun, by category and id
  for (const Json& each : events) {
    REQUIRE(each.kind == '{');
    const std::string phase = each["ph"].text;
    CAPTURE(phase);
    CHECK((each["ph"].kind == '"' && each["name"].kind == '"' && !each["name"].text.empty()));
    for (const char* const number : {"pid", "tid"}) CHECK((each[number].kind == '0' && each[number].text.find_first_not_of("0123456789") == std::string::npos));
    CHECK((!each.has("args") || each["args"].kind == '{'));
    if (phase == "M") {
      const std::string name = each["name"].text;
      if (name == "thread_sort_index") {
        CHECK(each["args"]["sort_index"].kind == '0');
      } else {
        CHECK((name == "process_name" || name == "thread_name"));
        CHECK(each["args"]["name"].kind == '"');
      }
      continue;
    }
    CHECK((each["cat"].kind == '"' && each["ts"].kind == '0' && each["ts"].number() >= 0));
    if (phase == "X") {
      CHECK((each["dur"].kind == '0' && each["dur"].number() >= 0));
    } else if (phase == "i") {
      CHECK((each["s"].text == "t" || each["s"].text == "p" || each["s"].text == "g"));
    } else if (phase == "b") {
      CHECK(open.emplace(std::pair(each["cat"].text, each["id"].text), each["ts"].number()).second);
    } else {
      REQUIRE(phase == "e");
      const auto begun = open.find({each["cat"].text, each["id"].text});
      REQUIRE(begun != open.end());
      CHECK(begun->second <= each["ts"].number());
      open.erase(begun);
    }
  }
  CHECK(open.empty());
}

std::vector<Json> events_of(const std::filesystem::path& path) {
  const std::string text = read(path);
  try {
    const std::vector<Json> events = JsonReader(text).whole().items;
    check_format(events);
    return events;
  } catch (const std::exception& error) {
    FAIL("no JSON, " << error.what() << ":\n" << text);
    return {};
  }
}

/// Those of a phase whose name has that in it.
std::vector<Json> only(const std::vector<Json>& events, const std::string& phase, const std::string& name) {
  std::vector<Json> found;
  for (const Json& each : events) {
    if (each["ph"].text == phase && each["name"].text.find(name) != std::string::npos) found.push_back(each);
  }
  return found;
}

/// A folder that goes with its test.
struct Folder {
  Folder() {
    std::filesystem::remove_all(path);
    std::filesystem::create_directory(path);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path); }

  std::string file(const std::string& name) const { return (path / name).string(); }
  static inline int count = 0;
  /// Another for each: a process does not write a trace twice.
  std::filesystem::path path = "/tmp/brood_trace_" + std::to_string(::getpid()) + "_" + std::to_string(++count);
};

}  // namespace

TEST_CASE("a trace has each worker's start, tasks and death, and the times in the queue") {
  const support::Leftovers audit;
  const Folder folder;
  const std::string path = folder.file("trace.json");
  std::vector<brood::TaskId> ids;
  {
    brood::Pool<Server> pool({.workers = 2, .name = "a \"pool\"\\\n\xff", .trace = path});
    std::vector<brood::Future<int>> futures;
    for (int n = 0; n < 20; ++n) futures.push_back(pool.submit(&add_one, n));
    for (const auto& each : futures) {
      each.wait();
      ids.push_back(each.id());
    }
    CHECK_FALSE(pool.submit(&die, SIGKILL).outcome().has_value());
    CHECK_THROWS_AS(pool.submit([] { throw std::runtime_error("a \"quote\""); }).get(), std::runtime_error);
    pool.map(&add_one, std::vector<int>(100), {.chunk_size = 10});
  }
  const std::vector<Json> events = events_of(path);
  std::map<std::string, double> row_ends;
  std::set<std::string> seen;
  for (const Json& each : events) {
    CHECK(each["pid"].text == std::to_string(::getpid()));
    if (each["ph"].text != "M") CHECK(each["ts"].number() > 0);
  }
  const auto tasks = only(events, "X", "add_one(int)");
  CHECK(tasks.size() == 30);
  for (const Json& each : tasks) {
    CHECK(each["args"]["outcome"].text == "value");
    CHECK(each["args"]["bytes_sent"].number() > 0);
    CHECK(each["args"]["bytes_received"].number() > 0);
    seen.insert(each["args"]["id"].text);
  }
  for (const brood::TaskId id : ids) CHECK(seen.count(std::to_string(id)) == 1);
  // what a worker runs one after the other does not overlap in its row
  std::vector<Json> complete;
  for (const Json& each : events) {
    if (each["ph"].text == "X") complete.push_back(each);
  }
  std::sort(complete.begin(), complete.end(),
            [](const Json& a, const Json& b) { return a["ts"].number() < b["ts"].number(); });
  for (const Json& each : complete) {
    if (each["name"].text == "start") continue;  // a start hook's time, and the first task waits for it
    double& end = row_ends[each["tid"].text];
    CHECK_MESSAGE(each["ts"].number() >= end - 0.128, each["name"].text);  // a start is known in units of 64 ns
    end = each["ts"].number() + each["dur"].number();
  }
  CHECK(only(events, "X", "start").size() >= 2);
  const auto deaths = only(events, "i", "death");
  REQUIRE(deaths.size() == 1);
  CHECK(deaths[0]["args"]["how"].text.find("SIGKILL") != std::string::npos);
  const auto dead = only(events, "X", "die(int)");
  REQUIRE(dead.size() == 1);
  CHECK(dead[0]["args"]["outcome"].text == "worker died");
  CHECK(dead[0]["tid"].text == deaths[0]["tid"].text);
  CHECK(only(events, "b", "add_one").size() == 30);
  CHECK(only(events, "e", "add_one").size() == 30);
  CHECK(only(events, "M", "thread_name").size() == 3);  // the pool and two workers
  const auto process = only(events, "M", "process_name");
  REQUIRE(process.size() == 1);
  CHECK(process[0]["args"]["name"].text.rfind("a \"pool\"\\\\u000a\\ufffd", 0) == 0);
}

TEST_CASE("a trace shows tasks that were cancelled, killed or run again, and closures") {
  const support::Leftovers audit;
  const Folder folder;
  const std::string path = folder.file("trace.json");
  const support::Gate gate;
  {
    brood::Pool<Server> pool({.workers = 1, .trace = path});
    auto running = pool.submit(&support::wait_for_gate, gate.path(), 1);
    REQUIRE(support::wait_until_running(pool, 1));
    auto waiting = pool.submit(&add_one, 1);
    CHECK(waiting.cancel());
    CHECK(running.cancel());
    running.wait();
    CHECK_FALSE(pool.submit({.retries = 2}, &die, SIGKILL).outcome().has_value());
  }
  const std::vector<Json> events = events_of(path);
  REQUIRE(only(events, "X", "wait_for_gate").size() == 1);
  CHECK(only(events, "X", "wait_for_gate")[0]["args"]["outcome"].text == "cancelled");
  CHECK(only(events, "i", "add_one").size() == 1);
  CHECK(only(events, "X", "die(int)").size() == 3);
#if !BROOD_TEST_HAS_THREAD_SANITIZER
  const std::string closures = folder.file("closures");
  {
    brood::Pool<brood::ForkPolicy> pool({.workers = 1, .trace = closures});
    int base = 5;
    CHECK(pool.submit([&] { return base; }).get() == 5);
  }
  bool row = false;
  for (const Json& each : only(events_of(closures), "M", "thread_name")) {
    row = row || each["args"]["name"].text == "closure worker 0";
  }
  CHECK(row);
#endif
}

TEST_CASE("a trace of InlinePolicy has what its callers have run") {
  const support::Leftovers audit;
  const Folder folder;
  {
    brood::Pool<brood::InlinePolicy> pool({.trace = folder.file("t.json")});
    CHECK(pool.submit(&add_one, 1).get() == 2);
  }
  CHECK(only(events_of(folder.file("t.json")), "X", "add_one").size() == 1);
}

TEST_CASE("BROOD_TRACE traces every pool of a program, each into a file of its own") {
  const support::Leftovers audit;
  const Folder folder;
  ::setenv("BROOD_TRACE", folder.file("all.json").c_str(), 1);
  {
    brood::Pool<Server> first({.workers = 1});
    brood::Pool<Server> second({.workers = 1});
    ::unsetenv("BROOD_TRACE");  // read once
    brood::Pool<Server> untraced({.workers = 1});
    CHECK(first.submit(&add_one, 1).get() == 2);
    CHECK(second.submit(&die, SIGKILL).outcome().has_value() == false);
    CHECK(untraced.submit(&add_one, 1).get() == 2);
  }
  CHECK(only(events_of(folder.file("all.json")), "X", "add_one").size() == 1);
  CHECK(only(events_of(folder.file("all.2.json")), "X", "die").size() == 1);
  // a later one of the same process overwrites neither, and one in a worker none of its host's
  ::setenv("BROOD_TRACE", folder.file("all.json").c_str(), 1);
  {
    brood::Pool<Server> third({.workers = 1});
    CHECK(third.submit(&use_a_pool_inside, 1).get() == 2);
  }
  ::unsetenv("BROOD_TRACE");
  CHECK(only(events_of(folder.file("all.json")), "X", "add_one").size() == 1);
  CHECK(only(events_of(folder.file("all.3.json")), "X", "use_a_pool_inside").size() == 1);
  std::size_t inside = 0;
  std::size_t files = 0;
  for (const auto& each : std::filesystem::directory_iterator(folder.path)) {
    ++files;
    inside += only(events_of(each.path()), "X", "add_one").size();
  }
  CHECK(files == 4);
  CHECK(inside == 2);
}

TEST_CASE("a trace that can't be written is told to the log, and fails nothing") {
  const support::Leftovers audit;
  const Folder folder;
  std::string told;
  const auto hook = [&](brood::LogLevel level, std::string_view text) {
    if (level == brood::LogLevel::warning) told += std::string(text) + "\n";
  };
  for (const std::string& path : {folder.file("no/such/folder.json"), folder.path.string(), std::string("/dev/null")}) {
    told.clear();
    {
      brood::Pool<Server> pool({.workers = 1, .log = hook, .trace = path});
      CHECK(pool.submit(&add_one, 1).get() == 2);
    }
    CHECK_MESSAGE(told.find("its trace can't be written to " + path) != std::string::npos, told);
  }
}

TEST_CASE("the trace of a host that is killed has all that had happened") {
  const support::Leftovers audit;
  const Folder folder;
  const std::string path = folder.file("trace.json");
  const auto ran = support::run_in_child([&] {
    brood::Pool<Server> pool({.workers = 1, .trace = path});
    for (int n = 0; n < 3; ++n) static_cast<void>(pool.submit(&add_one, n).get());
    return ::raise(SIGKILL);
  });
  CHECK(ran.status.signal() == SIGKILL);
  std::string text = read(path);
  CHECK(text.back() != ']');
  text += "\n]";
  const auto events = JsonReader(text).whole().items;
  CHECK(only(events, "X", "add_one").size() == 3);
}

TEST_CASE("names of any bytes make valid JSON") {
  const std::string hostile = "\xff\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82";
  for (const std::string& text : {std::string("plain"), std::string("\"\\/"), std::string("\x01\x1f\x7f\n"), hostile,
                                  std::string("\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa3"), std::string("a\0b", 3)}) {
    std::string json;
    brood::detail::append_json(json, text);
    CAPTURE(json);
    CHECK_NOTHROW(JsonReader(json).whole());
  }
}
