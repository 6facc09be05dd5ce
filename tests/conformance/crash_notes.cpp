// SPDX-License-Identifier: MIT
// Crash notes that lie: a worker names a file, and the host reads it when somebody asks for names.
#include <fcntl.h>
#include <signal.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/elf.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/proc.hpp"

namespace {

using namespace std::chrono_literals;
using support::Leftovers;

constexpr std::uint64_t place = 0x1000;  // where the crash was, as the note has it

int add_one(int n) { return n + 1; }
int loops() {
  for (;;) asm volatile("");
}

/// Crashes with a note that says: in the module with this path, which has no build id.
int forges_a_note(const std::string& path) {
  brood::detail::CrashRecord& record = brood::detail::require_context("a task").page->crash();
  record.signal = SIGSEGV;
  record.code = 1;
  record.frames = 1;
  record.modules = 1;
  record.module_of[0] = 0;
  record.offsets[0] = place;
  record.module[0] = {};
  record.module[0].path_size = static_cast<std::uint32_t>(path.size());
  std::memcpy(record.paths.data(), path.data(), path.size());
  record.stage = static_cast<std::uint32_t>(brood::detail::CrashRecord::Stage::told);
  ::signal(SIGSEGV, SIG_DFL);
  return ::raise(SIGSEGV);
}

/// A file that is there as long as this is, and tells whether somebody has opened it.
class NamedFile {
 public:
  explicit NamedFile(const std::string& bytes) {
    const int fd = ::mkostemp(path_.data(), O_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    ::close(fd);
    watch_ = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    REQUIRE(::inotify_add_watch(watch_, path_.c_str(), IN_OPEN) >= 0);
  }
  NamedFile(const NamedFile&) = delete;
  NamedFile& operator=(const NamedFile&) = delete;
  ~NamedFile() {
    ::close(watch_);
    ::unlink(path_.c_str());
  }

  const std::string& path() const { return path_; }
  /// Makes it longer, as far as this file system goes: all zeros, none of them on a disk.
  void grow() {
    off_t size = off_t{1} << 43;
    while (::truncate(path_.c_str(), size) != 0) REQUIRE((size /= 2) > (1 << 30));
  }
  /// Whether it was opened since the last time that this was asked.
  bool was_opened() const {
    alignas(inotify_event) std::array<char, 4096> events{};
    return ::read(watch_, events.data(), events.size()) > 0;
  }

 private:
  std::string path_ = "/tmp/brood_note_XXXXXX";
  int watch_ = -1;
};

brood::Failure failure_of(const brood::Future<int>& future) {
  const auto outcome = future.outcome();
  REQUIRE_FALSE(outcome.has_value());
  return outcome.failure();
}

std::uint64_t bytes_read() {
  const std::string text = support::read_text("/proc/self/io");
  return std::stoull(text.substr(text.find("rchar: ") + 7));
}

}  // namespace

TEST_CASE_TEMPLATE("the pool reads no file that a crash note names", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  // it claims a table of symbols that takes hours to read
  NamedFile file(support::elf_with({{"one", place, 16}}, std::uint64_t{1} << 43));
  file.grow();
  brood::Pool<Policy> pool({.workers = 2});
  CHECK(pool.submit(&add_one, 1).get() == 2);
  auto bad = pool.submit(&forges_a_note, file.path());
  const brood::Failure failure = failure_of(bad);
  CHECK(failure.signal() == SIGSEGV);
  CHECK_FALSE(failure.callable().empty());
  CHECK_THROWS_AS(pool.submit({.timeout = 50ms}, &loops).get(), brood::TaskTimeout);
  CHECK(pool.submit(&add_one, 2).get() == 3);
  CHECK_FALSE(file.was_opened());

  // who asks for the message has it read, up to a limit
  const std::uint64_t before = bytes_read();
  const std::string& message = failure.message();
  CHECK(file.was_opened());
  CHECK(bytes_read() - before < (std::uint64_t{1} << 30));
  CHECK_MESSAGE(message.find("was killed by signal 11") != std::string::npos, message);
  const std::string name = file.path().substr(file.path().rfind('/') + 1);
  CHECK_MESSAGE(failure.backtrace() == "#0 (" + name + "+0x1000)\n", failure.backtrace());
  CHECK(&failure.message() == &message);
  CHECK_FALSE(file.was_opened());  // once is enough
}

TEST_CASE_TEMPLATE("a crash in a module that the host has not loaded is named from its file", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  const NamedFile file(support::elf_with({{"_ZN6plugin4workEi", place - 8, 16}, {"_ZN6plugin5otherEi", place + 8, 16}}));
  brood::Pool<Policy> pool({.workers = 1});
  const brood::Failure failure = failure_of(pool.submit(&forges_a_note, file.path()));
  CHECK_MESSAGE(failure.backtrace().starts_with("#0 plugin::work(int)+0x8 ("), failure.backtrace());
  CHECK_MESSAGE(failure.message().find(" in plugin::work(int) while it ran the task") != std::string::npos, failure.message());
  // the file of a module without a build id may be another one the next time
  const NamedFile second(support::elf_with({{"another", place, 16}}));
  REQUIRE(::rename(second.path().c_str(), file.path().c_str()) == 0);
  const brood::Failure later = failure_of(pool.submit(&forges_a_note, file.path()));
  CHECK_MESSAGE(later.backtrace().starts_with("#0 another+0x0 ("), later.backtrace());
}

TEST_CASE_TEMPLATE("names that grow beyond all bounds when they are taken apart are left as they are", Policy,
                   WORKER_POLICIES) {
  const Leftovers audit;
  const std::string bomb = support::name_bomb(300);  // 2^300 names
  const NamedFile file(support::elf_with({{bomb, place, 16}}));
  brood::Pool<Policy> pool({.workers = 1});
  const brood::Failure failure = failure_of(pool.submit(&forges_a_note, file.path()));
  CHECK_MESSAGE(failure.backtrace().starts_with("#0 " + bomb.substr(0, 300) + "...+0x0 ("), failure.backtrace());
  CHECK(failure.message().size() < 2000);
}

TEST_CASE_TEMPLATE("a failure's message may be asked for by many threads at once", Policy, WORKER_POLICIES) {
  const Leftovers audit;
  const NamedFile file(support::elf_with({{"_ZN6plugin4workEi", place, 16}}));
  brood::Pool<Policy> pool({.workers = 1});
  for (int round = 0; round < 5; ++round) {
    const brood::Failure failure = failure_of(pool.submit(&forges_a_note, file.path()));
    std::vector<std::string> texts(8);
    std::vector<std::thread> threads;
    for (std::size_t at = 0; at < texts.size(); ++at) {
      threads.emplace_back([&, at, mine = failure] {
        switch (at % 3) {
          case 0: texts[at] = mine.message() + mine.backtrace(); break;
          case 1: texts[at] = (mine.backtrace(), mine.message()) + mine.backtrace(); break;
          default:
            try {
              mine.raise();
            } catch (const brood::WorkerDied& died) {
              texts[at] = died.what() + died.backtrace();
            }
        }
      });
    }
    for (std::thread& each : threads) each.join();
    CHECK(texts[0].find("plugin::work(int)") != std::string::npos);
    CHECK(std::count(texts.begin(), texts.end(), texts[0]) == 8);
  }
}
