// SPDX-License-Identifier: MIT
// Small ELF files, made up.
#pragma once

#include <elf.h>
#include <link.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace support {

struct ElfFunction {
  std::string name;
  std::uint64_t start = 0;
  std::uint64_t size = 0;
};

/// An ELF file with a table of these functions. `claimed` is what its header says of the table's size, 0: the truth.
inline std::string elf_with(const std::vector<ElfFunction>& functions, std::uint64_t claimed = 0) {
  using Header = ElfW(Ehdr);
  using Section = ElfW(Shdr);
  using Symbol = ElfW(Sym);
  std::string names(1, '\0');
  std::string symbols(sizeof(Symbol), '\0');
  for (const ElfFunction& each : functions) {
    Symbol symbol{};
    symbol.st_name = static_cast<std::uint32_t>(names.size());
    symbol.st_info = STT_FUNC;
    symbol.st_shndx = 1;
    symbol.st_value = static_cast<decltype(symbol.st_value)>(each.start);
    symbol.st_size = static_cast<decltype(symbol.st_size)>(each.size);
    symbols.append(reinterpret_cast<const char*>(&symbol), sizeof symbol);
    names += each.name + '\0';
  }
  Header head{};
  std::memcpy(head.e_ident, ELFMAG, SELFMAG);
  head.e_ident[EI_CLASS] = sizeof(void*) == 8 ? ELFCLASS64 : ELFCLASS32;
  head.e_shentsize = sizeof(Section);
  head.e_shnum = 2;
  head.e_shoff = sizeof head;
  std::array<Section, 2> sections{};
  sections[0].sh_type = SHT_STRTAB;
  sections[0].sh_offset = sizeof head + sizeof sections;
  sections[0].sh_size = names.size();
  sections[1].sh_type = SHT_SYMTAB;
  sections[1].sh_offset = sections[0].sh_offset + sections[0].sh_size;
  sections[1].sh_size = claimed != 0 ? claimed : symbols.size();
  sections[1].sh_link = 0;
  std::string file(reinterpret_cast<const char*>(&head), sizeof head);
  file.append(reinterpret_cast<const char*>(sections.data()), sizeof sections);
  return file + names + symbols;
}

/// A mangled name that stands for one of about 2^`doublings` names.
inline std::string name_bomb(int doublings) {
  std::string name = "_Z1f1aIcE";  // f(a<char>)
  // each parameter holds the one before it twice: p<X, X>
  const auto substitution = [](int number) {
    if (number == 0) return std::string("S_");
    std::string digits;
    for (int rest = number - 1; digits.empty() || rest != 0; rest /= 36) {
      digits.insert(digits.begin(), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[rest % 36]);
    }
    return "S" + digits + "_";
  };
  // S_ is a, S0_ a<char>; S1_ is p, S2_ p<...>; from then on p is S1_
  for (int at = 0; at < doublings; ++at) {
    const std::string inner = at == 0 ? "S0_" : substitution(at + 2);
    name += (at == 0 ? "1p" : "S1_") + ("I" + inner + inner) + "E";
  }
  return name;
}

}  // namespace support
