// SPDX-License-Identifier: MIT
// brood::init: where an exec'ed image of this program turns into a server or a worker.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <brood/core/config.hpp>
#include <brood/os/signals.hpp>
#include <brood/wire/code_pointer.hpp>
#include <brood/wire/hand_over.hpp>
#include <brood/worker/leave.hpp>
#include <brood/worker/server.hpp>
#include <brood/worker/worker_loop.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// What an exec'ed server runs after the handshake: code of the policy, named in the hand-over.
using ServerMain = void (*)(Server& server, Reader& in);

/// What init has learned.
struct EntryState {
  bool initialized = false;
  std::vector<std::string> arguments;
};
inline EntryState entry_state;

#if BROOD_BODIES

/// Takes a descriptor of the hand-over off its fixed number; from here on it is closed on exec.
BROOD_INLINE Fd take_handed_fd(int offset) {
  retried("fcntl", [&] { return ::fcntl(first_handed_fd + offset, F_SETFD, FD_CLOEXEC); });
  return Fd(first_handed_fd + offset);
}

/// A protocol_version in words.
BROOD_INLINE std::string brood_version(std::uint32_t protocol) {
  return "brood " + std::to_string(protocol >> 24) + "." + std::to_string(protocol >> 16 & 0xff) + "." +
         std::to_string(protocol >> 8 & 0xff) + " (protocol " + std::to_string(protocol & 0xff) + ")";
}

/// Why this image can't serve the one that started it; empty when it can.
BROOD_INLINE std::string mismatch_with(const HandOverHeader& header) {
  if (header.protocol != protocol_version) {
    return "the host, or the library that made the pool, was built with " + brood_version(header.protocol) +
           ", the program that was started for it with " + brood_version(protocol_version) + ": build both with the same";
  }
  const ModuleIdentity own = own_identity();
  if (header.identity == own) return {};
  return "the host runs " + header.identity.text() + ", the program that was started for it is " + own.text();
}

[[noreturn]] BROOD_INLINE void run_exec_server(const HandOverHeader& header) {
  take_role(ProcessRole::server);
  const LeaveAtEnd end;
  // While Preloads are built nobody watches the host. The thread that has launched us lives at least until they are built,
  // so its end is the host's.
  if (!die_with_parent(header.parent)) ::_exit(0);
  Server server;
  server.control = ControlSocket(take_handed_fd(1));
  server.lifeline = take_handed_fd(2);
  if (header.host_pidfd != 0) server.host_pidfd = take_handed_fd(3);
  server.host = header.parent;
  server.depth = header.depth;
  process_depth = header.depth;
  server.arguments = entry_state.arguments;
  name_process("brood-server");
  const std::string mismatch = mismatch_with(header);
  if (!mismatch.empty()) {
    server.control.send(ControlMessage::make(ControlType::mismatch, {}, 0, 0, mismatch).bytes());
    leave(exit_code_of_broken_worker);
  }
  server.control.send(ControlMessage::make(ControlType::hello, {}, ::getpid()).bytes());
  try {
    const HandOver hand_over = take_hand_over(header);
    Fd(hand_over_fd).reset();
    Reader in(hand_over.body.view());
    const auto server_main = reinterpret_cast<ServerMain>(read_code(in));
    name_process(in.text(), server_suffix);
    ModuleTable::instance().refresh();
    server_main(server, in);
  } catch (const ImageMismatch& error) {
    server.control.send(ControlMessage::make(ControlType::mismatch, {}, 0, 0, error.what()).bytes());
    leave(exit_code_of_broken_worker);
  } catch (const abi::__forced_unwind&) {
    throw;
  } catch (...) {
    leave(exit_code_of_broken_worker);
  }
  leave(0);
}

[[noreturn]] BROOD_INLINE void run_exec_worker(const HandOverHeader& header) {
  take_role(ProcessRole::worker);
  if (!die_with_parent(header.parent)) ::_exit(0);
  process_depth = header.depth + 1;
  Fd(hand_over_fd).reset();
  WorkerChannel channel{take_handed_fd(1), take_handed_fd(2), take_handed_fd(3), Fd()};
  if (header.output != 0) channel.output = take_handed_fd(4);
  name_process("brood-worker");
  static const std::vector<PreloadedObject> nothing;
  if (const std::string mismatch = mismatch_with(header); !mismatch.empty()) {
    Writer out;
    begin_frame(out.bytes());
    write_failure(out, FailureKind::image_mismatch, mismatch);
    FrameHeader failed;
    failed.type = FrameType::failed;
    end_frame(out.bytes(), failed);
    write_all(channel.results.get(), out.view());
    leave(exit_code_of_broken_worker);
  }
  ModuleTable::instance().refresh();
  run_worker(std::move(channel), nothing, nullptr, false);
}

#endif  // BROOD_BODIES

}  // namespace detail

/// To be called as the first line of main. When a pool has started this program as a server or a worker, it does that
/// job and never returns; else it returns at once. A pool that has to start the program again refuses to do so
/// (InitMissing) when init was not called. What main does before init also happens in servers and exec'ed workers.
/// With the CMake target brood::auto_init it need not be called.
/// \snippet reference.cpp init
BROOD_INLINE void init(int argc, char** argv);

#if BROOD_BODIES

BROOD_INLINE void init(int argc, char** argv) {
  using namespace detail;
  if (entry_state.initialized) return;
  entry_state.initialized = true;
  entry_state.arguments.assign(argv, argv + argc);
  const std::optional<HandOverHeader> header = peek_hand_over();
  if (!header) return;
  retried("fcntl", [] { return ::fcntl(hand_over_fd, F_SETFD, FD_CLOEXEC); });
  if (header->parent != ::getppid()) ::_exit(0);  // whoever wanted this process has gone
  reset_dispositions();
  unblock_all_signals();
  if (header->role == Role::worker) run_exec_worker(*header);
  run_exec_server(*header);
}

#endif  // BROOD_BODIES

}  // namespace brood
