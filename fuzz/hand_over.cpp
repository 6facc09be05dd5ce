// SPDX-License-Identifier: MIT
// What an exec'ed image reads on descriptor 3, and what a worker is told before its first task.
#include <sys/mman.h>

#include <memory>
#include <span>
#include <string>

#include <brood/wire/hand_over.hpp>
#include <brood/worker/worker_loop.hpp>

#include "support.hpp"

// No input may open a library of this machine: what dlopen(3) runs is no part of the library.
extern "C" void* __wrap_dlopen(const char* /*path*/, int /*mode*/) { return nullptr; }

namespace {

using namespace brood::detail;

void start_hook() {}

/// Pieces that no fuzzer can guess: the identity of this program, code of it, the hand-over's header.
void make_bytes(fuzz::Input& in, Bytes& out) {
  while (!in.empty() && out.size() < 65'536) {
    switch (in.below(6)) {
      case 0: {
        const auto bytes = in.bytes(in.byte());
        out.append(bytes.data(), bytes.size());
        break;
      }
      case 1: {
        const ModuleIdentity identity = own_identity();
        out.append(&identity, sizeof identity);
        break;
      }
      case 2: {
        brood::Writer code;
        write_code(code, reinterpret_cast<const void*>(&start_hook));
        out.append(code.view().data(), code.view().size());
        break;
      }
      case 3: {
        HandOverHeader header;
        header.role = Role{in.take<std::uint32_t>()};
        header.parent = in.take<std::int32_t>();
        header.depth = in.byte();
        header.size = in.flag() ? in.take<std::uint64_t>() : in.byte();
        out.append(&header, sizeof header);
        break;
      }
      case 4: {
        const std::uint64_t count = in.byte();
        out.append(&count, sizeof count);
        break;
      }
      default: {
        WorkerSetup setup;
        setup.name = std::string(in.byte(), 'n');
        const std::string hook(in.byte(), 'h');
        if (in.flag()) setup.start_hook = std::as_bytes(std::span(hook));
        brood::Writer whole;
        setup.write(whole);
        out.append(whole.view().data(), whole.view().size());
      }
    }
  }
}

/// Types that were read are kept for good: each input begins with none.
void forget_exceptions() {
  auto& registry = ExceptionRegistry::instance();
  std::destroy_at(&registry);
  std::construct_at(&registry);
}

void check_setup(std::span<const std::byte> bytes) {
  const fuzz::HeapWatch heap;
  brood::Reader in(bytes);
  try {
    const WorkerSetup setup = WorkerSetup::read(in);
    for (const std::span<const std::byte> hook : {setup.start_hook, setup.stop_hook}) {
      fuzz::require(hook.empty() || (hook.data() >= bytes.data() && hook.data() + hook.size() <= bytes.data() + bytes.size()),
                    "a hook that is not among the bytes");
    }
  } catch (const brood::SerializationError&) {
  } catch (const brood::ImageMismatch&) {
  }
  heap.require_at_most(16 * bytes.size() + 65'536, "WorkerSetup::read");
}

void check_hand_over(std::span<const std::byte> bytes) {
  fuzz::require(::ftruncate(hand_over_fd, 0) == 0, "ftruncate failed");
  fuzz::require(::pwrite(hand_over_fd, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
                "pwrite failed");
  const auto header = peek_hand_over();
  if (!header) return;
  const fuzz::HeapWatch heap;
  try {
    const HandOver whole = take_hand_over(*header);
    fuzz::require(whole.body.size() == header->size && whole.body.size() + sizeof *header <= bytes.size(),
                  "bytes from nowhere");
  } catch (const SystemError&) {
    fuzz::require(header->size > bytes.size() - sizeof *header, "a hand-over that is there could not be read");
  }
  heap.require_at_most(bytes.size() + 4096, "take_hand_over");
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  const int memory = ::memfd_create("hand-over", MFD_CLOEXEC);
  return memory >= 0 && ::dup2(memory, hand_over_fd) == hand_over_fd ? 0 : 1;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size);
  const bool setup = in.flag();
  Bytes bytes;
  make_bytes(in, bytes);
  forget_exceptions();
  if (setup) {
    check_setup(bytes.view());
  } else {
    check_hand_over(bytes.view());
  }
  return 0;
}
