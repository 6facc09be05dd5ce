// SPDX-License-Identifier: MIT
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <brood/os/functions.hpp>
#include <brood/os/module.hpp>

#include "support/leftovers.hpp"
#include "support/program.hpp"

using namespace brood::detail;

namespace {

[[gnu::noinline]] int hidden_function(int n) {
  volatile int sum = 0;
  for (int each = 0; each < n; ++each) sum = sum + each;
  return sum;
}

std::uint64_t offset_of(const void* code) {
  const auto module = ModuleTable::instance().containing(code);
  REQUIRE(module);
  return reinterpret_cast<std::uintptr_t>(code) - module->base;
}

/// More than any program's symbols take.
ReadBudget generous() { return ReadBudget(std::uint64_t{1} << 30); }

std::string read_program() {
  std::ifstream file(support::own_path(), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// A file without a name that holds these bytes.
Fd file_of(const std::string& bytes) {
  Fd file = own("memfd_create", ::memfd_create("brood-test", MFD_CLOEXEC));
  REQUIRE(::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  return file;
}

}  // namespace

TEST_CASE("find_functions names the function that holds an offset, also one that is not exported") {
  const support::Leftovers audit;
  CHECK(hidden_function(3) == 3);
  const std::uint64_t start = offset_of(reinterpret_cast<const void*>(&hidden_function));
  std::vector<FunctionAt> wanted{{start + 5, {}, 0}, {start, {}, 0}, {start - 1, {}, 0}, {0, {}, 0}, {~std::uint64_t{0}, {}, 0}};
  ReadBudget budget = generous();
  find_functions("", {}, wanted, budget, NameTrust::own);
  CHECK(wanted[0].name.ends_with("(anonymous namespace)::hidden_function(int)"));
  CHECK(wanted[0].start == start);
  CHECK(wanted[0].offset == start + 5);
  CHECK(wanted[1].name == wanted[0].name);
  CHECK(wanted[2].name != wanted[0].name);
  CHECK(wanted[3].name.empty());
  CHECK(wanted[4].name.empty());
}

TEST_CASE("find_functions looks into libraries, and only into the very file that is meant") {
  const support::Leftovers audit;
  const auto module = ModuleTable::instance().containing(reinterpret_cast<const void*>(&::strtoul));
  REQUIRE(module);
  REQUIRE_FALSE(module->path.empty());
  // through the table of libc: the address of a function of the program may be a stub in the program
  void* const code = ::dlsym(RTLD_DEFAULT, "qsort");
  REQUIRE(code != nullptr);
  const auto libc = ModuleTable::instance().containing(code);
  REQUIRE(libc);
  ReadBudget budget = generous();
  std::vector<FunctionAt> wanted{{reinterpret_cast<std::uintptr_t>(code) - libc->base + 1, {}, 0}};
  find_functions(libc->path, libc->identity.bytes[0] == 1 ? libc->identity : ModuleIdentity{}, wanted, budget);
  CHECK(wanted[0].name.find("qsort") != std::string::npos);
  std::vector<FunctionAt> same{{wanted[0].offset, {}, 0}};
  find_functions(libc->path, ModuleIdentity::make(1, std::as_bytes(std::span("another build id"))), same, budget);
  CHECK(same[0].name.empty());
}

TEST_CASE("find_functions takes no device, no pipe, no folder and no other file for a module") {
  const support::Leftovers audit;
  const std::string pipe = "/tmp/brood_pipe_" + std::to_string(::getpid());
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  for (const std::string& path : {pipe, std::string("/dev/zero"), std::string("/dev/tty"), std::string("/tmp"),
                                  std::string("/etc/passwd"), std::string("/proc/self/maps"), std::string("/nowhere")}) {
    CAPTURE(path);
    std::vector<FunctionAt> wanted{{4096, {}, 0}};
    ReadBudget budget = generous();
    find_functions(path, {}, wanted, budget);
    CHECK(wanted[0].name.empty());
  }
  ::unlink(pipe.c_str());
}

TEST_CASE("find_functions does not even open what is no regular file") {
  const support::Leftovers audit;
  const std::string pipe = "/tmp/brood_pipe_" + std::to_string(::getpid());
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const Fd watch = own("inotify_init1", ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  REQUIRE(::inotify_add_watch(watch.get(), pipe.c_str(), IN_OPEN) >= 0);
  const auto was_opened = [&] {
    alignas(inotify_event) std::array<char, 512> events{};
    return ::read(watch.get(), events.data(), events.size()) > 0;
  };
  std::vector<FunctionAt> wanted{{4096, {}, 0}};
  ReadBudget budget = generous();
  find_functions(pipe, {}, wanted, budget);
  CHECK_FALSE(was_opened());
  ::close(::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  CHECK(was_opened());  // the watch works
  ::unlink(pipe.c_str());
}

TEST_CASE("ElfFile reads no more than it may, whatever a file claims") {
  const support::Leftovers audit;
  const auto with_sections = [](std::uint16_t count, std::uint32_t kind, std::uint64_t size) {
    std::string bytes(sizeof(ElfW(Ehdr)), '\0');
    ElfW(Ehdr) head{};
    std::memcpy(head.e_ident, ELFMAG, SELFMAG);
    head.e_ident[EI_CLASS] = sizeof(void*) == 8 ? ELFCLASS64 : ELFCLASS32;
    head.e_shentsize = sizeof(ElfW(Shdr));
    head.e_shnum = count;
    head.e_shoff = sizeof head;
    std::memcpy(bytes.data(), &head, sizeof head);
    for (std::uint16_t at = 0; at < count; ++at) {
      ElfW(Shdr) section{};
      section.sh_type = kind;
      section.sh_offset = 1 << 20;
      section.sh_size = size;
      bytes.append(reinterpret_cast<const char*>(&section), sizeof section);
    }
    return bytes;
  };
  struct Claim {
    std::uint16_t sections;
    std::uint32_t kind;
    std::uint64_t size;
  };
  for (const Claim& claim : {Claim{2, SHT_SYMTAB, std::uint64_t{1} << 43}, Claim{4096, SHT_SYMTAB, std::uint64_t{1} << 40},
                             Claim{4096, SHT_NOTE, 64 << 10}, Claim{65535, SHT_NOTE, 64 << 10}}) {
    CAPTURE(claim.sections);
    CAPTURE(claim.size);
    const Fd file = file_of(with_sections(claim.sections, claim.kind, claim.size));
    REQUIRE(::ftruncate(file.get(), off_t{1} << 43) == 0);  // all zeros, none of them on a disk
    std::vector<FunctionAt> wanted{{4096, {}, 0}};
    constexpr std::uint64_t room = 16 << 20;
    ReadBudget budget(room);
    const ElfFile elf(file.get(), budget);
    CHECK(elf.identity() == ModuleIdentity{});
    elf.find(wanted);
    CHECK(wanted[0].name.empty());
    CHECK(budget.left() < room);
  }
}

TEST_CASE("ElfFile survives files that are cut or damaged") {
  const support::Leftovers audit;
  const std::string whole = read_program();
  const std::uint64_t start = offset_of(reinterpret_cast<const void*>(&hidden_function));
  const auto name_in = [&](const std::string& bytes) {
    const Fd file = file_of(bytes);
    std::vector<FunctionAt> wanted{{start + 1, {}, 0}};
    ReadBudget budget = generous();
    const ElfFile elf(file.get(), budget);
    static_cast<void>(elf.identity());
    elf.find(wanted);
    return wanted[0].name;
  };
  CHECK(name_in(whole).ends_with("(anonymous namespace)::hidden_function(int)"));
  for (const std::size_t size : {std::size_t{0}, std::size_t{3}, std::size_t{64}, whole.size() / 2, whole.size() - 64}) {
    CAPTURE(size);
    CHECK(name_in(whole.substr(0, size)).empty());
  }
  std::mt19937 random(4711);
  ElfW(Ehdr) head;
  std::memcpy(&head, whole.data(), sizeof head);
  for (int round = 0; round < 100; ++round) {
    std::string damaged = whole;
    // the header behind its magic, or the table of sections
    const bool in_head = round % 2 == 0;
    const std::size_t from = in_head ? SELFMAG : head.e_shoff;
    const std::size_t room = in_head ? sizeof head - SELFMAG : head.e_shnum * sizeof(ElfW(Shdr));
    for (int n = 0; n < 1 + round / 10; ++n) damaged[from + random() % room] = static_cast<char>(random());
    const std::string name = name_in(damaged);
    CHECK(name.size() < 400);
  }
}
