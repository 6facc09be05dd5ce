// SPDX-License-Identifier: MIT
// internal
// From what a worker's handler noted about its crash to text. The record is a stranger's bytes: it is copied once, and every
// number in it is checked.
#pragma once

#include <brood/core/config.hpp>
#include <brood/core/exit_status.hpp>
#include <brood/core/loops.hpp>
#include <brood/os/crash_handler.hpp>
#include <brood/os/functions.hpp>
#include <brood/os/module.hpp>

#if BROOD_BODIES

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace brood::inline v0_1::detail {

/// One frame of a stack, innermost first.
struct CrashFrame {
  std::string path;        ///< of its module; empty for the program, "?" where none is known
  ModuleIdentity identity;
  FunctionAt function;
  NameTrust trust = NameTrust::none;
  bool looked_up = false;

  /// "crash_here()+0x1c (program+0x5a1c)", which addr2line can use too.
  std::string text() const {
    std::string result;
    if (!function.name.empty()) result = function.name + "+" + hex(function.offset - function.start) + " ";
    if (path == "?") return result + "(" + hex(function.offset) + ")";
    return result + "(" + file() + "+" + hex(function.offset) + ")";
  }

  std::string file() const {
    const std::string full = path.empty() ? ModuleTable::program_path() : path;
    return full.substr(full.rfind('/') + 1);
  }

  /// Whether it belongs to the machinery between a failed check and the signal: no user looks for it.
  bool is_system() const {
    const std::string name = file();
    for (const std::string_view each : {"libc.so", "libc-", "libstdc++.so", "libc++", "libgcc_s", "libpthread", "ld-linux",
                                        "libasan", "libubsan", "libtsan", "linux-vdso"}) {
      if (name.starts_with(each)) return true;
    }
    for (const std::string_view each : {"__asan", "__sanitizer", "__ubsan", "__interceptor", "___interceptor", "__tsan"}) {
      if (function.name.starts_with(each)) return true;
    }
    return false;
  }

  bool is_user() const { return !function.name.empty() && !is_system(); }

  static std::string hex(std::uint64_t number) {
    std::array<char, 24> text{};
    std::snprintf(text.data(), text.size(), "0x%llx", static_cast<unsigned long long>(number));
    return text.data();
  }
};

/// What is known of a crash.
struct Crash {
  int signal = 0;
  bool raised_by_kernel = false;
  std::uint64_t address = 0;
  pid_t sender = 0;
  bool overflow = false;  ///< the address lies at the stack pointer
  bool cut = false;
  std::vector<CrashFrame> frames;

  /// What follows "was killed by signal 11": " at address 0x0 in crash_here()".
  std::string summary(pid_t worker) const {
    std::string text;
    if (raised_by_kernel && (signal == SIGSEGV || signal == SIGBUS)) text += " at address " + CrashFrame::hex(address);
    if (!raised_by_kernel && sender > 0 && sender != worker) text += ", sent by process " + std::to_string(sender) + ",";
    const auto guilty =
        find_where(frames.begin(), frames.end(), [](const CrashFrame& frame) { return frame.is_user(); });
    if (guilty != frames.end()) text += " in " + guilty->function.name;
    if (overflow) text += " (the stack overflowed, most likely)";
    return text;
  }

  /// One frame a line; those of a recursion are counted.
  std::string text() const {
    std::string result;
    for (std::size_t at = 0; at < frames.size();) {
      std::size_t same = 1;
      while (at + same < frames.size() && !frames[at].function.name.empty() &&
             frames[at + same].function.name == frames[at].function.name && frames[at + same].path == frames[at].path) {
        ++same;
      }
      const std::size_t shown = same > 3 ? 1 : same;
      for (std::size_t each = at; each < at + shown; ++each) {
        result += "#" + std::to_string(each) + " " + frames[each].text() + "\n";
      }
      if (shown < same) result += "   ... " + std::to_string(same - shown) + " more of the same\n";
      at += same;
    }
    if (cut) result += "   ... and more: these are the first " + std::to_string(frames.size()) + "\n";
    return result;
  }
};

/// Leaves out what lies below the task: the worker's loop, and how the task is called from it.
BROOD_INLINE void drop_machinery(Crash& crash) {
  std::vector<CrashFrame>& frames = crash.frames;
  std::size_t loop = frames.size();  // just behind the outermost frame of it
  while (loop != 0 && frames[loop - 1].function.name.find("brood::detail::WorkerLoop::") == std::string::npos) --loop;
  if (loop == 0) return;
  const auto calls_task = [](const CrashFrame& frame) {
    for (const std::string_view each : {"brood::detail::", "std::apply<", "std::__apply_impl<", "std::__invoke", "std::invoke<"}) {
      if (frame.function.name.find(each) != std::string::npos) return true;
    }
    return false;
  };
  std::size_t keep = frames.size();
  while (keep != 0 && (keep > loop || calls_task(frames[keep - 1]))) --keep;
  // the crash is in that machinery, or in a callable that is inlined there: then its innermost frame tells which
  const auto end = frames.begin() + static_cast<std::ptrdiff_t>(keep);
  const bool all_system =
      find_where(frames.begin(), end, [](const CrashFrame& frame) { return frame.is_user(); }) == end;
  if (all_system && keep != frames.size()) ++keep;
  while (frames.size() > keep) frames.pop_back();
  crash.cut = false;
}

/// Finds the names of frames, and knows them from then on. Thread-safe; no lock is held while files are read.
class FrameNames {
 public:
  static FrameNames& instance() {
    static FrameNames* const names = new FrameNames;  // never destroyed: failures outlive static destructors
    return *names;
  }

  /// Names the frames of a crash and leaves out those that are none of the user's. Reads so many bytes at most.
  void tell(Crash& crash, std::uint64_t max_bytes = enough_bytes) {
    std::vector<CrashFrame>& frames = crash.frames;
    prefer_own_modules(frames);
    ReadBudget budget(max_bytes);
    for (std::size_t at = 0; at < frames.size(); ++at) {
      if (frames[at].path == "?" || frames[at].looked_up || recall(frames[at])) continue;
      std::vector<FunctionAt> wanted;  // all of this module at once
      for (std::size_t each = at; each < frames.size(); ++each) {
        if (same_module(frames[each], frames[at])) wanted.push_back({frames[each].function.offset, {}, 0});
      }
      find_functions(frames[at].path, frames[at].identity, wanted, budget, frames[at].trust);
      auto next = wanted.begin();
      for (std::size_t each = at; each < frames.size(); ++each) {
        if (!same_module(frames[each], frames[at])) continue;
        frames[each].function = std::move(*next++);
        frames[each].looked_up = true;
        remember(frames[each]);
      }
    }
    drop_machinery(crash);
  }

 private:
  using Key = std::pair<std::string, std::uint64_t>;
  static constexpr std::size_t max_known = 4096;
  static constexpr std::uint64_t enough_bytes = 256 << 20;  ///< for one crash, whatever its files claim

  /// A module that this process has loaded is read where this process has it.
  static void prefer_own_modules(std::vector<CrashFrame>& frames) {
    for (CrashFrame& frame : frames) {
      if (frame.path.empty()) frame.trust = NameTrust::own;
      if (frame.path == "?" || frame.identity == ModuleIdentity{}) continue;
      const auto own = ModuleTable::instance().with(frame.identity);
      if (!own || (!own->path.empty() && !own->path.starts_with('/'))) continue;
      frame.path = own->path;
      frame.trust = NameTrust::own;
    }
  }

  static bool same_module(const CrashFrame& a, const CrashFrame& b) { return a.path == b.path && a.identity == b.identity; }

  /// A file that nothing identifies may be another one the next time.
  static bool may_know(const CrashFrame& frame) { return frame.path.empty() || frame.identity != ModuleIdentity{}; }

  static Key key_of(const CrashFrame& frame) {
    const auto* const identity = reinterpret_cast<const char*>(frame.identity.bytes.data());
    return Key(frame.path + '\0' + std::string(identity, frame.identity.bytes.size()), frame.function.offset);
  }

  bool recall(CrashFrame& frame) {
    if (!may_know(frame)) return false;
    const std::lock_guard lock(mutex_);
    const auto found = known_.find(key_of(frame));
    if (found == known_.end()) return false;
    frame.function = found->second;
    return true;
  }

  void remember(const CrashFrame& frame) {
    if (!may_know(frame)) return;
    const std::lock_guard lock(mutex_);
    if (known_.size() >= max_known) known_.clear();
    known_.insert_or_assign(key_of(frame), frame.function);
  }

  std::mutex mutex_;
  std::map<Key, FunctionAt> known_;
};

/// What a worker that ended so has noted, yet without names; nothing when it did not crash, or had no handler, or noted nonsense.
BROOD_INLINE std::optional<Crash> read_crash(const CrashRecord& shared, ExitStatus status) {
  using Stage = CrashRecord::Stage;
  if (shared.stage.load(std::memory_order_acquire) != static_cast<std::uint32_t>(Stage::told)) return std::nullopt;
  const std::uint32_t count = shared.frames.load(std::memory_order_acquire);
  const auto copy = std::make_unique<CrashRecord>();
  const auto* const bytes = reinterpret_cast<const std::byte*>(&shared);
  constexpr std::size_t head = offsetof(CrashRecord, signal);
  std::memcpy(reinterpret_cast<std::byte*>(copy.get()) + head, bytes + head, sizeof(CrashRecord) - head);
  const CrashRecord& told = *copy;
  if (count > CrashRecord::max_frames || told.modules > CrashRecord::max_modules) return std::nullopt;
  if (!status.signaled() || status.signal() != told.signal) return std::nullopt;  // it ended otherwise

  Crash crash;
  crash.signal = told.signal;
  crash.raised_by_kernel = told.code > 0;
  crash.address = told.address;
  crash.sender = told.sender;
  crash.cut = told.cut != 0;
  constexpr std::uint64_t guard = 64 << 10;
  crash.overflow = told.signal == SIGSEGV && crash.raised_by_kernel && told.stack != 0 && told.address != 0 &&
                   told.address - told.stack + guard < 2 * guard && count > 8;
  for (std::uint32_t at = 0; at < count; ++at) {
    CrashFrame frame;
    frame.path = "?";
    frame.function.offset = told.offsets[at];
    if (told.module_of[at] < told.modules) {
      const CrashRecord::Module& module = told.module[told.module_of[at]];
      if (module.path > CrashRecord::path_room || module.path_size > CrashRecord::path_room - module.path) return std::nullopt;
      const std::string path(told.paths.data() + module.path, module.path_size);
      if (path.find('\0') != std::string::npos) return std::nullopt;
      frame.path = path;
      frame.identity = path.empty() ? ModuleIdentity{} : module.identity;  // the program is this one: it was compared
    }
    crash.frames.push_back(std::move(frame));
  }
  return crash;
}

}  // namespace brood::detail

#endif  // BROOD_BODIES
