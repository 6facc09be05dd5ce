// SPDX-License-Identifier: MIT
#include <csignal>
#include <cstring>
#include <memory>
#include <string>

#include <doctest/doctest.h>

#include <brood/pool/backtrace.hpp>

#include "support/leftovers.hpp"

using namespace brood::detail;

namespace {

[[gnu::noinline]] int some_function(int n) {
  volatile int copy = n;
  return copy + 1;
}

brood::ExitStatus killed_by(int signal) { return brood::ExitStatus::from_wait(signal); }

/// A record of `frames` frames, all of them in some_function of this program.
std::unique_ptr<CrashRecord> record_of(std::uint32_t frames) {
  auto record = std::make_unique<CrashRecord>();
  const void* const code = reinterpret_cast<const void*>(&some_function);
  const auto module = ModuleTable::instance().containing(code);
  record->stage = static_cast<std::uint32_t>(CrashRecord::Stage::told);
  record->signal = SIGSEGV;
  record->code = SEGV_MAPERR;
  record->address = 0x1230;
  record->modules = 1;
  record->frames = frames;
  for (std::uint32_t at = 0; at < frames; ++at) {
    record->offsets[at] = reinterpret_cast<std::uintptr_t>(code) - module->base + 2;
    record->module_of[at] = 0;
  }
  return record;
}

/// With names.
std::optional<Crash> told_crash(const CrashRecord& record, brood::ExitStatus status) {
  std::optional<Crash> crash = read_crash(record, status);
  if (crash) FrameNames::instance().tell(*crash);
  return crash;
}

}  // namespace

TEST_CASE("FrameNames names frames and folds a recursion") {
  const support::Leftovers audit;
  CHECK(some_function(1) == 2);
  const auto record = record_of(60);
  record->module_of[59] = CrashRecord::no_module;
  record->offsets[59] = 0xdead;
  record->cut = 1;
  const auto crash = told_crash(*record, killed_by(SIGSEGV));
  REQUIRE(crash);
  REQUIRE(crash->frames.size() == 60);
  const std::string text = crash->text();
  // this file may be compiled within a namespace
  std::string name = "file_backtrace::(anonymous namespace)::some_function(int)";
  if (text.find(name) == std::string::npos) name.erase(0, name.find('('));
  CHECK_MESSAGE(text.starts_with("#0 " + name + "+0x2 ("), text);
  CHECK_MESSAGE(text.find("\n   ... 58 more of the same\n#59 (0xdead)\n   ... and more: these are the first 60\n") !=
                    std::string::npos,
                text);
  CHECK(crash->summary(1) == " at address 0x1230 in " + name);
}

TEST_CASE("Crash shows short runs in full") {
  const support::Leftovers audit;
  const auto crash = told_crash(*record_of(3), killed_by(SIGSEGV));
  REQUIRE(crash);
  const std::string text = crash->text();
  CHECK(text.find("#2 ") != std::string::npos);
  CHECK(text.find("...") == std::string::npos);
}

TEST_CASE("Crash tells who has sent a signal, unless it was the worker") {
  const support::Leftovers audit;
  const auto record = record_of(1);
  record->signal = SIGABRT;
  record->code = SI_USER;
  record->sender = 77;
  const auto crash = told_crash(*record, killed_by(SIGABRT));
  REQUIRE(crash);
  CHECK(crash->summary(5).starts_with(", sent by process 77, in "));
  CHECK(crash->summary(77).starts_with(" in "));
}

TEST_CASE("read_crash believes nothing that can't be true") {
  const support::Leftovers audit;
  const auto good = [] { return record_of(4); };
  CHECK(read_crash(*good(), killed_by(SIGSEGV)));
  CHECK_FALSE(read_crash(*good(), killed_by(SIGBUS)));  // another end than the one it tells of
  CHECK_FALSE(read_crash(*good(), brood::ExitStatus()));
  CHECK_FALSE(read_crash(*good(), brood::ExitStatus::from_wait(3 << 8)));
  const auto damaged = [&](auto damage) {
    const auto record = good();
    damage(*record);
    return read_crash(*record, killed_by(SIGSEGV));
  };
  CHECK_FALSE(damaged([](CrashRecord& record) { record.stage = 1; }));
  CHECK_FALSE(damaged([](CrashRecord& record) { record.frames = CrashRecord::max_frames + 1; }));
  CHECK_FALSE(damaged([](CrashRecord& record) { record.modules = CrashRecord::max_modules + 1; }));
  CHECK_FALSE(damaged([](CrashRecord& record) { record.module[0].path = CrashRecord::path_room + 1; }));
  CHECK_FALSE(damaged([](CrashRecord& record) { record.module[0].path_size = ~std::uint32_t{0}; }));
  CHECK_FALSE(damaged([](CrashRecord& record) {
    record.module[0].path = 1000;
    record.module[0].path_size = 1000;
  }));
  CHECK_FALSE(damaged([](CrashRecord& record) { record.module[0].path_size = 4; }));  // a path of zeros
  // a module that is not there: its frames have addresses only
  const auto unknown = damaged([](CrashRecord& record) { record.module_of[0] = 7; });
  REQUIRE(unknown);
  CHECK(unknown->frames[0].path == "?");
}
