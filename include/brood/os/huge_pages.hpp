// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

#include <brood/os/syscall.hpp>

namespace brood::inline v0_1::detail {

/// Asks for huge pages in fresh memory that is about to be filled to its end: it is what most of the time of a large copy goes
/// into, page by page. Only pages that the data covers whole are meant, so no memory is used beside the data. Nothing is done
/// for less than what malloc(3) always maps by itself, and unmaps again with the block (32 MiB at most): the wish must not
/// stay behind on the program's heap. A kernel that has no huge pages refuses, which is no loss.
inline void prefer_huge_pages(const void* data, std::size_t size) noexcept {
  constexpr std::size_t smallest = std::size_t{32} << 20;
  constexpr std::uintptr_t page = std::uintptr_t{2} << 20;
  if (size <= smallest) return;
  const auto first = (reinterpret_cast<std::uintptr_t>(data) + page - 1) / page * page;
  const auto last = (reinterpret_cast<std::uintptr_t>(data) + size) / page * page;
  tried("madvise", [&] { return ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE); });
}

}  // namespace brood::detail
