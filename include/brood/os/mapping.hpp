// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <utility>

#include <brood/os/fd.hpp>
#include <brood/os/pipe.hpp>

namespace brood::inline v0_1::detail {

/// Maps a file. Null when that fails, with errno.
inline void* map_memory(std::size_t size, int protection, int flags, int fd) noexcept {
  const auto at = retried("mmap", [&] {
    return reinterpret_cast<std::intptr_t>(::mmap(nullptr, size, protection, flags, fd, 0));
  });
  return at == -1 ? nullptr : reinterpret_cast<void*>(at);  // MAP_FAILED is -1
}

/// Memory without a name that two processes can map, `size` bytes of zero. Its size can't change any more, so that
/// nobody who holds the descriptor can make the other's accesses fault. Where memfd_create(2) is refused it is a file
/// without a name, which lacks that seal.
inline Fd make_shared_memory(const char* name, std::size_t size) {
  int fd = retried("memfd_create", [&] { return ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING); });
  const bool sealable = fd >= 0;
  if (!sealable && not_available(errno)) {
    for (const char* folder : {"/dev/shm", "/tmp", "."}) {
      fd = retried("open", [&] { return ::open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600); });
      if (fd >= 0) break;
    }
  }
  Fd memory = own("memfd_create", fd);
  checked("ftruncate", [&] { return ::ftruncate(memory.get(), static_cast<off_t>(size)); });
  if (sealable) {
    checked("fcntl(F_ADD_SEALS)", [&] { return ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW); });
  }
  return memory;
}

/// Fills shared memory from its beginning, in one copy and without mapping it.
inline void fill_memory(int memory, std::span<const std::byte> bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const auto rest = bytes.subspan(done);
    done += static_cast<std::size_t>(checked("pwrite", [&] {
      return ::pwrite(memory, rest.data(), rest.size() < max_transfer ? rest.size() : max_transfer, static_cast<off_t>(done));
    }));
  }
}

/// Shared memory that holds `bytes`, sealed against every change.
inline Fd make_sealed_bytes(const char* name, std::span<const std::byte> bytes) {
  Fd memory = make_shared_memory(name, bytes.size());
  fill_memory(memory.get(), bytes);
  // a file on disk has no seals: nothing lost
  tried("fcntl", [&] { return ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL); });
  return memory;
}

/// Whether children made by fork(2) see a mapping too.
enum class Inherit : bool { no, yes };

/// Owns one shared mapping.
class Mapping {
 public:
  Mapping() noexcept = default;
  Mapping(int fd, std::size_t size, Inherit inherit, int protection = PROT_READ | PROT_WRITE) : size_(size) {
    data_ = map_memory(size, protection, MAP_SHARED, fd);
    if (data_ == nullptr) throw SystemError("mmap", errno);
    if (inherit == Inherit::no) tried("madvise", [&] { return ::madvise(data_, size_, MADV_DONTFORK); });
  }
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    Mapping taken(std::move(other));
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    return *this;
  }
  ~Mapping() {
    if (data_ != nullptr) tried("munmap", [&] { return ::munmap(data_, size_); });
  }

  void* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  explicit operator bool() const noexcept { return data_ != nullptr; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace brood::detail
