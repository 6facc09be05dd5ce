// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include <brood/os/mapping.hpp>

namespace brood::inline v0_1::detail {

/// Tells the process that made it from a copy that fork(2) has made since, without a system call: its page is empty in a
/// copy. Where the kernel can't do that it asks for the process id.
class OwnProcess {
 public:
  OwnProcess() noexcept {
    void* const page = map_memory(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (page == nullptr) return;
    if (tried("madvise", [&] { return ::madvise(page, size, MADV_WIPEONFORK); }) != 0) {
      tried("munmap", [&] { return ::munmap(page, size); });
      return;
    }
    *static_cast<std::uint32_t*>(page) = mark;
    tried("mprotect", [&] { return ::mprotect(page, size, PROT_READ); });  // a stray write is the writer's failure
    page_ = static_cast<const volatile std::uint32_t*>(page);
  }
  OwnProcess(const OwnProcess&) = delete;
  OwnProcess& operator=(const OwnProcess&) = delete;
  ~OwnProcess() {
    if (page_ != nullptr) tried("munmap", [&] { return ::munmap(const_cast<std::uint32_t*>(page_), size); });
  }

  bool same() const noexcept { return page_ != nullptr ? *page_ == mark : ::getpid() == pid_; }

 private:
  static constexpr std::size_t size = 4096;  // at most a page: the kernel rounds up
  static constexpr std::uint32_t mark = 0x646f7262;

  const pid_t pid_ = ::getpid();
  const volatile std::uint32_t* page_ = nullptr;
};

}  // namespace brood::detail
