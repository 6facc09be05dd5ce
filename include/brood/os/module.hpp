// SPDX-License-Identifier: MIT
// internal
// Which programs and shared libraries this process has loaded, and who they are. An address in one process means
// nothing in another; {module, offset} means the same in every process that has loaded the same file.
#pragma once

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cinttypes>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <brood/os/fd.hpp>

namespace brood::inline v0_1::detail {

/// Who a module is: its build id, or, where the linker wrote none, its file's device, inode, size and time of change; of a
/// library whose file is not at its path any more, device and inode.
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

/// The identity of a file, for a program without a build id.
inline ModuleIdentity identity_of_file(const char* path) noexcept {
  struct stat info {};
  if (tried("stat", [&] { return ::stat(path, &info); }) != 0) return {};
  const std::array<std::uint64_t, 4> parts{std::uint64_t{info.st_dev}, std::uint64_t{info.st_ino},
                                           static_cast<std::uint64_t>(info.st_size),
                                           static_cast<std::uint64_t>(info.st_mtim.tv_sec) * 1'000'000'000U +
                                               static_cast<std::uint64_t>(info.st_mtim.tv_nsec)};
  return ModuleIdentity::make(2, std::as_bytes(std::span(parts)));
}

/// A file as /proc/self/maps has it. Its device may be another one than stat(2) tells, and on an overlay its inode, too.
struct MappedFile {
  std::array<std::uint64_t, 2> number{};  ///< device and inode
  std::string path;                       ///< where it is now; with " (deleted)" behind it where it is not
};

/// The file that is mapped at this address; nothing when that is not to be seen.
inline std::optional<MappedFile> file_mapped_at(std::uintptr_t address) {
  const int fd = retried("open", [] { return ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return std::nullopt;
  const Fd file = own("open(/proc/self/maps)", fd);
  std::string text;
  std::array<char, 8192> part;
  for (;;) {
    const auto size = retried("read", [&] { return ::read(file.get(), part.data(), part.size()); });
    if (size <= 0) break;
    text.append(part.data(), static_cast<std::size_t>(size));
  }
  for (std::size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    const std::string line = text.substr(at, end - at);
    std::uint64_t first = 0, last = 0, major = 0, minor = 0, inode = 0;
    int path = 0;
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %*s %*x %" SCNx64 ":%" SCNx64 " %" SCNu64 " %n", &first, &last,
                    &major, &minor, &inode, &path) != 5) {
      continue;
    }
    if (address < first || address >= last) continue;
    if (inode == 0) return std::nullopt;
    return MappedFile{{major << 32 | minor, inode}, line.substr(static_cast<std::size_t>(path))};
  }
  return std::nullopt;
}

/// Whether the file at `path` is, as far as can be seen, the one that is mapped at the address, and not one that has taken its
/// place.
inline bool is_in_place(const std::string& path, std::uintptr_t address) {
  const auto mapped = file_mapped_at(address);
  struct stat info {};
  return !mapped || mapped->path == path ||
         (tried("stat", [&] { return ::stat(path.c_str(), &info); }) == 0 && mapped->number[1] == info.st_ino);
}

/// The identity of a library without a build id: that of its file, while it is there. Code must not be looked for in the file
/// that has taken its place.
inline ModuleIdentity identity_of_library(const std::string& path, std::uintptr_t address) {
  if (is_in_place(path, address)) return identity_of_file(path.c_str());
  const auto mapped = file_mapped_at(address);
  return mapped ? ModuleIdentity::make(3, std::as_bytes(std::span(mapped->number))) : ModuleIdentity();
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
    if (identity == ModuleIdentity{}) return nullptr;  // nobody knows who that is
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
    struct Found {
      const ModuleTable& table;
      std::vector<Entry> modules{};
      unsigned long long changes = 0;
      unsigned long long closed = 0;
    } found{*this};
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* result) {
          auto& into = *static_cast<Found*>(result);
          into.changes = info->dlpi_adds + info->dlpi_subs;
          into.closed = info->dlpi_subs;
          if (into.changes == into.table.changes_) return 1;
          Entry known = into.table.known(*info);
          into.modules.push_back(known ? std::move(known) : describe(*info, into.modules.empty()));
          return 0;
        },
        &found);
    if (found.changes == changes_) return;
    modules_ = std::move(found.modules);
    changes_ = found.changes;
    closed_ = found.closed;
  }

  /// As it was when it was seen first: its file may be another one since. Null when modules were closed meanwhile: what is
  /// there now may have been loaded in the place of one.
  Entry known(const dl_phdr_info& info) const {
    if (info.dlpi_subs != closed_) return nullptr;
    for (const Entry& module : modules_) {
      if (module->base == info.dlpi_addr) return module;
    }
    return nullptr;
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
      std::uintptr_t mapped = module->base;
      if (!module->code.empty()) mapped += module->code.front().start;
      module->identity = identity_of_library(module->path, mapped);
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
  unsigned long long closed_ = 0;  ///< how often modules were closed
  std::vector<Entry> modules_;
};

/// The identity of this program.
inline ModuleIdentity own_identity() {
  const ModuleTable::Entry program = ModuleTable::program();
  return program ? program->identity : ModuleIdentity{};
}

}  // namespace brood::detail
