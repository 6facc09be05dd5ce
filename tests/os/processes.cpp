// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <brood/os/cpus.hpp>
#include <brood/os/image.hpp>
#include <brood/os/module.hpp>
#include <brood/os/process.hpp>
#include <brood/os/signals.hpp>
#include <brood/os/symbols.hpp>
#include <brood/os/syscall.hpp>
#include <brood/os/threads.hpp>
#include <brood/wire/code_pointer.hpp>

#include <poll.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>

using namespace brood::detail;

namespace {

[[gnu::noinline]] int not_exported(int x) { return x + 1; }

/// Waits for the end of a child of ours, however long it takes.
Ended wait_for(pid_t pid) {
  Ended ended;
  while (!reap(pid, ended)) std::this_thread::yield();
  return ended;
}

}  // namespace

TEST_CASE("retried goes on after EINTR and stops at any other error") {
  int calls = 0;
  const int result = retried("test", [&] {
    errno = ++calls < 3 ? EINTR : EBADF;
    return -1;
  });
  CHECK(result == -1);
  CHECK(errno == EBADF);
  CHECK(calls == 3);
  CHECK_THROWS_AS(checked("close", [] { return ::close(-1); }), SystemError);
}

TEST_CASE("open_pidfd becomes readable at the end, signal_pidfd kills, reap tells how") {
  const pid_t pid = ::fork();
  if (pid == 0) {
    for (;;) ::pause();
  }
  const Fd pidfd = open_pidfd(pid);
  Ended ended;
  CHECK_FALSE(reap(pid, ended));
  if (pidfd) {
    CHECK(signal_pidfd(pidfd.get(), SIGKILL));
    pollfd watched{pidfd.get(), POLLIN, 0};
    CHECK(::poll(&watched, 1, 10'000) == 1);
  } else {
    ::kill(pid, SIGKILL);
  }
  ended = wait_for(pid);
  CHECK(ended.status.signaled());
  CHECK(ended.status.signal() == SIGKILL);
  if (pidfd) {
    CHECK_FALSE(signal_pidfd(pidfd.get(), 0));
    const auto later = status_from_pidfd(pidfd.get());  // Linux 6.15 still knows
    CHECK((!later.known() || later == ended.status));
  }
}

TEST_CASE("reap of a child that somebody else has reaped is an unknown end") {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(5);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  Ended ended{brood::ExitStatus::from_wait(0), 1};
  CHECK(reap(pid, ended));
  CHECK_FALSE(ended.status.known());
}

TEST_CASE("die_with_parent sees a parent that has gone already") {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(die_with_parent(1 << 22) ? 1 : 0);  // nobody's pid
  CHECK(wait_for(pid).status.code() == 0);
}

TEST_CASE("AllSignalsBlocked restores the mask") {
  sigset_t before;
  sigset_t during;
  sigset_t after;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  {
    const AllSignalsBlocked blocked;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &during);
    CHECK(::sigismember(&during, SIGTERM) == 1);
  }
  ::pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (int signal = 1; signal < 32; ++signal) CHECK(::sigismember(&before, signal) == ::sigismember(&after, signal));
}

TEST_CASE("reset_dispositions leaves nothing ignored but what a terminal sends") {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::signal(SIGTERM, SIG_IGN);
    ::signal(SIGUSR1, [](int) {});
    reset_dispositions();
    int wrong = 0;
    for (int signal = 1; signal < NSIG; ++signal) {
      struct sigaction now {};
      if (::sigaction(signal, nullptr, &now) != 0) continue;
      const bool of_terminal = signal == SIGINT || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
      if (now.sa_handler != (of_terminal ? SIG_IGN : SIG_DFL)) ++wrong;
    }
    ::_exit(wrong);
  }
  CHECK(wait_for(pid).status.code() == 0);
}

TEST_CASE("count_threads counts") {
  const int before = count_threads();
  std::atomic<bool> leave{false};
  std::thread other([&] {
    while (!leave) std::this_thread::yield();
  });
  CHECK(count_threads() == before + 1);
  leave = true;
  other.join();
}

TEST_CASE("usable_cpus is at least one and no more than there are") {
  CHECK(usable_cpus() >= 1);
  CHECK(usable_cpus() <= std::max(1U, std::thread::hardware_concurrency()));
}

TEST_CASE("ModuleTable finds the program and libraries by address and by identity") {
  ModuleTable& table = ModuleTable::instance();
  const auto program = table.containing(reinterpret_cast<const void*>(&not_exported));
  REQUIRE(program);
  CHECK(program->path.empty());
  CHECK(program->identity == own_identity());
  CHECK(table.with(own_identity()) == program);
  const auto library = table.containing(reinterpret_cast<const void*>(&::getpid));
  REQUIRE(library);
  CHECK(library->path.find("libc") != std::string::npos);
  CHECK_FALSE(library->identity == program->identity);
  CHECK(table.containing(nullptr) == nullptr);
  CHECK(table.with(ModuleIdentity::make(1, {})) == nullptr);
}

TEST_CASE("ModuleTable::containing takes code only, not data") {
  static int datum = 0;
  CHECK(ModuleTable::instance().containing(&datum) == nullptr);
}

TEST_CASE("write_code and read_code lead back to the same function") {
  brood::Writer out;
  write_code(out, reinterpret_cast<const void*>(&not_exported));
  brood::Reader in(out.view());
  CHECK(read_code(in) == reinterpret_cast<void*>(&not_exported));
  CHECK_THROWS_AS(write_code(out, nullptr), brood::SerializationError);
}

TEST_CASE("read_code refuses other programs, missing libraries and offsets that hold no code") {
  const auto encode = [](const ModuleIdentity& identity, const char* path, std::uint64_t offset) {
    brood::Writer out;
    out.raw(identity.bytes.data(), identity.bytes.size());
    out.text(path);
    out.number<std::uint64_t>(offset);
    return std::move(out).take();
  };
  const auto message_of = [](const Bytes& bytes) -> std::string {
    try {
      brood::Reader in(bytes.view());
      read_code(in);
    } catch (const brood::ImageMismatch& error) {
      return error.what();
    }
    return "";
  };
  const std::array<std::byte, 4> id{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  const auto stranger = ModuleIdentity::make(1, id);
  CHECK(message_of(encode(stranger, "", 64)).find("another program") != std::string::npos);
  CHECK(message_of(encode(stranger, "/no/such/library.so", 64)).find("can't open the library") != std::string::npos);
  CHECK(message_of(encode(stranger, "libc.so.6", 64)).find("another one on disk") != std::string::npos);
  CHECK(message_of(encode(own_identity(), "", ~std::uint64_t{0})).find("outside the code") != std::string::npos);
}

TEST_CASE("name_of_code knows functions that are not exported") {
  CHECK(name_of_code(reinterpret_cast<const void*>(&not_exported)).find("not_exported(int)") != std::string::npos);
  CHECK(name_of_code(reinterpret_cast<const void*>(&::getpid)).find("getpid") != std::string::npos);
}

TEST_CASE("find_symbol makes nothing of files that are no programs") {
  std::string text(4096, 'x');
  CHECK(find_symbol(std::as_bytes(std::span(text)), 0).empty());
  text.replace(0, 4, "\177ELF");
  CHECK(find_symbol(std::as_bytes(std::span(text)), 0).empty());
  CHECK(find_symbol({}, 0).empty());
}
