// SPDX-License-Identifier: MIT
// A worker without a process: what it says and does is up to the input. Its pipes, its status page and its sockets are real; its
// memory, its number and its descriptors are what the calls at the end of this file make the host see. What it did is put
// down in a ledger, so that the target can tell what the host may make of it.
#pragma once

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <brood/brood.hpp>

#include "support.hpp"

namespace fuzz {

using namespace brood::detail;

/// Readable when it was told to be.
class Signal {
 public:
  Signal() : fd_(own("eventfd", ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))) {}
  int fd() const noexcept { return fd_.get(); }
  void raise() noexcept {
    const std::uint64_t one = 1;
    require(::write(fd_.get(), &one, sizeof one) == sizeof one, "an eventfd took nothing");
  }
  void lower() noexcept {
    std::uint64_t count;
    [[maybe_unused]] const auto size = ::read(fd_.get(), &count, sizeof count);
  }

 private:
  Fd fd_;
};

/// A worker may write to a pipe that the host has closed. The host itself must not.
inline bool worker_writes = false;
inline void watch_broken_pipes() {
  std::signal(SIGPIPE, [](int) {
    if (!worker_writes) fail("the host wrote to a pipe that nobody reads");
  });
}

// ---- the ledger ------------------------------------------------------------------------------------------------------

enum class Kind : std::uint8_t { number, text, texts, elements, files };

/// What a worker has to know of a call, beside what the host sends.
struct Call {
  Kind kind = Kind::number;
  unsigned tries = 1;
  std::size_t files = 0;  ///< descriptors of its arguments
  std::size_t room = 0;   ///< for its elements
};

/// What one worker may have cost.
struct Account {
  pid_t pid = 0;
  unsigned lies = 0;     ///< each may cost a task
  bool cost = false;     ///< it was at work when it ended, was killed, or was forgotten
  bool died = false;     ///< and it was not, or not only, the host that ended it
  bool idle = false;     ///< it was up then, and not at work
};

struct Ledger {
  std::map<std::uint64_t, Call> calls;  ///< single ones, by the numbers of their tasks
  Kind items = Kind::number;            ///< of the map that is called now
  std::map<std::uint64_t, std::string> answers;  ///< what honest workers said of single tasks, the last time
  std::map<std::uint64_t, unsigned> starts;  ///< of all tasks, by workers that had not lied before they were done
  std::vector<std::shared_ptr<Account>> workers;
  std::uint64_t limit = 0;    ///< PoolOptions::max_message_bytes
  unsigned server_lies = 0;
  unsigned troubles = 0;      ///< after which the host may say that it can't start workers
  bool names_lie = false;     ///< a worker may have said that it is another
  bool numbers_lost = false;  ///< the host had no numbers for descriptors
  pid_t next_pid = 5000;
};
inline Ledger* ledger = nullptr;

// ---- the memory of workers ---------------------------------------------------------------------------------------------

constexpr std::uint64_t memory_base = 0x10'000'000;
constexpr std::size_t memory_size = (std::size_t{5} << 18) + 4096;  // a bit more than two pieces of a Pull

/// Each worker has other bytes there.
inline std::string_view memory_of(pid_t pid, std::uint64_t address, std::size_t size) {
  static const std::string all = [] {
    std::string bytes(memory_size + 256, '\0');
    std::uint32_t state = 1;
    for (char& each : bytes) each = static_cast<char>((state = state * 1664525U + 1013904223U) >> 24);
    return bytes;
  }();
  return std::string_view(all).substr(address - memory_base + (static_cast<unsigned>(pid) & 255U), size);
}

/// Called while the host reads a worker's memory, which it does without a lock.
inline std::function<void()> while_reading;
/// The host's next descriptors find no numbers.
inline bool no_numbers = false;
inline bool worker_receives = false;

// ---- the worker --------------------------------------------------------------------------------------------------------

/// The other side of one worker's pipes and status page.
struct ScriptedWorker {
  Ticket ticket;
  Fd tasks;
  Fd results;
  StatusMapping status;
  std::shared_ptr<Signal> end;  ///< stands for its pidfd
  std::shared_ptr<Account> account;
  std::shared_ptr<unsigned> untold;  ///< how many workers its server has not told of
  bool announced = false;
  bool ended = false;   ///< its end was reported, or can be seen
  bool killed = false;  ///< the host wants it dead
  bool honest = true;   ///< so far; else it can't go on and has to end
  bool greeted = false;
  bool reads_host = true;
  bool late = false;    ///< its server had said nothing for so long that the host may have given up on both
  bool reused = false;  ///< it has ended, and its number is another's
  int reads_refused = 0;  ///< an errno: why the host may not read its memory
  int takes_refused = 0;  ///< an errno: why the host may not take its descriptors
  std::size_t short_reads = 0;
  std::vector<std::byte> inbox;
  struct Received {
    FrameHeader header;
    std::vector<Block> lent;
  };
  std::deque<Received> received;        ///< tasks that were not started
  std::optional<FrameHeader> running;
  std::vector<Block> lent;              ///< of the task that runs: in the host's memory
  bool counted = false;                 ///< its start
  std::chrono::steady_clock::time_point begun{};
  bool told_to_stop = false;
  std::uint32_t items_sent = 0;
  std::uint32_t items_done = 0;
  std::size_t log_used = 0;
  std::string outbox;         ///< it waits for room in the pipe
  bool log_is_sent = false;   ///< when that is sent: what was in the log
  bool item_is_sent = false;  ///< one item that was not
  bool finishes = false;      ///< the answer
  bool offered = false;       ///< it waits for the host to read its memory
  bool asked = false;         ///< it waits for a connection
  bool passing = false;       ///< it waits for the host to take an item's descriptors
  unsigned asks = 0;
  bool unconnected = false;  ///< the host refused
  Fd mine, hosts, listener, connection;
  Fd plain;                  ///< a descriptor of its that is no socket
  std::string by_pipe;       ///< the result that it has offered
  std::uint64_t run_ns = 0;

  StatusPage& page() const noexcept { return status.page(); }
  std::uint64_t secret() const noexcept { return ticket.generation * 0x9e3779b97f4a7c15U + asks; }
  bool waits() const noexcept { return !outbox.empty() || offered || asked || passing; }
  Call call() const {
    const auto found = ledger->calls.find(running->task);
    return found != ledger->calls.end() ? found->second : Call();
  }

  /// Whether a task fails if it ends now. Between two items of a chunk nothing runs.
  bool at_work() const noexcept {
    if (!running) return false;
    if (running->count == 0 || items_done == 0) return true;
    return items_done != running->count && (page().items_started.load() & ~StatusPage::halted_bit) > items_done;
  }
  /// It is about to say or do what a worker may not, which may cost the task that it runs, or another that it had.
  void lie() {
    honest = false;
    ++account->lies;
    if (!greeted) ledger->names_lie = true;
    if (running && std::exchange(counted, false)) --ledger->starts[running->task];
  }
  /// It ends, or as good as that.
  void settle(bool may_have_died) {
    if (at_work()) {
      account->cost = true;
      account->died = account->died || may_have_died;
    } else if (greeted && !told_to_stop) {
      account->idle = true;
    }
  }
  /// It ends. `own_doing`: not only for the host's kill.
  void die(bool own_doing) {
    if (std::exchange(ended, true)) return;
    if (!std::exchange(announced, true)) --*untold;
    ++ledger->troubles;
    settle(own_doing || late);
    results.reset();
    tasks.reset();
    end_post();
    if (end) end->raise();
  }
  void be_killed(bool overdue) {
    if (ended) return;
    killed = true;
    late = late || overdue;
    settle(late);
  }
  /// The host does not listen to it any more.
  void be_forgotten() {
    honest = false;
    settle(true);
  }
  bool forgotten() const {
    pollfd watched{results.get(), 0, 0};
    return results && ::poll(&watched, 1, 0) == 1 && (watched.revents & POLLERR) != 0;
  }

  /// What the host has lent must be there as long as the task that was told of it runs.
  void look_at_lent() const {
    if (lent.empty() || account->lies != 0 || ledger->server_lies != 0 || ended || forgotten()) return;
    for (const Block& block : lent) {
      const auto bytes = block.view();
      require(std::all_of(bytes.begin(), bytes.end(), [](std::byte each) { return each == std::byte{'x'}; }),
              "what was lent to a worker is something else");
    }
  }

  /// Reads what the host has sent. Returns whether there was anything.
  bool read_tasks() {
    bool some = false;
    std::byte chunk[4096];
    while (tasks) {
      const ssize_t size = ::read(tasks.get(), chunk, sizeof chunk);
      if (size <= 0) break;
      some = true;
      inbox.insert(inbox.end(), chunk, chunk + size);
    }
    std::size_t at = 0;
    FrameHeader header;
    while (inbox.size() - at >= sizeof header) {
      std::memcpy(&header, inbox.data() + at, sizeof header);
      require(header.magic == FrameHeader::magic_value, "the host sent what is no frame");
      if (inbox.size() - at - sizeof header < header.size) break;
      const auto payload = std::span(inbox).subspan(at + sizeof header, static_cast<std::size_t>(header.size));
      at += sizeof header + payload.size();
      if (header.type == FrameType::task) {
        received.push_back({header, {}});
        if ((header.flags & FrameHeader::listed) != 0) {
          brood::Reader in(payload.subspan(sizeof(TaskStream)));
          received.back().lent = read_blocks(in);
        }
      }
      if (header.type == FrameType::stop) told_to_stop = true;
    }
    inbox.erase(inbox.begin(), inbox.begin() + static_cast<std::ptrdiff_t>(at));
    return some;
  }

  /// Starts the next task that was not taken back. Whether it has one, and can go on.
  bool start_task() {
    read_tasks();
    while (!running && !received.empty() && !waits()) {
      if (!greeted) lie();
      const Received next = std::move(received.front());
      received.pop_front();
      const FrameHeader& header = next.header;
      if (!next.lent.empty() && !reads_host) continue;
      page().begin(header.number, static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()));
      if (!page().claim(header.number)) continue;
      page().progress.number.store(header.number);
      page().task.store(header.task);
      running = header;
      begun = std::chrono::steady_clock::now();
      lent = next.lent;
      items_sent = items_done = 0;
      log_used = 0;
      counted = account->lies == 0;
      if (counted) {
        ++ledger->starts[header.task];
      } else {
        ++account->lies;  // the host may not hear of what this one answers
      }
      look_at_lent();
    }
    return running && !waits();
  }

  // ---- what it sends

  void send(std::string_view bytes) {
    if (results) {
      outbox += bytes;
      flush(~std::size_t{0});
    } else if (running) {
      be_forgotten();
    }
  }
  void send(std::span<const std::byte> bytes) {
    send(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  void send(FrameHeader header, std::span<const std::byte> payload) {
    header.size = payload.size();
    const auto head = std::as_bytes(std::span(&header, 1));
    std::string frame(reinterpret_cast<const char*>(head.data()), head.size());
    frame.append(reinterpret_cast<const char*>(payload.data()), payload.size());
    send(frame);
  }
  /// Writes as much as the pipe takes, and no more than that. Returns whether it wrote anything.
  bool flush(std::size_t most) {
    if (outbox.empty() || !results) return false;
    worker_writes = true;
    const ssize_t size = ::write(results.get(), outbox.data(), std::min(outbox.size(), most));
    worker_writes = false;
    if (size < 0 && errno == EPIPE) {
      outbox.clear();
      be_forgotten();
      return false;
    }
    if (size > 0) outbox.erase(0, static_cast<std::size_t>(size));
    if (!outbox.empty()) return size > 0;
    if (std::exchange(log_is_sent, false)) {
      items_sent = items_done;
      log_used = 0;
      publish();
    }
    if (std::exchange(item_is_sent, false)) {
      items_sent = ++items_done;
      publish();
    }
    if (std::exchange(finishes, false)) finish();
    return true;
  }
  void publish() { page().items_done.store(std::uint64_t{items_done} << 32 | log_used); }

  void hello(bool reads) {
    if (greeted) lie();
    FrameHeader header;
    header.type = FrameType::hello;
    header.number = static_cast<std::uint64_t>(account->pid);
    if (reads) header.flags = FrameHeader::reads_host;
    reads_host = reads;
    greeted = true;
    send(header, {});
  }

  FrameHeader answer_header(FrameType type, std::uint16_t flags) const {
    FrameHeader header;
    header.type = type;
    header.task = running->task;
    header.number = run_ns;
    header.flags = flags & (FrameHeader::full | FrameHeader::reported);
    return header;
  }
  void finish_with(const FrameHeader& header, std::span<const std::byte> payload) {
    finishes = true;
    send(header, payload);
  }
  void answer_with_exception() {
    brood::Writer out;
    write_failure(out, std::make_exception_ptr(std::runtime_error("scripted")));
    finish_with(answer_header(FrameType::failed, 0), out.view());
  }

  /// Ends the running task as it should be ended, or goes a step towards that. `size`: of what is in its memory, or how many
  /// descriptors.
  void answer(std::uint64_t ran, std::uint16_t flags = 0, std::size_t size = 0) {
    if (!running || waits()) return;
    look_at_lent();
    run_ns = ran;
    if (running->count != 0) return answer_items(flags);
    const Call what = call();
    std::string& told = ledger->answers[running->task];
    brood::Writer out;
    std::vector<Block> blocks;
    switch (what.kind) {
      case Kind::number:
        out.number<int>(7);
        told = "7";
        return finish_with(answer_header(FrameType::result, flags), out.view());
      case Kind::files: return answer_files(what, flags, size);
      case Kind::elements: size = std::min(size, what.room * sizeof(int)) / sizeof(int) * sizeof(int); break;
      default: break;
    }
    size = std::min(size, memory_size / 2);
    if (size + 3 * sizeof(std::uint64_t) > ledger->limit / 2) size = 0;
    const std::uint64_t at = memory_base + size % 4096;
    if (what.kind == Kind::texts) out.count(2);
    for (int parts = what.kind == Kind::texts ? 2 : 1; parts-- > 0;) {
      out.count(what.kind == Kind::elements ? size / sizeof(int) : size);
      blocks.push_back({out.size(), at, size});
    }
    told.clear();
    for (const Block& block : blocks) told += std::string(memory_of(account->pid, block.address, size)) + '|';
    by_pipe.clear();
    std::size_t done = 0;
    const auto own_bytes = [&](std::size_t until) {
      by_pipe.append(reinterpret_cast<const char*>(out.view().data()) + done, until - done);
      done = until;
    };
    for (const Block& block : blocks) {
      own_bytes(static_cast<std::size_t>(block.offset));
      by_pipe += memory_of(account->pid, block.address, size);
    }
    own_bytes(out.size());
    if (size < 4096) return finish_with(answer_header(FrameType::result, flags), std::as_bytes(std::span(by_pipe)));
    Bytes offer;
    write_blocks(offer, blocks);
    offer.append(out.view().data(), out.size());
    offered = true;
    page().transfer.store(static_cast<std::uint32_t>(StatusPage::Transfer::offered));
    send(answer_header(FrameType::large, flags), offer.view());
  }

  // ---- items

  bool log_item(std::string_view bytes, bool failed) {
    const std::uint64_t word = std::uint64_t{bytes.size()} << 1 | (failed ? 1U : 0U);
    if (log_used + sizeof word + bytes.size() > StatusPage::log_capacity || !page().start_item()) return false;
    std::memcpy(page().log() + log_used, &word, sizeof word);
    if (!bytes.empty()) std::memcpy(page().log() + log_used + sizeof word, bytes.data(), bytes.size());
    log_used += sizeof word + bytes.size();
    ++items_done;
    publish();
    return true;
  }
  /// What an item comes to.
  std::string_view value_of_item() const noexcept {
    using namespace std::string_view_literals;
    return ledger->items == Kind::files ? "\0\0\0\0\0\0\0\0"sv : "\7\0\0\0"sv;
  }
  void send_log(std::uint16_t flags) {
    FrameHeader header = answer_header(FrameType::items, flags);
    header.flags |= flags & FrameHeader::last;
    header.first = items_sent;
    header.count = items_done - items_sent;
    log_is_sent = true;
    send(header, std::span(page().log(), log_used));
  }
  void answer_items(std::uint16_t flags) {
    const bool full = (flags & FrameHeader::full) != 0 && items_done != 0;
    while (!full && items_done < running->count && log_item(value_of_item(), false)) {
    }
    finishes = true;
    send_log(static_cast<std::uint16_t>(FrameHeader::last | (full ? flags : flags & ~FrameHeader::full)));
  }
  /// An item with descriptors, which the host has to take before the worker goes on.
  void pass_item(std::size_t count) {
    if (!running || waits() || ledger->items != Kind::files || items_done >= running->count) return;
    if (asks == 0) return ask();
    if (log_used != 0) return send_log(0);
    if (!connection || !page().start_item()) return answer_items(0);
    const auto names = send_files(count);
    if (!names) return lie();  // a worker would say so in the item's place
    brood::Writer out;
    out.number<std::uint64_t>(names->size() << 1);
    out.raw(names->data(), names->size());
    FrameHeader header = answer_header(FrameType::items, 0);
    header.flags = FrameHeader::attached;
    header.first = items_sent;
    header.count = 1;
    header.number = count;
    passing = item_is_sent = true;
    page().post.store(static_cast<std::uint32_t>(StatusPage::Post::sent));
    send(header, out.view());
  }

  // ---- descriptors

  /// Sends that many. Returns how they are named; nothing when they can't be sent.
  std::optional<Bytes> send_files(std::size_t count) const {
    std::vector<Fd> list;
    brood::Writer out;
    out.attach_to(&list);
    std::vector<brood::Fd> files;
    while (files.size() < count) files.push_back(brood::Fd::duplicate(plain.get()));
    out.value(files);
    try {
      if (count != 0) send_descriptors(connection.get(), 0, list);
    } catch (const SystemError&) {
      return std::nullopt;
    }
    return std::move(out).take();
  }
  void answer_files(const Call& what, std::uint16_t flags, std::size_t size) {
    const std::size_t count = size % 4;
    if (asks == 0 && (count != 0 || what.files != 0)) return ask();
    const auto names = unconnected || (count != 0 && !connection) ? std::nullopt : send_files(count);
    if (!names) return answer_with_exception();
    FrameHeader header = answer_header(FrameType::result, flags);
    header.first = static_cast<std::uint32_t>(count);
    ledger->answers[running->task] = std::to_string(count);
    finish_with(header, names->view());
  }
  void ask() {
    if (!running || waits() || asks != 0) return;
    ++asks;
    std::tie(mine, hosts) = make_packet_pair();
    page().post_end.store(hosts.get());
    send_wish();
  }
  void send_wish() {
    asked = true;
    page().post_secret.store(secret());
    page().post.store(static_cast<std::uint32_t>(StatusPage::Post::asked));
    FrameHeader header;
    header.type = FrameType::post;
    header.task = running->task;
    send(header, {});
  }
  void end_post() {
    mine.reset();
    hosts.reset();
    listener.reset();
    connection.reset();
    asked = passing = unconnected = false;
    asks = 0;
  }
  bool receive_files(Fd from) {
    worker_receives = true;
    const auto all = receive_descriptors(from.get(), secret());
    worker_receives = false;
    if (all) connection = std::move(from);
    if (all && running->count == 0 && account->lies == 0 && ledger->server_lies == 0) {
      require(all->size() == call().files, "a worker got other descriptors than its task has");
    }
    return all.has_value();
  }
  /// Looks at what the host has said about its wish for a connection.
  bool hear_post() {
    const std::uint32_t word = page().post.load();
    if (word == static_cast<std::uint32_t>(StatusPage::Post::asked)) return false;
    asked = false;
    if (word == static_cast<std::uint32_t>(StatusPage::Post::taken)) {
      unconnected = !receive_files(std::move(mine));
    } else if (word == static_cast<std::uint32_t>(StatusPage::Post::name_wanted) && asks == 1) {
      mine.reset();
      hosts.reset();
      listener = make_packet_socket();
      page().post_name.store(SocketName::listen(listener.get()).word());
      ++asks;
      send_wish();
      return true;
    } else if (word == static_cast<std::uint32_t>(StatusPage::Post::connected) && asks == 2) {
      const int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      unconnected = fd < 0 || !receive_files(Fd(fd));
    } else {
      unconnected = true;
    }
    if (unconnected && account->lies == 0 && ledger->server_lies == 0) {
      require(word >= StatusPage::post_refused, "a worker waits for descriptors, and has got nothing");
    }
    return true;
  }

  /// Goes on where it waits. Returns whether it could.
  bool hear() {
    bool some = flush(~std::size_t{0});
    if (!outbox.empty()) return some;
    if (asked) some = hear_post() || some;
    if (passing && page().post.load() != static_cast<std::uint32_t>(StatusPage::Post::sent)) {
      passing = false;
      some = true;
    }
    if (!offered) return some;
    const auto word = static_cast<StatusPage::Transfer>(page().transfer.load());
    if (word == StatusPage::Transfer::offered) return some;
    offered = false;
    if (word == StatusPage::Transfer::taken) {
      finish();
    } else {
      finish_with(answer_header(FrameType::result, 0), std::as_bytes(std::span(by_pipe)));
    }
    return true;
  }

  /// The task that runs is done. After its last one it leaves by itself.
  void finish() {
    // the host can't kill a worker that it has not been told of: it may have given up on it and its task meanwhile
    const auto ran = std::chrono::steady_clock::now() - begun;
    if (!announced && ran >= std::chrono::milliseconds(20)) settle(ran >= std::chrono::seconds(1));
    if (running && (running->flags & FrameHeader::parting) != 0) told_to_stop = true;
    page().task.store(0);
    running.reset();
    lent.clear();
    end_post();
  }
};

/// Whose pidfd a number was, the last time that one was given away.
inline std::array<std::weak_ptr<ScriptedWorker>, 4096> pidfd_owners;
inline std::map<pid_t, std::weak_ptr<ScriptedWorker>> workers_by_pid;

inline std::shared_ptr<ScriptedWorker> worker_of_pidfd(long pidfd) {
  if (pidfd < 0 || pidfd >= static_cast<long>(pidfd_owners.size())) return nullptr;
  return pidfd_owners[static_cast<std::size_t>(pidfd)].lock();
}

/// The server of a worker that is not told of owes the host something; after a second the host may give up on it.
inline bool overdue(const ScriptedWorker& worker);

}  // namespace fuzz

// What the host asks the kernel about a scripted worker. The target is linked with --wrap for each.
extern "C" {
long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
int __real_open(const char* path, int flags, ...);
ssize_t __real_process_vm_readv(pid_t, const iovec*, unsigned long, const iovec*, unsigned long, unsigned long);
ssize_t __real_recvmsg(int socket, msghdr* message, int flags);

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f) {
  if (number == SYS_pidfd_send_signal) {
    if (const auto worker = fuzz::worker_of_pidfd(a)) {
      fuzz::tell("pidfd: kill", worker->ticket.slot, worker->ticket.generation);
      worker->be_killed(fuzz::overdue(*worker));
      return 0;
    }
    errno = ESRCH;
    return -1;
  }
  if (number == SYS_pidfd_getfd) {
    const auto worker = fuzz::worker_of_pidfd(a);
    errno = !worker || worker->ended ? ESRCH : worker->takes_refused;
    if (errno != 0) return -1;
    for (const auto* each : {&worker->hosts, &worker->plain}) {
      if (b >= 0 && each->get() == b) return ::fcntl(each->get(), F_DUPFD_CLOEXEC, 3);
    }
    errno = EBADF;
    return -1;
  }
  return __real_syscall(number, a, b, c, d, e, f);
}

int __wrap_open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const int mode = (flags & O_CREAT) != 0 ? va_arg(more, int) : 0;
  va_end(more);
  int pidfd = -1;
  if (std::sscanf(path, "/proc/self/fdinfo/%d", &pidfd) != 1) return __real_open(path, flags, mode);
  const auto worker = fuzz::worker_of_pidfd(pidfd);
  const std::string text = "pos:\t0\nPid:\t" + std::to_string(worker && !worker->ended ? worker->account->pid : -1) + "\n";
  auto ends = brood::detail::Pipe::make();
  fuzz::require(::write(ends.write.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()), "a pipe took nothing");
  return ends.read.release();
}

ssize_t __wrap_process_vm_readv(pid_t pid, const iovec* into, unsigned long, const iovec* from, unsigned long, unsigned long) {
  if (fuzz::while_reading) fuzz::while_reading();
  const auto found = fuzz::workers_by_pid.find(pid);
  const auto worker = found != fuzz::workers_by_pid.end() ? found->second.lock() : nullptr;
  errno = !worker || (worker->ended && !worker->reused) ? ESRCH : worker->reads_refused;
  if (errno != 0) return -1;
  const auto address = reinterpret_cast<std::uintptr_t>(from->iov_base);
  const auto end = fuzz::memory_base + fuzz::memory_size;
  if (address < fuzz::memory_base || address >= end) {
    errno = EFAULT;
    return -1;
  }
  std::size_t size = std::min({from->iov_len, into->iov_len, static_cast<std::size_t>(end - address)});
  if (worker->short_reads != 0) size = std::min(size, worker->short_reads);
  if (worker->ended) {
    std::memset(into->iov_base, '?', size);  // another process
  } else {
    std::memcpy(into->iov_base, fuzz::memory_of(pid, address, size).data(), size);
  }
  return static_cast<ssize_t>(size);
}

ssize_t __wrap_recvmsg(int socket, msghdr* message, int flags) {
  const ssize_t size = __real_recvmsg(socket, message, flags);
  if (size < 0 || fuzz::worker_receives || !fuzz::no_numbers || message->msg_controllen == 0) return size;
  fuzz::no_numbers = false;
  fuzz::ledger->numbers_lost = true;
  for (cmsghdr* each = CMSG_FIRSTHDR(message); each != nullptr; each = CMSG_NXTHDR(message, each)) {
    for (std::size_t at = 0; at < (each->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++at) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(each) + at * sizeof fd, sizeof fd);
      ::close(fd);
    }
  }
  message->msg_flags |= MSG_CTRUNC;
  message->msg_controllen = 0;
  return size;
}
}
