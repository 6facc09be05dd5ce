// SPDX-License-Identifier: MIT
// internal
// What a process notes about its own crash, in memory that it shares with whoever wants to know: the signal, the address,
// and the stack as {module, offset}, which mean something in another process too. The names are looked up there: the
// handler allocates nothing, takes no lock and asks only what is async-signal-safe. It never changes how the process ends.
#pragma once

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <brood/os/mapping.hpp>
#include <brood/os/module.hpp>

namespace brood::inline v0_1::detail {

struct CrashRecord {
  static constexpr std::size_t max_frames = 64;
  static constexpr std::size_t max_modules = 16;
  static constexpr std::size_t path_room = 1536;
  static constexpr std::uint8_t no_module = 255;

  enum class Stage : std::uint32_t { none = 0, taken = 1, told = 2 };

  struct Module {
    ModuleIdentity identity;  ///< all zero where it has no build id
    std::uint32_t path = 0;   ///< where in `paths`
    std::uint32_t path_size = 0;
  };

  std::atomic<std::uint32_t> stage{0};
  std::atomic<std::uint32_t> frames{0};  ///< how many are there; grows while the stack is walked
  std::int32_t signal = 0;
  std::int32_t code = 0;             ///< si_code: positive when the kernel raised it
  std::int32_t sender = 0;           ///< when somebody sent it: the pid
  std::uint32_t cut = 0;             ///< not 0: the stack has more frames
  std::uint64_t address = 0;         ///< si_addr
  std::uint64_t stack = 0;           ///< the stack pointer, 0 where that is not known
  std::uint32_t modules = 0;
  std::uint32_t paths_size = 0;
  std::array<std::uint64_t, max_frames> offsets{};   ///< in the module; an address where there is none
  std::array<std::uint8_t, max_frames> module_of{};
  std::array<Module, max_modules> module{};
  std::array<char, path_room> paths{};
};

inline constexpr std::array crash_signals{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

/// Fills a CrashRecord. Async-signal-safe, all of it.
class CrashWriter {
 public:
  explicit CrashWriter(CrashRecord& record) noexcept : record_(record) {}

  /// False when another thread was first.
  bool take() noexcept {
    std::uint32_t none = 0;
    return record_.stage.compare_exchange_strong(none, static_cast<std::uint32_t>(CrashRecord::Stage::taken));
  }

  void tell(int signal, const siginfo_t& info, const void* context) noexcept {
    record_.signal = signal;
    record_.code = info.si_code;
    if (info.si_code > 0) {
      record_.address = reinterpret_cast<std::uintptr_t>(info.si_addr);
    } else {
      record_.sender = info.si_pid;
    }
    read_registers(*static_cast<const ucontext_t*>(context));
    record_.stack = stack_;
    record_.stage.store(static_cast<std::uint32_t>(CrashRecord::Stage::told), std::memory_order_release);
  }

  /// Each frame is there for the host as soon as it is found: on a broken stack the walk itself may crash.
  void walk() noexcept {
#if __GLIBC_PREREQ(2, 35)
    _Unwind_Backtrace(&CrashWriter::on_frame, this);
    if (count_ != 0) return;
    // the unwinder can't start where there is no code: after a call to nowhere the caller is still known
    add(pc_, true);
    if (caller_ != 0) add(caller_, false);
#endif
  }

  /// Everything that a first use may load or initialize is done here, outside of any handler.
  static void warm_up() noexcept {
#if __GLIBC_PREREQ(2, 35)
    _Unwind_Backtrace([](_Unwind_Context*, void*) { return _URC_END_OF_STACK; }, nullptr);
#endif
  }

 private:
  void read_registers(const ucontext_t& context) noexcept {
#if defined(__x86_64__)
    pc_ = static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RIP]);
    stack_ = static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RSP]);
    if (record_.code > 0 && pc_ == record_.address && stack_ % sizeof(void*) == 0 && stack_ != 0) {
      caller_ = *reinterpret_cast<const std::uintptr_t*>(stack_);  // the call has just pushed it
    }
#elif defined(__aarch64__)
    pc_ = context.uc_mcontext.pc;
    stack_ = context.uc_mcontext.sp;
    if (record_.code > 0 && pc_ == record_.address) caller_ = context.uc_mcontext.regs[30];
#else
    static_cast<void>(context);
#endif
  }

#if __GLIBC_PREREQ(2, 35)
  static _Unwind_Reason_Code on_frame(_Unwind_Context* context, void* writer) noexcept {
    auto& self = *static_cast<CrashWriter*>(writer);
    int interrupted = 0;
    const std::uintptr_t pc = _Unwind_GetIPInfo(context, &interrupted);
    if (pc == 0) return _URC_END_OF_STACK;
    if (self.count_ == 0 && interrupted == 0 && pc != self.pc_) return _URC_NO_REASON;  // the handler's own
    return self.add(pc, interrupted != 0 || self.count_ == 0) ? _URC_NO_REASON : _URC_END_OF_STACK;
  }

  /// A return address points behind the call: the call is what is wanted. False when there is no room.
  bool add(std::uintptr_t pc, bool exact) noexcept {
    if (count_ == CrashRecord::max_frames) {
      record_.cut = 1;
      return false;
    }
    const std::uintptr_t at = exact ? pc : pc - 1;
    std::uint64_t offset = at;
    std::uint8_t module = CrashRecord::no_module;
    dl_find_object found{};
    if (::_dl_find_object(reinterpret_cast<void*>(at), &found) == 0 && found.dlfo_link_map != nullptr) {
      module = module_index(found);
      if (module != CrashRecord::no_module) offset = at - found.dlfo_link_map->l_addr;
    }
    record_.offsets[count_] = offset;
    record_.module_of[count_] = module;
    record_.frames.store(static_cast<std::uint32_t>(++count_), std::memory_order_release);
    return true;
  }

  std::uint8_t module_index(const dl_find_object& found) noexcept {
    const link_map* const map = found.dlfo_link_map;
    for (std::uint32_t at = 0; at < modules_; ++at) {
      if (seen_[at] == map) return static_cast<std::uint8_t>(at);
    }
    if (modules_ == CrashRecord::max_modules) return CrashRecord::no_module;
    const char* const path = map->l_name != nullptr ? map->l_name : "";
    const std::size_t size = std::strlen(path);
    CrashRecord::Module& module = record_.module[modules_];
    if (size <= CrashRecord::path_room - paths_) {
      std::memcpy(record_.paths.data() + paths_, path, size);
      module.path = paths_;
      module.path_size = static_cast<std::uint32_t>(size);
      paths_ += module.path_size;
    } else {
      return CrashRecord::no_module;
    }
    module.identity = identity_of(found);
    seen_[modules_] = map;
    record_.paths_size = paths_;
    record_.modules = modules_ + 1;
    return static_cast<std::uint8_t>(modules_++);
  }

  static ModuleIdentity identity_of(const dl_find_object& found) noexcept {
    ElfW(Ehdr) head;
    std::memcpy(&head, found.dlfo_map_start, sizeof head);
    constexpr std::size_t first_page = 4096;  // the only part that is mapped for certain
    if (std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_phoff > first_page ||
        head.e_phnum > (first_page - head.e_phoff) / sizeof(ElfW(Phdr))) {
      return {};
    }
    dl_phdr_info info{};
    info.dlpi_addr = found.dlfo_link_map->l_addr;
    info.dlpi_phdr = reinterpret_cast<const ElfW(Phdr)*>(static_cast<const std::byte*>(found.dlfo_map_start) + head.e_phoff);
    info.dlpi_phnum = head.e_phnum;
    const auto id = find_build_id(info);
    return id.empty() ? ModuleIdentity{} : ModuleIdentity::make(1, id);
  }
#endif

  CrashRecord& record_;
  std::uintptr_t pc_ = 0;
  std::uintptr_t stack_ = 0;
  std::uintptr_t caller_ = 0;
  std::size_t count_ = 0;
  std::uint32_t modules_ = 0;
  std::uint32_t paths_ = 0;
  std::array<const link_map*, CrashRecord::max_modules> seen_{};
};

/// Whose crash is noted, and where. A process that the task forks has the handler too, but is not meant.
struct CrashWatch {
  std::atomic<CrashRecord*> record{nullptr};
  std::atomic<pid_t> process{0};
  std::atomic<pid_t> thread{0};  ///< the one that writes the record
  std::atomic<int> signal{0};    ///< the one that it writes about
  bool installed = false;        ///< the handler is there, in this process and in those that it forks
};
inline constinit CrashWatch crash_watch{};

/// Notes the crash and lets the signal do what it does by default, so that the end of the process is what it would have
/// been.
inline void on_crash(int signal, siginfo_t* info, void* context) noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, nullptr);
  CrashRecord* const record = crash_watch.record.load();
  if (record != nullptr && ::getpid() == crash_watch.process.load()) {
    CrashWriter writer(*record);
    if (writer.take()) {
      crash_watch.signal.store(signal);
      crash_watch.thread.store(::gettid());
      writer.tell(signal, *info, context);
      writer.walk();
    } else if (crash_watch.thread.load() == ::gettid()) {
      // the walk has crashed on a broken stack: what there is to tell is told, and the first signal is the one that counts
      signal = crash_watch.signal.load();
      sigset_t first;
      ::sigemptyset(&first);
      ::sigaddset(&first, signal);
      ::pthread_sigmask(SIG_UNBLOCK, &first, nullptr);
    }
  }
  ::raise(signal);  // blocked in its own handler: it strikes when this returns
}

/// Installs the handler for every signal that has none yet; one that is installed later simply takes its place. On a stack
/// of its own, so that also an overflow of the stack is told. Handlers of a sanitizer that insists on its own stay. It notes
/// nothing before note_crash_in; a process that is forked later has handler and stack already.
inline void install_crash_handler() noexcept {
  if (std::exchange(crash_watch.installed, true)) return;
  CrashWriter::warm_up();
  // the kernel may need much of it for registers alone; touched only in a crash
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t size = (std::size_t{128} << 10) + static_cast<std::size_t>(::sysconf(_SC_SIGSTKSZ)) / page * page;
  constexpr int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  if (void* const memory = map_memory(size + page, PROT_READ | PROT_WRITE, kind, -1)) {
    tried("mprotect", [&] { return ::mprotect(memory, page, PROT_NONE); });  // below it
    stack_t stack{};
    stack.ss_sp = static_cast<std::byte*>(memory) + page;
    stack.ss_size = size;
    ::sigaltstack(&stack, nullptr);
  }
  struct sigaction handler {};
  handler.sa_sigaction = &on_crash;
  handler.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int signal : crash_signals) {
    struct sigaction now {};
    if (::sigaction(signal, nullptr, &now) != 0 || (now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL) continue;
    ::sigaction(signal, &handler, nullptr);
  }
}

/// For a process in which every disposition is the default again. It may be the copy of one whose crash is noted.
inline void renew_crash_handler() noexcept {
  crash_watch.record.store(nullptr);
  crash_watch.installed = false;
  install_crash_handler();
}

/// From here on a crash of this process is noted in `record`.
inline void note_crash_in(CrashRecord& record) noexcept {
  install_crash_handler();
  crash_watch.process.store(::getpid());
  crash_watch.record.store(&record);
}

/// Takes away a handler that this process was forked with.
inline void remove_crash_handler() noexcept {
  if (!std::exchange(crash_watch.installed, false)) return;
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (const int signal : crash_signals) {
    struct sigaction now {};
    if (::sigaction(signal, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == &on_crash) {
      ::sigaction(signal, &standard, nullptr);
    }
  }
  stack_t stack{};
  if (::sigaltstack(nullptr, &stack) != 0 || (stack.ss_flags & SS_DISABLE) != 0) return;
  stack_t none{};
  none.ss_flags = SS_DISABLE;
  ::sigaltstack(&none, nullptr);
}

}  // namespace brood::detail
