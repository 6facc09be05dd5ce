// SPDX-License-Identifier: MIT
// internal
// Which programs and shared libraries this process has loaded, and who they are. An address in one process means
// nothing in another; {module, offset} means the same in every process that has loaded the same file.
#pragma once

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#include <array>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// Who a module is: its build id, or, where the linker wrote none, its file's device, inode, size and time of change.
struct ModuleIdentity {
  std::array<std::uint8_t, 40> bytes{};  ///< the first says which kind, the second how many bytes follow

  friend bool operator==(const ModuleIdentity&, const ModuleIdentity&) noexcept = default;

  static ModuleIdentity make(std::uint8_t kind, std::span<const std::byte> id) noexcept {
    ModuleIdentity identity;
    const std::size_t size = id.size() < identity.bytes.size() - 2 ? id.size() : identity.bytes.size() - 2;
    identity.bytes[0] = kind;
    identity.bytes[1] = static_cast<std::uint8_t>(size);
    if (size != 0) std::memcpy(identity.bytes.data() + 2, id.data(), size);
    return identity;
  }

  /// 64 bits for look-ups (FNV-1a); the identity itself decides.
  std::uint64_t key() const noexcept {
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3U;
    return hash;
  }

  /// The first bytes in hexadecimal, for messages.
  std::string text() const {
    constexpr const char* digits = "0123456789abcdef";
    std::string result(bytes[0] == 1 ? "build id " : "file ");
    for (std::size_t at = 2; at < 2U + bytes[1] && at < 10; ++at) {
      result += digits[bytes[at] >> 4];
      result += digits[bytes[at] & 15];
    }
    return result;
  }
};

/// A stretch of addresses that holds code, relative to the module's base.
struct CodeRange {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
};

/// One loaded module.
struct Module {
  std::uintptr_t base = 0;
  std::string path;  ///< empty for the program itself
  ModuleIdentity identity;
  std::uint64_t key = 0;
  std::vector<CodeRange> code;

  bool holds_code(std::uint64_t offset) const noexcept {
    for (const CodeRange& range : code) {
      if (offset >= range.start && offset < range.end) return true;
    }
    return false;
  }
};

/// The identity of a file, for a module without a build id.
inline ModuleIdentity identity_of_file(const char* path) noexcept {
  struct stat info {};
  if (tried("stat", [&] { return ::stat(path, &info); }) != 0) return {};
  const std::array<std::uint64_t, 4> parts{std::uint64_t{info.st_dev}, std::uint64_t{info.st_ino},
                                           static_cast<std::uint64_t>(info.st_size),
                                           static_cast<std::uint64_t>(info.st_mtim.tv_sec) * 1'000'000'000U +
                                               static_cast<std::uint64_t>(info.st_mtim.tv_nsec)};
  return ModuleIdentity::make(2, std::as_bytes(std::span(parts)));
}

/// The build id among the notes of a module, empty when the linker wrote none.
inline std::span<const std::byte> find_build_id(const dl_phdr_info& info) noexcept {
  for (std::size_t at = 0; at < info.dlpi_phnum; ++at) {
    const auto& header = info.dlpi_phdr[at];
    if (header.p_type != PT_NOTE) continue;
    const auto* note = reinterpret_cast<const std::byte*>(info.dlpi_addr + header.p_vaddr);
    const auto* const end = note + header.p_memsz;
    const std::size_t align = header.p_align == 8 ? 8 : 4;
    while (static_cast<std::size_t>(end - note) > sizeof(ElfW(Nhdr))) {
      ElfW(Nhdr) head;
      std::memcpy(&head, note, sizeof head);
      const std::size_t name_size = (head.n_namesz + align - 1) / align * align;
      const std::size_t text_size = (head.n_descsz + align - 1) / align * align;
      if (static_cast<std::size_t>(end - note) < sizeof head + name_size + text_size) break;
      const std::byte* const text = note + sizeof head + name_size;
      if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && std::memcmp(note + sizeof head, "GNU", 4) == 0) {
        return {text, head.n_descsz};
      }
      note = text + text_size;
    }
  }
  return {};
}

/// The modules of this process, kept up to date. Thread-safe; a look-up among known modules takes one short lock.
class ModuleTable {
 public:
  using Entry = std::shared_ptr<const Module>;

  /// The table of this process.
  static ModuleTable& instance() {
    static ModuleTable* const table = new ModuleTable;  // never destroyed: tasks may end after static destructors ran
    return *table;
  }

  /// The module in which an address lies; null when none is known.
  Entry containing(const void* address) {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    if (program() && program()->holds_code(at - program()->base)) return program();
    return find([at](const Module& module) { return module.holds_code(at - module.base); });
  }

  /// The module with this identity; null when this process has not loaded it.
  Entry with(const ModuleIdentity& identity) {
    if (program() && program()->identity == identity) return program();
    return find([&](const Module& module) { return module.identity == identity; });
  }

  /// The program itself, which is never unloaded; null when it can't be seen. Takes no lock but for the first time.
  static const Entry& program() {
    // never destroyed, as the table; copies of the second count nothing
    static const Entry* const kept = new Entry(instance().find([](const Module& module) { return module.path.empty(); }));
    static const Entry* const program = new Entry(Entry(), kept->get());
    return *program;
  }

  /// Keeps other threads out, across a fork: in the child the table must not be locked by a thread that it lacks.
  std::unique_lock<std::mutex> hold() { return std::unique_lock(mutex_); }

  /// Loads the modules of this process now, so that a child made by fork(2) has the table for free.
  void refresh() {
    const std::lock_guard lock(mutex_);
    reload();
  }

 private:
  template <class Matches>
  Entry find(Matches matches) {
    const std::lock_guard lock(mutex_);
    if (changes_ == count_changes()) {
      for (const Entry& module : modules_) {
        if (matches(*module)) return module;
      }
    }
    reload();
    for (const Entry& module : modules_) {
      if (matches(*module)) return module;
    }
    return nullptr;
  }

  /// A number that is another one whenever a module was opened or closed.
  static unsigned long long count_changes() {
    unsigned long long changes = 0;
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* result) {
          *static_cast<unsigned long long*>(result) = info->dlpi_adds + info->dlpi_subs;
          return 1;
        },
        &changes);
    return changes;
  }

  void reload() {
    const unsigned long long changes = count_changes();
    if (changes == changes_) return;
    struct Found {
      std::vector<Entry> modules;
      bool program = true;
    } found;
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* result) {
          auto& into = *static_cast<Found*>(result);
          into.modules.push_back(describe(*info, std::exchange(into.program, false)));
          return 0;
        },
        &found);
    modules_ = std::move(found.modules);
    changes_ = changes;
  }

  static Entry describe(const dl_phdr_info& info, bool program) {
    auto module = std::make_shared<Module>();
    module->base = info.dlpi_addr;
    if (!program && info.dlpi_name != nullptr && info.dlpi_name[0] != '\0') {
      const std::unique_ptr<char, decltype(&std::free)> full(::realpath(info.dlpi_name, nullptr), &std::free);
      module->path = full ? full.get() : info.dlpi_name;
    } else if (!program) {
      module->path = "?";  // the kernel's own page of code has no file
    }
    for (std::size_t at = 0; at < info.dlpi_phnum; ++at) {
      const auto& header = info.dlpi_phdr[at];
      if (header.p_type == PT_LOAD && (header.p_flags & PF_X) != 0) {
        module->code.push_back({header.p_vaddr, header.p_vaddr + header.p_memsz});
      }
    }
    if (const auto id = find_build_id(info); !id.empty()) {
      module->identity = ModuleIdentity::make(1, id);
    } else if (program) {
      module->identity = identity_of_file("/proc/self/exe");
      if (module->identity == ModuleIdentity{}) module->identity = identity_of_file(program_path());
    } else {
      module->identity = identity_of_file(module->path.c_str());
    }
    module->key = module->identity.key();
    return module;
  }

 public:
  /// The path by which the kernel started this program, as it was then.
  static const char* program_path() noexcept {
    const auto path = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
    return path != nullptr ? path : "";
  }

 private:
  std::mutex mutex_;
  unsigned long long changes_ = 0;
  std::vector<Entry> modules_;
};

/// The identity of this program.
inline ModuleIdentity own_identity() {
  const ModuleTable::Entry program = ModuleTable::program();
  return program ? program->identity : ModuleIdentity{};
}

}  // namespace brood::detail
