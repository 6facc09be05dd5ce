// SPDX-License-Identifier: MIT
// What a worker notes about its crash, and the files that the note names: the reader of notes and that of ELF files.
#include <sys/mman.h>

#include <csignal>
#include <memory>
#include <string>

#include <brood/pool/backtrace.hpp>

#include "support.hpp"

namespace {

using brood::detail::CrashRecord;

/// A note that begins in a way that could be true, with one module whose file is `path`; or noise.
std::unique_ptr<CrashRecord> make_note(fuzz::Input& in, const std::string& path) {
  auto record = std::make_unique<CrashRecord>();
  if (in.byte() % 8 == 0) {
    const auto noise = in.bytes(in.take<std::uint16_t>() % sizeof(CrashRecord));
    std::memcpy(reinterpret_cast<std::byte*>(record.get()) + offsetof(CrashRecord, signal), noise.data(),
                std::min(noise.size(), sizeof(CrashRecord) - offsetof(CrashRecord, signal)));
    record->frames = in.byte();
    record->stage = 2;
    return record;
  }
  record->stage = 2;
  record->signal = SIGSEGV;
  record->code = in.choose({1, 2, 0, -6});
  record->sender = in.byte();
  record->address = in.take<std::uint64_t>();
  record->stack = in.flag() ? record->address + in.byte() : 0;
  record->cut = in.byte() % 2;
  record->frames = in.byte() % (CrashRecord::max_frames + 2);
  record->modules = 1 + in.byte() % 2;
  std::memcpy(record->paths.data(), path.data(), path.size());
  record->module[0].path_size = static_cast<std::uint32_t>(path.size());
  record->module[1].path = in.byte();
  record->module[1].path_size = in.byte();
  if (in.flag()) {
    const auto id = in.bytes(20);
    record->module[0].identity = brood::detail::ModuleIdentity::make(1, id);
  }
  const std::uint32_t told = std::min<std::uint32_t>(record->frames, 8);
  for (std::uint32_t at = 0; at < told; ++at) {
    record->module_of[at] = static_cast<std::uint8_t>(in.byte() % 4);
    record->offsets[at] = in.take<std::uint16_t>();
  }
  return record;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace brood::detail;
  const fuzz::DescriptorWatch descriptors;
  const Fd file = own("memfd_create", ::memfd_create("note", MFD_CLOEXEC));
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  fuzz::Input in(data, size);
  const auto note = make_note(in, path);
  const bool sparse = in.byte() % 16 == 0;  // behind what is written: zeros, more than can be read
  const auto bytes = in.rest();
  fuzz::require(::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "no memory");
  if (sparse) fuzz::require(::ftruncate(file.get(), off_t{1} << 40) == 0, "a file can't grow");

  constexpr std::uint64_t room = 64 << 10;
  const fuzz::HeapWatch heap;
  std::vector<FunctionAt> wanted;
  for (std::uint64_t at = 0; at < 8; ++at) wanted.push_back({at * 64, {}, 0});
  ReadBudget budget(room);
  const ElfFile elf(file.get(), budget);
  static_cast<void>(elf.identity());
  elf.find(wanted);
  for (const FunctionAt& each : wanted) fuzz::require(each.name.size() <= 400, "a name without end");

  std::optional<Crash> crash = read_crash(*note, brood::ExitStatus::from_wait(SIGSEGV));
  if (crash) {
    fuzz::require(crash->frames.size() <= CrashRecord::max_frames, "more frames than there is room for");
    FrameNames names;
    names.tell(*crash, room);
    const std::size_t longest = CrashRecord::path_room + 400;
    fuzz::require(crash->text().size() <= (CrashRecord::max_frames + 2) * longest, "a backtrace without end");
    fuzz::require(crash->summary(1).size() <= longest, "a message without end");
    fuzz::tell("frames", crash->frames.size());
  }
  // the table of sections, once for each time that the file is opened; paths; texts; what a name is taken apart to
  heap.require_at_most(8'000'000, "a crash note");
  return 0;
}
