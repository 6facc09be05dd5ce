// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <span>
#include <string>
#include <system_error>

#include <brood/core/errors.hpp>
#include <brood/os/foreign_memory.hpp>
#include <brood/wire/blocks.hpp>

namespace brood::inline v0_1::detail {

/// The memory of the host, from which a worker reads large arguments. The number can't be another process's: the worker does
/// not outlive its host.
class HostMemory final : public BlockSource {
 public:
  pid_t pid = 0;
  std::uint64_t address = 0;  ///< of a word, to try it with
  std::uint64_t word = 0;     ///< and what is there

  /// Whether it can be read just now. A task may have given up the right to.
  bool readable() const noexcept {
    std::uint64_t found = 0;
    return pid != 0 && read_memory_of(pid, address, std::as_writable_bytes(std::span(&found, 1))) == 0 && found == word;
  }

  void read(std::uint64_t from, std::span<std::byte> target) override {
    int error = read_memory_of(pid, from, target);
    for (int tries = 0; error != 0 && tries < 3; ++tries) {  // the kernel may have no memory for it just now
      constexpr timespec pause{0, 1'000'000};
      ::nanosleep(&pause, nullptr);
      error = read_memory_of(pid, from, target);
    }
    if (error == 0) return;
    throw SerializationError("a large argument can't be read from the host's memory: " + std::generic_category().message(error));
  }
};

}  // namespace brood::detail
