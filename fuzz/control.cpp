// SPDX-License-Identifier: MIT
// The host's end of a server: LocalServer against a server that sends any packet with any descriptors, at any time, and
// ends, or does not, as it likes. No process is behind it: the system calls that look for one are answered here.
#include <sys/resource.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <brood/policy/local_server.hpp>

#include "one_thread.hpp"

namespace {

using namespace brood::detail;

/// No process can have this number.
constexpr pid_t server_pid = 0x3fffffff;

struct World {
  explicit World(fuzz::Input bytes) : in(bytes) {}

  fuzz::Input in;
  ControlSocket server;
  Fd something = Pipe::make().read;  ///< to be passed
  bool alive = true;
  bool killed = false;
  bool reaped = false;
  int status = 0;
};
World* world = nullptr;

void send() {
  fuzz::Input& in = world->in;
  constexpr ControlType types[] = {ControlType::hello,   ControlType::mismatch,  ControlType::building,
                                   ControlType::built,   ControlType::failed,    ControlType::ready,
                                   ControlType::started, ControlType::unstarted, ControlType::exited,
                                   ControlType::start,   ControlType::kill,      ControlType::stop};
  std::array<std::byte, sizeof(ControlMessage) + 64> bytes{};
  std::size_t size = 0;
  const auto how = in.byte();
  if (how < 40) {
    const auto raw = in.bytes(in.byte());
    if (!raw.empty()) std::memcpy(bytes.data(), raw.data(), raw.size());
    size = how < 4 ? bytes.size() : raw.size();
  } else {
    const auto text = in.bytes(in.byte());
    ControlMessage message = ControlMessage::make(
        in.choose(types), {in.byte(), in.byte()}, in.flag() ? in.take<std::int32_t>() : in.byte() & 3,
        in.take<std::uint64_t>(), {reinterpret_cast<const char*>(text.data()), text.size()});
    if (how < 60) message.text_size = in.take<std::uint64_t>();
    size = ControlMessage::head_size + text.size();
    std::memcpy(bytes.data(), &message, size);
  }
  if (size == 0) return;  // an end, as far as the other side can see
  std::vector<int> fds(in.byte() < 200 ? in.below(2) : in.below(ControlSocket::max_fds + 1), world->something.get());
  world->server.send(std::span(bytes).first(size), fds);
}

bool play() {
  fuzz::Input& in = world->in;
  if (in.empty()) return false;
  switch (in.below(16)) {
    case 0: world->server.close(); return true;
    case 1:
      world->alive = false;
      world->status = in.flag() ? in.byte() << 8 : in.byte() & 0x7f;
      return true;
    case 2: fuzz::world::pass(std::chrono::milliseconds(in.byte())); return true;
    default:
      if (world->server) send();
      return true;
  }
}

void use(brood::WorkerSource& source) {
  fuzz::Input& in = world->in;
  switch (in.below(8)) {
    case 0: {
      const auto ends = source.start({in.byte(), in.byte()});
      if (ends) fuzz::require(ends->tasks && ends->keep && ends->results && ends->status, "a start without its ends");
      return;
    }
    case 1: return source.kill({in.byte(), in.byte()});
    case 2: return source.stop();
    case 3: static_cast<void>(source.overdue(std::chrono::milliseconds(in.byte()))); return;
    case 4: static_cast<void>(source.ended()); return;
    default: play();
  }
}

/// Listens until there is nothing to hear. Returns whether the source has ended.
bool listen(brood::WorkerSource& source) {
  while (const auto event = source.next()) {
    switch (event->kind) {
      case brood::SourceEvent::Kind::failed:
        fuzz::require(event->cause != nullptr, "a server failed for no reason");
        fuzz::require(!source.next().has_value(), "a server that has ended goes on talking");
        return true;
      case brood::SourceEvent::Kind::unstarted:
        fuzz::require(event->stage.size() <= ControlMessage::max_text, "a long stage");
        break;
      default: break;
    }
  }
  return false;
}

}  // namespace

/// A server that was killed, or is done for, ends.
bool fuzz::world::step() {
  if (!::world->alive) return false;
  if (::world->killed) {
    ::world->alive = false;
    ::world->status = SIGKILL;
    return true;
  }
  return ::world->in.byte() < 128 && play();
}

extern "C" {
pid_t __wrap_wait4(pid_t pid, int* status, int /*options*/, struct rusage* usage) {
  fuzz::require(pid == server_pid, "another process was waited for");
  if (world->alive) return 0;
  fuzz::require(!std::exchange(world->reaped, true), "a process was reaped twice");
  *status = world->status;
  *usage = {};
  return pid;
}
int __wrap_kill(pid_t pid, int signal) {
  fuzz::require(pid == server_pid && signal == SIGKILL, "another process was signaled");
  fuzz::require(!world->reaped, "a process was signaled after it was reaped");
  world->killed = true;
  return 0;
}
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::DescriptorWatch descriptors;
  fuzz::world::start();
  World now{fuzz::Input(data, size)};
  world = &now;
  auto [host, server] = ControlSocket::make_pair();
  now.server = std::move(server);
  std::vector<std::string> preloads(now.in.below(3), "Preload");
  {
    const auto made = now.in.flag() ? LocalServer::Made::by_fork : LocalServer::Made::by_exec;
    brood::LaunchOptions options;
    options.kill_tree = now.in.flag();
    options.capture_output = now.in.flag();
    LocalServer source(std::move(host), Fd(), "Policy", preloads, made, options);
    source.begin(server_pid);
    while (!now.in.empty() && !listen(source)) use(source);
    fuzz::require(source.preloads().size() == preloads.size(), "Preloads come and go");
  }
  fuzz::require(now.reaped, "a server was left behind");
  world = nullptr;
  return 0;
}
