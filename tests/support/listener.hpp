// SPDX-License-Identifier: MIT
// What is around each test case: the audit of what it leaves, and the watchdog. For main.cpp alone.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include <doctest/doctest.h>

#include "support/leftovers.hpp"
#include "support/proc.hpp"
#include "support/program.hpp"
#include "support/rounds.hpp"
#include "support/watchdog.hpp"

namespace support {

/// Starts this program once more, with the marker in its environment: /proc shows of a process, and of what is forked
/// from it, the environment that it was started with.
inline void mark_run(char** argv) {
  if (std::getenv(run_variable) != nullptr) return;  // of the run that this one is a part of
  const auto time = std::chrono::system_clock::now().time_since_epoch().count();
  ::setenv(run_variable, (std::to_string(::getpid()) + "-" + std::to_string(time)).c_str(), 1);
  ::execv(own_path().c_str(), argv);
  std::cerr << "support::mark_run: this program can't be started once more; orphans are found by their process group only\n";
}

class Listener : public doctest::IReporter {
 public:
  explicit Listener(const doctest::ContextOptions&) {}

  /// How many cases left something that only this has seen: doctest has counted them as passed.
  static inline int failures = 0;

  void test_run_start() override { watchdog_ = std::make_unique<Watchdog>(); }
  void test_case_start(const doctest::TestCaseData& data) override {
    if (!is_host()) return;
    where_ = std::string("\"") + data.m_name + "\" (" + data.m_file.c_str() + ":" + std::to_string(data.m_line) + ")";
    watchdog_->case_starts(where_);
    Leftovers::told();
    audit_.emplace();
  }
  void test_case_end(const doctest::CurrentTestCaseStats&) override {
    if (!is_host()) return;
    if (!crashed_ && audit_) {
      const std::string text = Leftovers::told() ? "" : audit_->judge();  // one report is enough
      if (!text.empty()) {
        ++failures;
        std::cout << "LEFTOVERS of " << where_ << ": " << text << std::endl;
      }
      audit_.reset();
    }
    watchdog_->case_ends();
  }
  void test_run_end(const doctest::TestRunStats&) override {
    if (std::getenv(full_variable) != nullptr) std::cout << "rounds: " << *rounds_begun << std::endl;
  }
  void test_case_exception(const doctest::TestCaseException& exception) override { crashed_ = crashed_ || exception.is_crash; }

  void report_query(const doctest::QueryData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}

 private:
  /// Not in a child that comes back from its parent's test case.
  bool is_host() const { return ::getpid() == host_; }

  const pid_t host_ = ::getpid();
  std::unique_ptr<Watchdog> watchdog_;
  std::optional<Leftovers> audit_;
  std::string where_;
  bool crashed_ = false;
};

}  // namespace support
