// SPDX-License-Identifier: MIT
// internal
// What a pool does over time, as a file in the Chrome trace event format: a JSON array of events, one a line, which
// https://ui.perfetto.dev and chrome://tracing open, also when its end is missing.
//
// Events are put into memory under the dispatcher's lock and written without it. Two may write, one after the other.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include <brood/os/output_file.hpp>
#include <brood/os/own_process.hpp>
#include <brood/os/terminal.hpp>
#include <brood/pool/task.hpp>
#include <brood/worker/server.hpp>

namespace brood::inline v0_1::detail {

/// The length of the UTF-8 sequence at the front; 0 when there is none.
constexpr std::size_t utf8_length(std::string_view text) noexcept {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  if (text.empty()) return 0;
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t size = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (size == 0 || text.size() < size) return 0;
  for (std::size_t at = 1; at < size; ++at) {
    if ((byte(at) & 0xc0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
      (first == 0xf4 && second > 0x8f)) {
    return 0;
  }
  return size;
}

/// A JSON string, whatever bytes the text has.
inline void append_json(std::string& out, std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  out += '"';
  while (!text.empty()) {
    const std::size_t size = utf8_length(text);
    const auto first = static_cast<unsigned char>(text[0]);
    if (size == 0) {
      out += "\\ufffd";
    } else if (first == '"' || first == '\\') {
      (out += '\\') += text[0];
    } else if (first < 0x20 || first == 0x7f) {
      ((out += "\\u00") += digits[first >> 4]) += digits[first & 15];
    } else {
      out += text.substr(0, size);
    }
    text.remove_prefix(size == 0 ? 1 : size);
  }
  out += '"';
}

/// The members of an event's "args".
class TraceArgs {
 public:
  TraceArgs& add(std::string_view key, std::string_view text) {
    begin(key);
    append_json(text_, text);
    return *this;
  }
  TraceArgs& add(std::string_view key, std::uint64_t number) {
    begin(key);
    text_ += std::to_string(number);
    return *this;
  }
  const std::string& text() const noexcept { return text_; }

 private:
  void begin(std::string_view key) {
    if (!text_.empty()) text_ += ',';
    append_json(text_, key);
    text_ += ':';
  }

  std::string text_;
};

class Trace {
 public:
  using Clock = std::chrono::steady_clock;

  /// The file for a path that the user has given: that, or, while another pool writes it, or when this process has written
  /// it before, one beside it, trace.2.json for trace.json. In a worker its number is in the name. Throws SystemError.
  static std::pair<Fd, std::string> open(const std::string& wanted) {
    static std::mutex mutex;
    static std::set<std::string> used;
    const std::lock_guard lock(mutex);
    // a pool in a task: its host may have ended a trace of that name
    const std::string own = process_depth == 0 ? wanted : numbered(wanted, static_cast<unsigned>(::getpid()));
    for (unsigned number = 1; number <= 10'000; ++number) {
      const std::string path = numbered(own, number);
      if (used.count(path) != 0) continue;
      if (auto file = open_output_file(path)) {
        used.insert(path);
        return {std::move(*file), path};
      }
    }
    throw SystemError("open", EBUSY);
  }

  Trace(Fd file, const std::string& pool) : file_(std::move(file)) {
    TraceArgs args;
    metadata("process_name", 0, args.add("name", pool + " (host " + std::to_string(::getpid()) + ")"));
    name_row(0, "pool");
  }
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;
  /// Closes the array.
  ~Trace() {
    if (!own_.same()) {
      file_.forget();  // a copy of the host: the file is the host's
      return;
    }
    text_ += first_ ? "[\n]\n" : "\n]\n";
    write(std::exchange(text_, {}));
  }

  // under the dispatcher's lock

  /// Rows are drawn by their number.
  void name_row(std::uint32_t row, const std::string& name) {
    if (!rows_.insert(row).second) return;
    metadata("thread_name", row, TraceArgs().add("name", name));
    metadata("thread_sort_index", row, TraceArgs().add("sort_index", row));
  }
  void complete(std::uint32_t row, std::string_view name, std::string_view category, Clock::time_point from, Clock::time_point to,
                const TraceArgs& args) {
    begin('X', row, name, category);
    time("ts", from.time_since_epoch());
    time("dur", std::max(to - from, Clock::duration(0)));
    end(args);
  }
  void instant(std::uint32_t row, std::string_view name, std::string_view category, Clock::time_point when, const TraceArgs& args) {
    begin('i', row, name, category);
    time("ts", when.time_since_epoch());
    text_ += ",\"s\":\"t\"";
    end(args);
  }
  /// A time in the queue, of which there are many at once.
  void wait(std::string_view name, TaskId task, Clock::time_point from, Clock::time_point to) {
    for (const char phase : {'b', 'e'}) {
      begin(phase, 0, name, "queue");
      time("ts", (phase == 'b' ? from : std::max(from, to)).time_since_epoch());
      text_ += ",\"id\":";
      append_json(text_, std::to_string(::getpid()) + "." + std::to_string(task));
      end({});
    }
  }
  /// The callable's name, which is not looked up for each of its tasks.
  const std::string& name_of(const CallableName& callable) {
    const auto [found, added] = names_.try_emplace({callable.code, callable.type.data()});
    if (added) found->second = callable.text();
    return found->second;
  }

  bool pending() const noexcept { return !text_.empty(); }
  std::string take() noexcept { return std::exchange(text_, {}); }

  // without

  /// False when the file can't be written.
  bool write(const std::string& text) noexcept {
    const std::lock_guard lock(file_mutex_);
    return own_.same() && write_text(file_.get(), text);
  }

 private:
  static std::string numbered(const std::string& path, unsigned number) {
    if (number == 1) return path;
    const auto slash = path.rfind('/');
    const auto name = slash == std::string::npos ? 0 : slash + 1;
    const auto dot = path.rfind('.');
    const auto at = dot == std::string::npos || dot <= name ? path.size() : dot;
    return path.substr(0, at) + "." + std::to_string(number) + path.substr(at);
  }

  void begin(char phase, std::uint32_t row, std::string_view name, std::string_view category) {
    text_ += std::exchange(first_, false) ? "[\n" : ",\n";
    ((text_ += "{\"ph\":\"") += phase) += "\",\"pid\":";
    text_ += std::to_string(::getpid());
    (text_ += ",\"tid\":") += std::to_string(row);
    text_ += ",\"name\":";
    append_json(text_, name);
    if (category.empty()) return;
    text_ += ",\"cat\":";
    append_json(text_, category);
  }
  /// In microseconds.
  void time(std::string_view key, std::chrono::nanoseconds value) {
    const std::string digits = std::to_string(value.count() % 1000);
    ((text_ += ",\"") += key) += "\":";
    (text_ += std::to_string(value.count() / 1000)) += '.';
    text_.append(3 - digits.size(), '0') += digits;
  }
  void end(const TraceArgs& args) {
    if (!args.text().empty()) ((text_ += ",\"args\":{") += args.text()) += '}';
    text_ += '}';
  }
  void metadata(std::string_view name, std::uint32_t row, const TraceArgs& args) {
    begin('M', row, name, {});
    end(args);
  }

  const OwnProcess own_;
  Fd file_;
  std::mutex file_mutex_;
  std::string text_;
  bool first_ = true;
  std::set<std::uint32_t> rows_;
  std::map<std::pair<const void*, const char*>, std::string> names_;
};

}  // namespace brood::detail
