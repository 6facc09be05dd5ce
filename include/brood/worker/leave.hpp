// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <stdio_ext.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#if __has_include(<ext/stdio_sync_filebuf.h>)
#include <ext/stdio_sync_filebuf.h>

#include <typeinfo>
#endif

extern "C" {
// Linked in by compilers that measure coverage, absent otherwise; _exit(2) would lose what they counted. The first is what
// instrumented code calls at its own end: __gcov_dump, the public one, is linked in only for those who call it.
void __gcov_exit() __attribute__((weak));                 // NOLINT(bugprone-reserved-identifier)
int __llvm_profile_write_file() __attribute__((weak));    // NOLINT(bugprone-reserved-identifier)
// libc's own side of at_quick_exit(3). Like a handler of on_exit(3), one of these is given the exit code, in its second
// argument; the standard's has none.
int __cxa_at_quick_exit(void (*handler)(void*), void* module) noexcept;  // NOLINT(bugprone-reserved-identifier)
}

namespace brood::inline v0_1::detail {

/// Whether a stream of the standard library may hold text of its own. Not while it is synchronised with stdio, as it is
/// until the program says otherwise: then it hands each character on.
inline bool may_hold_text(const std::ostream& stream) noexcept {
#if __has_include(<ext/stdio_sync_filebuf.h>)
  const std::streambuf* const buffer = stream.rdbuf();
  return buffer != nullptr && typeid(*buffer) != typeid(__gnu_cxx::stdio_sync_filebuf<char>);
#else
  return stream.rdbuf() != nullptr;
#endif
}

/// Flushes what this process may have printed. Before a fork, so that no text is in two buffers, and at a child's end.
/// `all` also flushes the files that the program opened itself; it must not be used while other threads may hold one. Where
/// nothing is to be flushed, nothing is written to: in a forked child each page that is costs a copy.
inline void flush_output(bool all) noexcept {
  try {
    for (std::ostream* const stream : {&std::cout, &std::cerr, &std::clog}) {
      if (may_hold_text(*stream)) stream->flush();
    }
  } catch (...) {  // a stream that was told to throw; its text is lost either way
  }
  if (all) {
    std::fflush(nullptr);
  } else {
    for (std::FILE* const file : {stdout, stderr}) {
      if (::__fpending(file) != 0) std::fflush(file);
    }
  }
}

/// Whether the files that the program opened itself are flushed at this process' end: not in a copy of a host with
/// threads, which could not flush them before the copy was made, so that their text is in both.
inline bool flushes_all_streams = true;

inline void write_coverage() noexcept {
  if (__gcov_exit != nullptr) __gcov_exit();
  if (__llvm_profile_write_file != nullptr) __llvm_profile_write_file();
}

/// Ends a server or a worker: the static destructors and atexit handlers belong to the host and must not run here.
[[noreturn]] inline void leave(int code) noexcept {
  flush_output(flushes_all_streams);
  write_coverage();
  ::_exit(code);
}

/// From here on, exit(3) and quick_exit(3) end this process here when they come to what was registered earlier: that is the
/// host's. What a task registers itself is run. quick_exit flushes nothing, as ever. Holds for the processes that this one
/// forks, too.
inline void end_exit_here() noexcept {
  ::on_exit([](int code, void*) { leave(code); }, nullptr);
  void (*const quick)(void*, int) = [](void*, int code) {
    write_coverage();
    ::_exit(code);
  };
  ::__cxa_at_quick_exit(reinterpret_cast<void (*)(void*)>(reinterpret_cast<void*>(quick)), nullptr);
}

/// The exit code of a worker or a server that could not go on: the library's own part of it failed, not a task.
inline constexpr int exit_code_of_broken_worker = 70;  // EX_SOFTWARE of sysexits.h

/// The exit code of a server that can't reach its host any more, although it lives.
inline constexpr int exit_code_of_lost_server = 74;  // EX_IOERR

/// For the outermost frame of a server or a worker: whatever unwinds it (pthread_exit(3) in a task) ends the process
/// here, before it reaches the frames of the host that a forked child has below.
class LeaveAtEnd {
 public:
  /// `registered`: the process that this one is a fork of has seen to exit(3) already.
  explicit LeaveAtEnd(bool registered = false) {
    if (!registered) end_exit_here();
  }
  LeaveAtEnd(const LeaveAtEnd&) = delete;
  LeaveAtEnd& operator=(const LeaveAtEnd&) = delete;
  ~LeaveAtEnd() { leave(0); }
};

}  // namespace brood::detail
