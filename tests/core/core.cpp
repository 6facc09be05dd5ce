// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <brood/core/bytes.hpp>
#include <brood/core/errors.hpp>
#include <brood/core/exit_status.hpp>
#include <brood/core/type_name.hpp>
#include <brood/core/version.hpp>

#include <csignal>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

namespace {

struct Local {};

}  // namespace

TEST_CASE("ExitStatus tells exited, signaled and unknown apart") {
  const auto exited = brood::ExitStatus::from_wait(3 << 8);
  CHECK(exited.exited());
  CHECK_FALSE(exited.signaled());
  CHECK(exited.code() == 3);
  CHECK(exited.describe() == "exited with code 3");

  const auto killed = brood::ExitStatus::from_wait(SIGSEGV);
  CHECK(killed.signaled());
  CHECK_FALSE(killed.exited());
  CHECK(killed.signal() == SIGSEGV);
  CHECK(killed.describe() == "was killed by signal 11 (SIGSEGV, Segmentation fault)");

  const brood::ExitStatus unknown;
  CHECK_FALSE(unknown.known());
  CHECK_FALSE(unknown.exited());
  CHECK_FALSE(unknown.signaled());
  CHECK(unknown.wait_word() == -1);
  CHECK(unknown.describe() == "ended unseen, or not at all");
}

TEST_CASE("readable_name: one form for what compilers and demanglers write in several") {
  using brood::detail::readable_name;
  CHECK(readable_name("std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >") == "std::string");
  CHECK(readable_name("std::__cxx11::basic_string<char>") == "std::string");
  CHECK(readable_name("std::vector<std::__cxx11::basic_string<char>, int>") == "std::vector<std::string, int>");
  CHECK(readable_name("std::ios_base::failure[abi:cxx11]") == "std::ios_base::failure");
  CHECK(readable_name("std::__cxx11::to_string[abi:cxx11](int)") == "std::to_string(int)");
  CHECK(readable_name("app::run()::{lambda(int)#1}::operator()(int) const") == "app::run()::<lambda(int)>::operator()(int) const");
  CHECK(readable_name("app::run()::<lambda(int)>") == "app::run()::<lambda(int)>");
  CHECK(readable_name("f()::{lambda(g()::{lambda()#12})#2}::x") == "f()::<lambda(g()::<lambda()>)>::x");
  CHECK(readable_name("{lambda(") == "{lambda(");
  CHECK(readable_name("a{lambda()}b") == "a{lambda()}b");
  CHECK(readable_name("") == "");
  const auto length = [](const std::string&) { return 0; };
  const std::string from_compiler = readable_name(std::string(brood::detail::type_name<decltype(length)>()));
  const std::string from_demangler = readable_name(brood::detail::demangled(typeid(length).name()));
#ifndef __clang__
  CHECK(from_demangler.ends_with("<lambda(std::string const&)>"));
  CHECK(from_compiler.ends_with("<lambda(const std::string&)>"));
#else
  CHECK_MESSAGE(from_demangler.ends_with("::$_0"), from_demangler);  // a lambda of a static function
  CHECK(from_compiler.find("lambda at ") != std::string::npos);
#endif
}

TEST_CASE("ExitStatus::from_siginfo equals what wait says") {
  CHECK(brood::ExitStatus::from_siginfo(CLD_EXITED, 7) == brood::ExitStatus::from_wait(7 << 8));
  CHECK(brood::ExitStatus::from_siginfo(CLD_KILLED, SIGKILL) == brood::ExitStatus::from_wait(SIGKILL));
  CHECK(brood::ExitStatus::from_siginfo(CLD_DUMPED, SIGABRT).dumped_core());
}

TEST_CASE("Bytes grows, keeps its contents, and moves without copying") {
  brood::detail::Bytes bytes;
  for (int round = 0; round < 1000; ++round) bytes.append(&round, sizeof round);
  REQUIRE(bytes.size() == 1000 * sizeof(int));
  int last = 0;
  std::memcpy(&last, bytes.data() + 999 * sizeof(int), sizeof last);
  CHECK(last == 999);

  const std::byte* const where = bytes.data();
  brood::detail::Bytes moved = std::move(bytes);
  CHECK(moved.data() == where);
  moved.truncate(4);
  CHECK(moved.view().size() == 4);
  brood::detail::Bytes other;
  other = std::move(moved);
  CHECK(other.data() == where);
}

TEST_CASE("Bytes::extend refuses what can't be") {
  brood::detail::Bytes bytes;
  CHECK_THROWS_AS(bytes.extend(static_cast<std::size_t>(-1)), std::bad_alloc);
  CHECK(bytes.empty());
}

TEST_CASE("type_name is the type as one would write it") {
  using brood::detail::type_name;
  CHECK(type_name<int>() == "int");
  CHECK(type_name<brood::WorkerDied>() == "brood::WorkerDied");
  CHECK(type_name<Local>().find("Local") != std::string_view::npos);
  CHECK(type_name<std::map<int, std::vector<char>>>().find("map<int") != std::string_view::npos);
  CHECK(brood::detail::demangled(typeid(std::vector<int>).name()).find("vector<int") != std::string::npos);
  CHECK(brood::detail::demangled("not mangled at all") == "not mangled at all");
}

TEST_CASE("Errors derive from Error, which is a std::runtime_error; FromTask derives from nothing") {
  static_assert(std::is_base_of_v<std::runtime_error, brood::Error>);
  static_assert(std::is_base_of_v<brood::Error, brood::WorkerDied> && std::is_base_of_v<brood::Error, brood::TaskError>);
  static_assert(!std::is_base_of_v<std::exception, brood::FromTask>);
  const brood::WorkerDied died("gone", brood::ExitStatus::from_wait(9), 12, 34);
  CHECK(died.status().signal() == 9);
  CHECK(died.pid() == 12);
  CHECK(died.task() == 34);
  const brood::LaunchError launch("no", "fork", EAGAIN);
  CHECK(launch.stage() == "fork");
  CHECK(launch.error() == EAGAIN);
}

TEST_CASE("the protocol's version holds the library's") {
  CHECK((brood::detail::protocol_version >> 24) == brood::version_major);
  CHECK((brood::detail::protocol_version >> 16 & 0xff) == brood::version_minor);
  CHECK((brood::detail::protocol_version >> 8 & 0xff) == brood::version_patch);
}
