// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <linux/close_range.h>
#include <sys/syscall.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <brood/core/config.hpp>
#include <brood/os/image.hpp>
#include <brood/wire/hand_over.hpp>
#include <brood/worker/server.hpp>

namespace brood::inline v0_1::detail {

/// A worker that is a fresh image of this program.
BROOD_INLINE pid_t start_by_exec(Server& server, WorkerChannel& channel);

#if BROOD_BODIES

/// What a server needs to exec a worker, made once so that the child allocates nothing.
struct WorkerImage {
  Fd image;
  Fd hand_over;
  std::vector<char*> argv;

  WorkerImage(Server& server, bool captures) : image(open_own_image()) {
    HandOverHeader header;
    header.role = Role::worker;
    header.parent = ::getpid();
    header.depth = server.depth;
    header.identity = own_identity();
    header.output = captures ? 1 : 0;
    hand_over = make_hand_over(header, {});
    for (std::string& argument : server.arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
  }
};

/// Tells the host why no worker came to be, from a child that may not allocate: a frame on the result pipe.
BROOD_INLINE void report_failed_exec(int results, int error) noexcept {
  struct {
    FrameHeader header;
    std::array<std::byte, 128> payload{};
  } frame;
  const char* const meaning = strerrordesc_np(error);
  std::array<char, 112> text{};
  std::strcpy(text.data(), "the program could not be started again (execveat): ");
  std::strncat(text.data(), meaning != nullptr ? meaning : "unknown error", text.size() - std::strlen(text.data()) - 1);
  const std::uint64_t size = std::strlen(text.data());
  frame.payload[0] = static_cast<std::byte>(FailureKind::serialization);
  std::memcpy(&frame.payload[1], &size, sizeof size);
  std::memcpy(&frame.payload[1 + sizeof size], text.data(), size);
  frame.header.type = FrameType::failed;
  frame.header.size = 1 + sizeof size + size;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(&frame), sizeof frame.header + frame.header.size);
  [[maybe_unused]] const auto count = retried("write", [&] { return ::write(results, bytes.data(), bytes.size()); });
}

/// The child of a fork becomes a fresh image of this program. Allocates nothing.
[[noreturn]] BROOD_INLINE void become_image(const WorkerImage& image, const WorkerChannel& channel, pid_t parent) noexcept {
  take_role(ProcessRole::worker);
  if (!die_with_parent(parent)) ::_exit(0);
  // first to high numbers, so that no target overwrites a source that is still needed
  std::array<int, 5> all{image.hand_over.get(), channel.tasks.get(), channel.results.get(), channel.status.get(),
                         channel.output.get()};
  const std::span<int> sources(all.data(), channel.output ? 5 : 4);
  const auto high = [](int fd) { return retried("fcntl", [&] { return ::fcntl(fd, F_DUPFD_CLOEXEC, first_handed_fd + 8); }); };
  const int program = high(image.image.get());
  bool handed = program >= 0;
  for (std::size_t at = 0; at < sources.size() && handed; ++at) handed = (sources[at] = high(sources[at])) >= 0;
  for (std::size_t at = 0; at < sources.size() && handed; ++at) {
    handed = retried("dup2", [&] { return ::dup2(sources[at], first_handed_fd + static_cast<int>(at)); }) >= 0;
  }
  if (!handed) {  // without its hand-over it would run the program's main
    report_failed_exec(channel.results.get(), errno);
    ::_exit(exit_code_of_broken_worker);
  }
  // where it is refused, only the library's own descriptors close
  const unsigned behind = first_handed_fd + static_cast<unsigned>(sources.size());
  retried("close_range", [&] { return ::syscall(SYS_close_range, behind, ~0U, CLOSE_RANGE_CLOEXEC); });
  unblock_all_signals();
  execute_image(program, image.argv.data(), ::environ);
  report_failed_exec(first_handed_fd + 2, errno);
  ::_exit(exit_code_of_broken_worker);
}

BROOD_INLINE pid_t start_by_exec(Server& server, WorkerChannel& channel) {
  static const WorkerImage image(server, static_cast<bool>(channel.output));  // the same for all of a pool
  const pid_t parent = ::getpid();
  const pid_t pid = retried("fork", [] { return ::fork(); });
  if (pid == 0) become_image(image, channel, parent);
  return pid;
}

#endif  // BROOD_BODIES

}  // namespace brood::detail
