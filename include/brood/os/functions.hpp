// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <brood/core/type_name.hpp>
#include <brood/os/fd.hpp>
#include <brood/os/module.hpp>

namespace brood::detail {

/// Which function of a module holds an offset.
struct FunctionAt {
  std::uint64_t offset = 0;
  std::string name;         ///< demangled; empty when there is none, or none that the symbol tables know
  std::uint64_t start = 0;  ///< its first byte
};

/// An ELF file, read piece by piece and never mapped: a file that is cut meanwhile must not raise SIGBUS here. Nothing in it
/// is trusted.
class ElfFile {
 public:
  explicit ElfFile(int fd) : fd_(fd) {
    ElfW(Ehdr) head;
    if (!copy(0, &head, sizeof head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != (sizeof(void*) == 8 ? ELFCLASS64 : ELFCLASS32) ||
        head.e_shentsize != sizeof(ElfW(Shdr))) {
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
  static constexpr std::uint64_t max_note = 64 << 10;
  static constexpr std::size_t max_name = 4096;
  static constexpr std::size_t max_shown = 300;

  bool copy(std::uint64_t at, void* into, std::size_t size) const {
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
    best.wanted->name = readable_name(demangled(text.data()));
    if (best.wanted->name.size() > max_shown) best.wanted->name.replace(max_shown, std::string::npos, "...");
  }

  int fd_;
  std::vector<ElfW(Shdr)> sections_;
};

/// Finds the functions in a module's file: `path`, or this program where it is empty. Finds none when the file is another
/// one than `identity` says (all zero: unknown), or is no regular file.
inline void find_functions(const std::string& path, const ModuleIdentity& identity, std::span<FunctionAt> functions) {
  const char* const name = path.empty() ? "/proc/self/exe" : path.c_str();
  const int raw = retried("open", [&] { return ::open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); });
  if (raw < 0) return;
  const Fd file(raw);
  struct stat info {};
  if (tried("fstat", [&] { return ::fstat(file.get(), &info); }) != 0 || !S_ISREG(info.st_mode)) return;
  const ElfFile elf(file.get());
  if (identity != ModuleIdentity{} && elf.identity() != identity) return;
  elf.find(functions);
}

}  // namespace brood::detail
