// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <span>
#include <string>

#include <brood/core/type_name.hpp>
#include <brood/os/mapping.hpp>
#include <brood/os/module.hpp>

namespace brood::inline v0_1::detail {

/// The name of the function at `offset` in an ELF file, from its full symbol table: also of functions that are not
/// exported, which dladdr(3) does not know. Empty when the file is stripped or is no ELF file of this machine's kind.
/// Complexity: linear in the number of symbols.
inline std::string find_symbol(std::span<const std::byte> file, std::uint64_t offset) {
  const auto copy = [&](std::uint64_t at, auto& into) {
    if (at > file.size() || file.size() - at < sizeof into) return false;
    std::memcpy(&into, file.data() + at, sizeof into);
    return true;
  };
  ElfW(Ehdr) head;
  if (!copy(0, head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) return {};
  for (unsigned section = 0; section < head.e_shnum; ++section) {
    ElfW(Shdr) symbols;
    ElfW(Shdr) names;
    if (!copy(head.e_shoff + section * sizeof symbols, symbols)) return {};
    if (symbols.sh_type != SHT_SYMTAB) continue;
    if (!copy(head.e_shoff + symbols.sh_link * sizeof names, names)) return {};
    for (std::uint64_t at = 0; at + sizeof(ElfW(Sym)) <= symbols.sh_size; at += sizeof(ElfW(Sym))) {
      ElfW(Sym) symbol;
      if (!copy(symbols.sh_offset + at, symbol)) return {};
      if ((symbol.st_info & 0xf) != STT_FUNC || symbol.st_value != offset) continue;
      const std::uint64_t name = names.sh_offset + symbol.st_name;
      if (name >= file.size()) return {};
      const auto* const text = reinterpret_cast<const char*>(file.data() + name);
      if (::strnlen(text, file.size() - name) == file.size() - name) return {};
      return readable_name(demangled(text));
    }
  }
  return {};
}

/// The same for a function of this process. Looks into its module's file once for each function; not into one that has taken
/// that one's place.
inline std::string symbol_of(const Module& module, std::uint64_t offset) {
  static std::mutex mutex;
  static auto* const known = new std::map<std::pair<std::uint64_t, std::uint64_t>, std::string>;
  const std::lock_guard lock(mutex);
  const auto [entry, fresh] = known->try_emplace({module.key, offset});
  if (!fresh) return entry->second;
  if (!module.path.empty() && !is_in_place(module.path, module.base + offset)) return {};
  const char* const path = module.path.empty() ? "/proc/self/exe" : module.path.c_str();
  const int fd = retried("open", [&] { return ::open(path, O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return {};
  struct stat info {};
  if (tried("fstat", [&] { return ::fstat(fd, &info); }) == 0 && info.st_size > 0) {
    const auto size = static_cast<std::size_t>(info.st_size);
    void* const at = map_memory(size, PROT_READ, MAP_PRIVATE, fd);
    if (at != nullptr) {
      entry->second = find_symbol({static_cast<const std::byte*>(at), size}, offset);
      tried("munmap", [&] { return ::munmap(at, size); });
    }
  }
  close_descriptor(fd);
  return entry->second;
}

}  // namespace brood::detail
