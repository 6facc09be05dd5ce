// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <brood/core/config.hpp>
#include <brood/core/loops.hpp>
#include <brood/core/type_name.hpp>
#include <brood/os/fd.hpp>
#include <brood/os/module.hpp>

#if BROOD_BODIES

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace brood::inline v0_1::detail {

/// Which function of a module holds an offset.
struct FunctionAt {
  std::uint64_t offset = 0;
  std::string name;         ///< demangled; empty when there is none, or none that the symbol tables know
  std::uint64_t start = 0;  ///< its first byte
};

/// How many bytes may still be read of files that somebody else has named.
class ReadBudget {
 public:
  explicit ReadBudget(std::uint64_t bytes) noexcept : left_(bytes) {}

  /// False when that is more than is left; nothing more is read then.
  bool take(std::uint64_t bytes) noexcept {
    if (bytes > left_) return left_ = 0, false;
    left_ -= bytes;
    return true;
  }
  std::uint64_t left() const noexcept { return left_; }

 private:
  std::uint64_t left_;
};

/// Whose file names are read from: of this process, or a stranger's. A mangled name can stand for one that is thousands of
/// times as long: of a stranger's, only short ones are taken apart.
enum class NameTrust : bool { none, own };

/// An ELF file, read piece by piece and never mapped: a file that is cut meanwhile must not raise SIGBUS here. Nothing in it
/// is trusted.
class ElfFile {
 public:
  ElfFile(int fd, ReadBudget& budget, NameTrust trust = NameTrust::none) : fd_(fd), budget_(budget), trust_(trust) {
    ElfW(Ehdr) head;
    if (!copy(0, &head, sizeof head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != (sizeof(void*) == 8 ? ELFCLASS64 : ELFCLASS32) ||
        head.e_shentsize != sizeof(ElfW(Shdr)) || head.e_shnum > max_sections) {
      return;
    }
    sections_.resize(head.e_shnum);
    if (!copy(head.e_shoff, sections_.data(), sections_.size() * sizeof(ElfW(Shdr)))) sections_.clear();
  }

  /// The build id; that of a file without one is all zero.
  ModuleIdentity identity() const {
    for (const ElfW(Shdr)& section : sections_) {
      if (section.sh_type != SHT_NOTE || section.sh_size > max_note) continue;
      std::vector<std::byte> notes(section.sh_size);
      if (!copy(section.sh_offset, notes.data(), notes.size())) continue;
      ElfW(Phdr) header{};
      header.p_type = PT_NOTE;
      header.p_memsz = notes.size();
      header.p_align = section.sh_addralign;
      dl_phdr_info info{};
      info.dlpi_addr = reinterpret_cast<std::uintptr_t>(notes.data());
      info.dlpi_phdr = &header;
      info.dlpi_phnum = 1;
      if (const auto id = find_build_id(info); !id.empty()) return ModuleIdentity::make(1, id);
    }
    return {};
  }

  /// Fills in the functions, from the full symbol table where there is one, else from that of exported names. Complexity:
  /// linear in the number of symbols, whatever the number of questions.
  void find(std::span<FunctionAt> functions) const {
    std::vector<Best> best(functions.size());
    for (std::size_t at = 0; at < functions.size(); ++at) best[at] = {functions[at].offset, &functions[at]};
    std::sort(best.begin(), best.end(), [](const Best& a, const Best& b) { return a.offset < b.offset; });
    for (const std::uint32_t kind : {std::uint32_t{SHT_SYMTAB}, std::uint32_t{SHT_DYNSYM}}) {
      for (const ElfW(Shdr)& section : sections_) {
        if (section.sh_type != kind || section.sh_link >= sections_.size()) continue;
        search(section, best);
        for (Best& each : best) take(sections_[section.sh_link], each);
        if (all_of(best, [](const Best& each) { return each.named; })) return;
      }
    }
  }

 private:
  struct Best {
    std::uint64_t offset = 0;
    FunctionAt* wanted = nullptr;
    bool found = false;
    bool named = false;
    std::uint64_t start = 0;
    std::uint32_t name = 0;
  };
  static constexpr std::size_t max_sections = 4096;
  static constexpr std::uint64_t max_note = 64 << 10;
  static constexpr std::size_t max_name = 4096;
  static constexpr std::size_t max_shown = 300;
  static constexpr std::size_t max_taken_apart = 128;  ///< of a stranger's name

  bool copy(std::uint64_t at, void* into, std::size_t size) const {
    if (!budget_.take(size)) return false;
    return retried("pread", [&] { return ::pread(fd_, into, size, static_cast<off_t>(at)); }) == static_cast<ssize_t>(size);
  }

  void search(const ElfW(Shdr)& table, std::vector<Best>& best) const {
    std::vector<ElfW(Sym)> symbols(2048);
    const std::uint64_t total = table.sh_size / sizeof(ElfW(Sym));
    for (std::uint64_t done = 0; done < total;) {
      const std::size_t count = std::min<std::uint64_t>(symbols.size(), total - done);
      if (!copy(table.sh_offset + done * sizeof(ElfW(Sym)), symbols.data(), count * sizeof(ElfW(Sym)))) return;
      done += count;
      for (const ElfW(Sym)& symbol : std::span(symbols).first(count)) {
        const unsigned type = symbol.st_info & 0xf;
        if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol.st_shndx == SHN_UNDEF) continue;
        auto each = std::lower_bound(best.begin(), best.end(), symbol.st_value,
                                     [](const Best& one, std::uint64_t value) { return one.offset < value; });
        for (; each != best.end() && each->offset - symbol.st_value < symbol.st_size; ++each) {
          if (each->named || (each->found && each->start >= symbol.st_value)) continue;  // an inner one says more
          each->found = true;
          each->start = symbol.st_value;
          each->name = symbol.st_name;
        }
      }
    }
  }

  void take(const ElfW(Shdr)& names, Best& best) const {
    if (!best.found || best.named || best.name >= names.sh_size) return;
    std::array<char, max_name + 1> text{};
    const std::size_t room = std::min<std::uint64_t>(max_name, names.sh_size - best.name);
    if (!copy(names.sh_offset + best.name, text.data(), room) || text[0] == '\0') return;
    best.named = true;
    best.wanted->start = best.start;
    const bool short_enough = trust_ == NameTrust::own || std::strlen(text.data()) <= max_taken_apart;
    best.wanted->name = short_enough ? readable_name(demangled(text.data())) : text.data();
    if (best.wanted->name.size() > max_shown) best.wanted->name.replace(max_shown, std::string::npos, "...");
  }

  int fd_;
  ReadBudget& budget_;
  NameTrust trust_;
  std::vector<ElfW(Shdr)> sections_;
};

/// Opens a file for reading if it is a regular one, else nothing: opening a device can do things, and a pipe can wait. Waits
/// for nobody who holds a lease on it.
BROOD_INLINE Fd open_regular_file(const char* path) noexcept {
  const int raw = retried("open", [&] { return ::open(path, O_PATH | O_CLOEXEC); });
  if (raw < 0) return Fd();
  const Fd place(raw);
  struct stat info {};
  if (tried("fstat", [&] { return ::fstat(place.get(), &info); }) != 0 || !S_ISREG(info.st_mode)) return Fd();
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "/proc/self/fd/%d", place.get());
  constexpr int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  int fd = retried("open", [&] { return ::open(name.data(), flags); });
  if (fd < 0 && errno == ENOENT) fd = retried("open", [&] { return ::open(path, flags); });  // no /proc
  if (fd < 0) return Fd();
  Fd file(fd);
  struct stat now {};
  const bool same = tried("fstat", [&] { return ::fstat(file.get(), &now); }) == 0 && now.st_dev == info.st_dev &&
                    now.st_ino == info.st_ino && S_ISREG(now.st_mode);
  return same ? std::move(file) : Fd();
}

/// Finds the functions in a module's file: `path`, or this program where it is empty. Finds none when the file is another
/// one than `identity` says (all zero: unknown), or is no regular file.
BROOD_INLINE void find_functions(const std::string& path, const ModuleIdentity& identity, std::span<FunctionAt> functions,
                           ReadBudget& budget, NameTrust trust = NameTrust::none) {
  const Fd file = open_regular_file(path.empty() ? "/proc/self/exe" : path.c_str());
  if (!file) return;
  const ElfFile elf(file.get(), budget, trust);
  if (identity != ModuleIdentity{} && elf.identity() != identity) return;
  elf.find(functions);
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
