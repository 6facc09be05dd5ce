// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <brood/os/mapping.hpp>
#include <brood/os/process.hpp>

namespace brood::inline v0_1::detail {

/// Where memory is to be had: the descriptor of a process, and what tells that memory from all other.
struct MemoryAddress {
  pid_t process = 0;
  int descriptor = -1;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t bytes = 0;
  int seals = 0;  ///< that it must have

  friend bool operator==(const MemoryAddress&, const MemoryAddress&) noexcept = default;
};

/// The seals of memory; 0 where it is a file without any.
inline int seals_of(int memory) noexcept {
  return std::max(0, retried("fcntl(F_GET_SEALS)", [&] { return ::fcntl(memory, F_GET_SEALS); }));
}

/// Memory that processes share: its descriptor and its mapping, which forked children have, too. Other processes open it
/// by the descriptor of the one that holds it, so it is to be held as long as they may.
class SharedMemory {
 public:
  enum class Access : bool { read, write };

  /// New memory of zeros. Throws SystemError.
  explicit SharedMemory(std::size_t bytes) : SharedMemory(make_shared_memory("brood-array", bytes), {}, Access::write) {}

  /// New memory that holds the bytes; for Access::read, nobody can change it. Throws SystemError.
  SharedMemory(std::span<const std::byte> bytes, Access access)
      : SharedMemory(access == Access::read ? make_sealed_bytes("brood-array", bytes) : make_filled(bytes), {}, access) {}

  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// A copy of the process that was made by fork(2) has the mapping, and maybe other descriptors under the number.
  ~SharedMemory() {
    if (::getpid() != address_.process) fd_.forget();
  }

  /// Memory of a process; the same object as long as somebody in this thread has it. Throws SystemError: ESTALE when
  /// that memory is not there any more.
  static std::shared_ptr<SharedMemory> at(const MemoryAddress& wanted, Access access) {
    std::vector<std::weak_ptr<SharedMemory>>& all = opened;
    std::erase_if(all, [](const auto& each) { return each.expired(); });
    for (const auto& each : all) {
      auto memory = each.lock();
      // in a forked copy of the process that opened it, its descriptor is not there any more
      if (memory && memory->origin_ == wanted && memory->access_ == access && memory->address_.process == ::getpid()) return memory;
    }
    // not make_shared: the weak pointers would keep its place
    std::shared_ptr<SharedMemory> memory(new SharedMemory(open(wanted, access), wanted, access));
    all.push_back(memory);
    if (recently.users != 0) recently.memory[recently.next++ % recently.memory.size()] = memory;
    return memory;
  }

  /// As long as one lives, what this thread has opened last stays open: for calls of which each may have a part of the
  /// same memory.
  class Reuse {
   public:
    Reuse() noexcept { ++recently.users; }
    Reuse(const Reuse&) = delete;
    Reuse& operator=(const Reuse&) = delete;
    ~Reuse() {
      if (--recently.users == 0) recently.memory.fill(nullptr);
    }
  };

  std::byte* data() const noexcept { return static_cast<std::byte*>(mapping_.data()); }
  std::size_t size() const noexcept { return mapping_.size(); }
  const MemoryAddress& address() const noexcept { return address_; }
  /// Whether nobody can change it any more.
  bool frozen() const noexcept { return (address_.seals & F_SEAL_WRITE) != 0; }

  /// Takes the right to write away from everybody, for ever; the data stay where they are. Throws SystemError: EBUSY
  /// when somebody else has mapped it to write, and then nothing has changed. A file on disk has no seals: only this
  /// mapping changes. Precondition: nobody uses it meanwhile.
  void freeze() {
    if (frozen()) return;
    // its own mapping counts, too: something else keeps the place
    remap(PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    const bool sealable = address_.seals != 0;
    const int sealed = !sealable ? 0 : retried("fcntl(F_ADD_SEALS)", [&] {
      return ::fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL);
    });
    const int error = errno;
    remap(sealed == 0 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get());
    if (sealed != 0) throw SystemError("fcntl(F_ADD_SEALS)", error);
    if (sealable) address_.seals |= F_SEAL_WRITE;
  }

 private:
  SharedMemory(Fd memory, const MemoryAddress& origin, Access access) : fd_(std::move(memory)), origin_(origin), access_(access) {
    struct stat info {};
    checked("fstat", [&] { return ::fstat(fd_.get(), &info); });
    address_ = {::getpid(), fd_.get(), info.st_dev, info.st_ino, static_cast<std::uint64_t>(info.st_size),
                seals_of(fd_.get()) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)};
    mapping_ = Mapping(fd_.get(), static_cast<std::size_t>(info.st_size), Inherit::yes,
                       access == Access::write ? PROT_READ | PROT_WRITE : PROT_READ);
    // a worker's end must not take as long as writing all of the host's arrays into a core dump
    if (origin.descriptor >= 0) tried("madvise", [&] { return ::madvise(data(), size(), MADV_DONTDUMP); });
  }

  static Fd make_filled(std::span<const std::byte> bytes) {
    Fd memory = make_shared_memory("brood-array", bytes.size());
    fill_memory(memory.get(), bytes);
    return memory;
  }

  void remap(int protection, int flags, int fd) {
    const auto at = retried("mmap", [&] {
      return reinterpret_cast<std::intptr_t>(::mmap(data(), size(), protection, flags | MAP_FIXED, fd, 0));
    });
    if (at == -1) throw SystemError("mmap", errno);
  }

  static bool is(const struct stat& info, const MemoryAddress& wanted) noexcept {
    return S_ISREG(info.st_mode) && info.st_dev == wanted.device && info.st_ino == wanted.inode &&
           static_cast<std::uint64_t>(info.st_size) == wanted.bytes;
  }

  /// A descriptor of its own for memory of another process, or of this one.
  static Fd open(const MemoryAddress& wanted, Access access) {
    Fd memory;
    if (wanted.process == ::getpid()) {
      memory = duplicate(wanted.descriptor);
    } else {
      const std::string path = "/proc/" + std::to_string(wanted.process) + "/fd/" + std::to_string(wanted.descriptor);
      struct stat info {};
      if (retried("stat", [&] { return ::stat(path.c_str(), &info); }) != 0) {
        const int error = errno;
        memory = copy_descriptor(wanted);
        if (!memory) throw SystemError("open", error);
      } else {
        if (!is(info, wanted)) throw SystemError("open", ESTALE);  // opening something else might do something
        const int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (access == Access::write ? O_RDWR : O_RDONLY);
        memory = own("open", retried("open", [&] { return ::open(path.c_str(), flags); }));
      }
    }
    struct stat info {};
    checked("fstat", [&] { return ::fstat(memory.get(), &info); });
    if (!is(info, wanted) || (seals_of(memory.get()) & wanted.seals) != wanted.seals) throw SystemError("open", ESTALE);
    return memory;
  }

  /// The other way, which needs no /proc but more rights; empty when it is refused. It gives the right to write as well.
  static Fd copy_descriptor(const MemoryAddress& wanted) {
    const Fd process = open_pidfd(wanted.process);
    if (!process) return Fd();
    const long fd = retried("pidfd_getfd", [&] { return ::syscall(SYS_pidfd_getfd, process.get(), wanted.descriptor, 0U); });
    return fd < 0 ? Fd() : fd > 2 ? Fd(static_cast<int>(fd)) : own("pidfd_getfd", static_cast<int>(fd));
  }

  struct Recently {
    std::array<std::shared_ptr<SharedMemory>, 4> memory;
    std::size_t next;
    unsigned users;
  };

  static inline thread_local std::vector<std::weak_ptr<SharedMemory>> opened;
  static inline thread_local Recently recently{};

  Fd fd_;
  MemoryAddress origin_;  ///< where it was opened; no descriptor: it was made here
  MemoryAddress address_;
  Access access_;
  Mapping mapping_;
};

}  // namespace brood::detail
