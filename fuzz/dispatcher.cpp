// SPDX-License-Identifier: MIT
// The host's state machines of servers and workers: a real pool with scripted workers (scripted_source.hpp). The input is
// a program of what servers and workers do, lie about and leave out, and of what the host's own code asks for meanwhile.
// When the program has ended, what is left of the world behaves. Then, whatever was done before:
//   every accepted task is resolved, and is counted once; no wait is without end; the pool's end leaves nothing behind;
//   a worker's end, or its server's, costs the task that it ran, a lie one more, and nothing else fails (see judge());
//   a task is started once, unless it may be retried; without lies, what comes of it is what its worker has said.
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "one_thread.hpp"
#include "scripted_source.hpp"

namespace {

using namespace std::chrono_literals;
using namespace brood::detail;
using brood::ExitStatus;
using brood::FailureKind;
using brood::SourceEvent;
using fuzz::ScriptedServer;
using fuzz::ScriptedWorker;

int work(int x) { return x; }
std::string shout(const std::string& text) { return text; }
std::vector<std::string> split(const std::string& text) { return {text, text}; }
std::vector<int> count(int to) { return std::vector<int>(static_cast<std::size_t>(to)); }
std::vector<brood::Fd> pass(std::vector<brood::Fd> files) { return files; }
std::vector<brood::Fd> files_of(int) { return {}; }

std::string told(const int& value) { return std::to_string(value); }
std::string told(const std::string& value) { return value + '|'; }
std::string told(const std::vector<std::string>& value) { return value.at(0) + '|' + value.at(1) + '|'; }
std::string told(const std::vector<brood::Fd>& value) { return std::to_string(value.size()); }

/// Failures that workers are to blame for.
struct Failures {
  std::uint64_t died = 0;
  std::uint64_t late = 0;                   ///< killed at their deadline
  std::set<brood::TaskId> refused;          ///< for what the worker had sent; of a chunk all items that are left
  std::uint64_t all() const { return died + late + refused.size(); }
};
struct Tally {
  Failures all;
  std::map<pid_t, Failures> of;
  std::uint64_t launch = 0;
  std::uint64_t undecodable = 0;

  void add(const brood::Failure& failure) {
    fuzz::tell(failure.message().c_str(), static_cast<std::uint64_t>(failure.kind()), static_cast<std::uint64_t>(failure.pid()));
    for (Failures* const each : {&all, &of[failure.pid()]}) {
      switch (failure.kind()) {
        case FailureKind::worker_died: ++each->died; break;
        case FailureKind::timeout: ++each->late; break;
        case FailureKind::protocol:
        case FailureKind::too_large: each->refused.insert(failure.task()); break;
        default: break;
      }
    }
    if (failure.kind() == FailureKind::launch || failure.kind() == FailureKind::preload ||
        failure.kind() == FailureKind::image_mismatch) {
      ++launch;
    }
    if (failure.kind() == FailureKind::serialization) ++undecodable;
  }
};

/// A future, and what it said when it was first seen to be resolved.
template <class R>
struct Watched {
  brood::Future<R> future;
  std::uint64_t task = 0;
  std::vector<int> destination{};  ///< of submit_into; gone when the task is resolved, as a caller's would be
  std::optional<std::string> seen{};
  bool has_value = false;
};

struct World {
  explicit World(fuzz::Input bytes) : in(bytes) {}

  fuzz::Input in;
  fuzz::Ledger ledger;
  std::vector<std::shared_ptr<ScriptedServer>> servers;
  std::deque<Watched<int>> numbers;
  std::deque<Watched<std::string>> texts;
  std::deque<Watched<std::vector<std::string>>> pairs;
  std::deque<Watched<std::size_t>> counts;
  std::deque<Watched<std::vector<brood::Fd>>> files;
  std::uint64_t accepted = 0;  ///< single tasks, and items of maps
  Tally tally;
  bool items_wrong = false;  ///< an item of a map has come to what no honest worker makes of it
  Fd something = Pipe::make().read;  ///< to be passed
  bool many_passed = false;
  /// Something that does not wait, asked of the pool by another thread: a wait of the pool's holds no lock.
  std::function<void()> host_call;
  unsigned launches = 0;

  template <class Visit>
  void each_future(Visit visit) {
    for (auto& each : numbers) visit(each);
    for (auto& each : texts) visit(each);
    for (auto& each : pairs) visit(each);
    for (auto& each : counts) visit(each);
    for (auto& each : files) visit(each);
  }
  /// One of those of single calls. Not when there is none of the kind that the input names.
  template <class Visit>
  void some_future(Visit visit) {
    const auto one = [&](auto& all) {
      if (!all.empty()) visit(all[in.below(all.size())].future);
    };
    switch (in.below(8)) {
      case 0: return one(texts);
      case 1: return one(pairs);
      case 2: return one(counts);
      case 3: return one(files);
      default: return one(numbers);
    }
  }
};
World* world = nullptr;

template <class R>
std::string describe(Watched<R>& watched, const brood::Outcome<R>& outcome) {
  watched.has_value = outcome.has_value();
  if (!outcome) return "failed " + std::to_string(static_cast<int>(outcome.failure().kind())) + " " + outcome.failure().message();
  if constexpr (std::is_same_v<R, std::size_t>) {
    if (!watched.seen) {
      const auto* const bytes = reinterpret_cast<const char*>(watched.destination.data());
      return std::string(bytes, std::min(outcome.value(), watched.destination.size()) * sizeof(int)) + '|';
    }
    return *watched.seen;
  } else {
    return told(outcome.value());
  }
}

/// Another thread that has waited for the task sees that it is resolved.
template <class R>
void look(Watched<R>& watched) {
  if (watched.seen || !watched.future.ready()) return;
  const brood::Outcome<R> outcome = watched.future.outcome();
  if (!outcome) world->tally.add(outcome.failure());
  watched.seen = describe(watched, outcome);
  watched.destination = {};
}

std::unique_ptr<brood::WorkerSource> launch(bool first) {
  fuzz::Input& in = world->in;
  if (!first && in.byte() == 0xff) {
    ++world->ledger.troubles;
    throw brood::LaunchError("the scripted server could not be started", "fork", EAGAIN);
  }
  fuzz::tell("launch");
  auto server = std::make_shared<ScriptedServer>();
  world->servers.push_back(server);
  ++world->launches;
  return std::make_unique<fuzz::ScriptedSource>(std::move(server));
}

struct ScriptedPolicy {
  static constexpr std::string_view name = "ScriptedPolicy";
  std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions&) const {
    return ::launch(world->launches == 0);
  }
};
struct ScriptedCopies {
  static constexpr std::string_view name = "ScriptedCopies";
  static constexpr bool copies_host = true;
  std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions&) const {
    return ::launch(world->launches == 0);
  }
};

std::shared_ptr<ScriptedServer> some_server() {
  auto& servers = world->servers;
  std::erase_if(servers, [](const auto& server) { return server->gone; });
  return servers.empty() ? nullptr : servers[world->in.below(servers.size())];
}
std::shared_ptr<ScriptedWorker> some_worker(const ScriptedServer& server) {
  if (server.workers.empty()) return nullptr;
  // the youngest first: the others have mostly ended
  return server.workers[server.workers.size() - 1 - world->in.below(std::min<std::size_t>(server.workers.size(), 8))];
}

brood::ExitStatus some_status() {
  constexpr int words[] = {0, 256, SIGKILL, SIGSEGV | 0x80, SIGTERM, -1};
  const int word = world->in.choose(words);
  return word == -1 ? ExitStatus() : ExitStatus::from_wait(word);
}

std::exception_ptr some_cause() {
  switch (world->in.below(4)) {
    case 0: return std::make_exception_ptr(brood::PreloadError("a Preload failed", "Scripted"));
    case 1: return std::make_exception_ptr(brood::ImageMismatch("another program"));
    case 2: return std::make_exception_ptr(brood::ProtocolError("nonsense"));
    default: return std::make_exception_ptr(brood::LaunchError("the server ended", "server", 0));
  }
}

void server_step(ScriptedServer& server) {
  fuzz::Input& in = world->in;
  const std::size_t what = in.below(8);
  fuzz::tell("server: step", what);
  switch (what) {
    case 0: return server.announce();
    case 1: return server.fail(in.flag(), some_cause());
    case 2: {  // about workers that are not, or are no more
      SourceEvent event;
      constexpr SourceEvent::Kind kinds[] = {SourceEvent::Kind::started, SourceEvent::Kind::unstarted,
                                             SourceEvent::Kind::exited};
      event.kind = in.choose(kinds);
      event.ticket = {in.flag() ? in.take<std::uint32_t>() : in.byte(),
                      in.flag() ? in.take<std::uint64_t>() : in.byte()};
      event.pid = in.take<std::int32_t>();
      event.error = in.take<std::int32_t>();
      event.status = some_status();
      ++world->ledger.server_lies;
      ++world->ledger.troubles;
      return server.say(std::move(event));
    }
    case 3: server.refusals = in.byte() & 3; return;
    case 4: server.throws = true; return;
    case 5: server.be_honest(); return;
    case 6: return server.bell.raise();
    default: return;
  }
}

/// A header like those that the worker might send, with something changed.
FrameHeader some_header(const ScriptedWorker& worker) {
  fuzz::Input& in = world->in;
  FrameHeader header;
  constexpr FrameType types[] = {FrameType::hello, FrameType::result, FrameType::items, FrameType::failed,
                                 FrameType::task,  FrameType::large,  FrameType::post};
  header.type = in.choose(types);
  if (worker.running) {
    header.task = worker.running->task;
    header.first = header.type == FrameType::items ? worker.items_sent : 0;
    header.count = header.type == FrameType::items ? worker.running->count - worker.items_sent : 0;
  }
  const auto changes = in.byte();
  if ((changes & 1) != 0) header.task += in.byte();
  if ((changes & 2) != 0) header.first = in.flag() ? in.byte() & 3U : in.take<std::uint32_t>();
  if ((changes & 4) != 0) header.count = in.flag() ? in.byte() & 3U : in.take<std::uint32_t>();
  if ((changes & 8) != 0) header.flags = in.flag() ? FrameHeader::attached : in.take<std::uint16_t>();
  if ((changes & 16) != 0) header.number = in.flag() ? in.byte() & 3U : in.take<std::uint64_t>();
  return header;
}

/// Where a worker may say that a block is, or how long.
std::uint64_t some_place() {
  fuzz::Input& in = world->in;
  switch (in.below(5)) {
    case 0: return fuzz::memory_base + in.take<std::uint16_t>();
    case 1: return fuzz::memory_base + fuzz::memory_size - in.byte();
    case 2: return std::uint64_t{4096} + in.byte();
    case 3: return fuzz::memory_size - in.byte();
    default: return in.take<std::uint64_t>();
  }
}

/// What a worker says when it says what it may not, or not quite.
void lie(ScriptedWorker& worker) {
  fuzz::Input& in = world->in;
  const std::size_t what = in.below(11);
  fuzz::tell("worker: lie", worker.ticket.slot, what);
  worker.lie();
  switch (what) {
    case 0: {
      FrameHeader header = some_header(worker);
      const bool wrong_size = in.byte() < 32;
      const auto payload = in.bytes(in.byte());
      header.size = wrong_size ? in.take<std::uint64_t>() : payload.size();
      worker.send(std::as_bytes(std::span(&header, 1)));
      worker.send(payload);
      return;
    }
    case 1: return worker.send(in.bytes(in.byte()));
    case 2: {  // the status page
      auto* const words = reinterpret_cast<std::atomic<std::uint64_t>*>(&worker.page());
      words[in.below(offsetof(StatusPage, starts) / sizeof words[0])].store(in.flag() ? in.take<std::uint64_t>() : in.byte());
      return;
    }
    case 3: {  // the log of a chunk
      const auto bytes = in.bytes(in.byte());
      if (!bytes.empty()) std::memcpy(worker.page().log(), bytes.data(), bytes.size());
      const std::uint64_t done = in.byte();
      worker.page().items_done.store(done << 32 | (in.flag() ? in.take<std::uint32_t>() : bytes.size()));
      return;
    }
    case 4: {  // a claim of something that it may or may not have been given
      const std::uint64_t number = in.flag() && worker.running ? worker.running->number : in.byte();
      worker.page().claims[number % StatusPage::claim_count].store(
          StatusPage::claim_word(number, StatusPage::Claim{in.byte() & 3U}));
      return;
    }
    case 5: {  // a list of memory
      FrameHeader header;
      header.type = FrameType::large;
      if (worker.running) header.task = worker.running->task;
      header.first = in.byte() & 1;
      std::vector<Block> blocks;
      for (auto left = in.byte() % 4; left != 0; --left) blocks.push_back({in.byte() % 24U, some_place(), some_place()});
      Bytes list;
      write_blocks(list, blocks);
      const std::uint64_t size = blocks.empty() ? 0 : blocks[0].size;
      const std::uint64_t count = in.flag() ? size / sizeof(int) : size;
      if (in.byte() < 192) list.append(&count, sizeof count);
      const auto more = in.bytes(in.byte() & 31);
      list.append(more.data(), more.size());
      return worker.send(header, list.view());
    }
    case 6: {  // a wish for a connection, with whatever it says about that
      const int numbers[] = {worker.hosts.get(), worker.plain.get(), in.take<std::int16_t>()};
      worker.page().post_end.store(in.choose(numbers));
      if (in.flag()) worker.page().post_name.store(in.take<std::uint64_t>());
      FrameHeader header;
      header.type = FrameType::post;
      if (worker.running) header.task = worker.running->task;
      return worker.send(header, {});
    }
    case 7: {  // through the connection
      const Fd& to = worker.connection ? worker.connection : worker.mine;
      if (!to) return;
      const auto bytes = in.bytes(in.byte() & 31);
      const DescriptorPacket packet{in.flag() ? in.byte() : 0U, in.flag() ? in.byte() & 3U : in.take<std::uint32_t>(), 0};
      std::vector<Fd> all;
      for (auto left = in.byte() & 3; left != 0; --left) all.push_back(duplicate(worker.plain.get()));
      const iovec raw{const_cast<std::byte*>(bytes.data()), bytes.size()};
      const iovec whole{const_cast<DescriptorPacket*>(&packet), sizeof packet};
      send_packet(to.get(), {in.flag() ? &raw : &whole, 1}, all);
      return;
    }
    case 8: {  // what the host has to say in the page
      std::atomic<std::uint32_t>& word = in.flag() ? worker.page().transfer : worker.page().post;
      return word.store(in.flag() ? in.byte() % 7 : in.take<std::uint32_t>());
    }
    case 9: return worker.end_post();
    default: return worker.results.reset();
  }
}

/// Some items of a chunk, one of them perhaps a failure, or nonsense.
void some_items(ScriptedWorker& worker) {
  fuzz::Input& in = world->in;
  for (auto left = in.byte() % 8; left != 0 && worker.items_done < worker.running->count; --left) {
    if (in.byte() < 192) {
      if (!worker.log_item(worker.value_of_item(), false)) break;
      continue;
    }
    const auto bytes = in.bytes(in.byte() & 15);
    ++worker.account->lies;
    if (!worker.log_item({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, in.flag())) break;
  }
  if (in.flag() && worker.items_done != worker.items_sent) worker.send_log(0);
}

void worker_step(ScriptedServer& server, const std::shared_ptr<ScriptedWorker>& worker) {
  fuzz::Input& in = world->in;
  const std::size_t what = in.below(18);
  fuzz::tell("worker: step", worker->ticket.slot, what);
  switch (what) {
    case 0: {
      const bool with_pidfd = in.byte() < 224;
      const pid_t other_namespace = in.byte() < 224 ? 0 : 100'000;
      return server.start(worker, with_pidfd, worker->account->pid + other_namespace);
    }
    case 1: {
      SourceEvent event;
      event.kind = SourceEvent::Kind::unstarted;
      event.ticket = worker->ticket;
      event.error = in.byte();
      event.stage = "fork";
      if (worker->announced || worker->greeted) ++world->ledger.server_lies;
      worker->die(true);
      return server.say(std::move(event));
    }
    case 2: {
      const auto status = some_status();
      const bool reported = in.flag();
      worker->reused = in.flag();
      return server.exit(*worker, status, reported);
    }
    case 3: return worker->hello(in.byte() < 192);
    case 4: worker->start_task(); return;
    case 5: {
      const auto ran = in.take<std::uint32_t>();
      const std::uint16_t flags = in.byte() < 192 ? 0 : in.byte();
      return worker->answer(ran, flags, in.flag() ? std::size_t{in.take<std::uint16_t>()} * 16 : in.byte());
    }
    case 6: {  // an exception, well-formed or not
      if (!worker->running && !worker->greeted) {
        worker->honest = false;  // it can't come up
        worker->send(FrameHeader{.type = FrameType::failed}, in.bytes(in.byte()));
        return;
      }
      if (worker->waits() || !worker->running || !worker->greeted) worker->lie();
      if (!worker->running) return worker->send(FrameHeader{.type = FrameType::failed}, {});
      if (in.flag()) return worker->answer_with_exception();
      ++worker->account->lies;
      FrameHeader header;
      header.type = FrameType::failed;
      header.task = worker->running->task;
      return worker->finish_with(header, in.bytes(in.byte()));
    }
    case 7:
      if (worker->running && worker->running->count != 0 && !worker->waits()) some_items(*worker);
      return;
    case 8:
      worker->tasks.reset();
      worker->honest = false;
      return;
    case 9:
      worker->read_tasks();
      worker->hear();
      return;
    case 10: worker->flush(std::size_t{in.byte()} + 1); return;
    case 11: return worker->ask();
    case 12: return worker->pass_item(in.below(4));
    case 13: {
      constexpr int errors[] = {0, EPERM, ENOSYS, EMFILE};
      worker->takes_refused = in.choose(errors);
      worker->reads_refused = in.choose(errors);
      worker->short_reads = std::size_t{in.byte()} * 1024;
      fuzz::no_numbers = in.byte() > 192;
      return;
    }
    case 14:
      worker->page().progress.report(in.byte(), in.byte());
      return;
    case 15: return worker->look_at_lent();
    default: return lie(*worker);
  }
}

void pass_time() {
  constexpr std::chrono::milliseconds times[] = {1ms, 10ms, 60ms, 210ms, 1s, 3s, 31s};
  const auto time = world->in.choose(times);
  fuzz::tell("time passes", static_cast<std::uint64_t>(time.count()));
  fuzz::world::pass(time);
}

/// One more thing of the program. False when it has ended.
bool play() {
  if (world->in.empty()) return false;
  world->each_future([](auto& each) { look(each); });
  const auto what = world->in.byte();
  if (what < 24) {
    if (world->host_call) world->host_call();
    return true;
  }
  if (what < 40) {
    pass_time();
    return true;
  }
  const auto server = some_server();
  if (!server) return true;
  if (what < 80) {
    server_step(*server);
  } else if (what < 110) {
    fuzz::tell("server: be honest");
    server->be_honest();
  } else if (const auto worker = some_worker(*server)) {
    worker_step(*server, worker);
  }
  return true;
}

}  // namespace

bool fuzz::world::step() {
  if (play()) return true;
  bool busy = false;
  for (const auto& server : std::vector(::world->servers)) busy = server->be_honest() || busy;
  return busy;
}

namespace {

/// The task is accepted. No worker hears of it before it is put down here.
template <class R>
void keep(std::deque<Watched<R>>& all, brood::Future<R> future, fuzz::Call what, std::vector<int> destination = {}) {
  const std::uint64_t task = future.id();
  world->ledger.calls[task] = what;
  all.push_back({std::move(future), task, std::move(destination)});
  ++world->accepted;
}

template <class Policy>
void submit(brood::Pool<Policy>& pool) {
  fuzz::Input& in = world->in;
  brood::TaskOptions options;
  constexpr std::chrono::milliseconds timeouts[] = {0ms, 0ms, 50ms, 2s};
  options.timeout = in.choose(timeouts);
  options.retries = in.byte() % 3;
  fuzz::Call what;
  what.tries = 1 + options.retries;
  try {
    switch (in.below(9)) {
      case 0:
      case 1: {
        what.kind = in.flag() ? fuzz::Kind::text : fuzz::Kind::texts;
        // large ones are read from here by their workers
        const std::string text(in.byte() < 224 ? in.take<std::uint16_t>() : std::size_t{150'000}, 'x');
        if (what.kind == fuzz::Kind::text) return keep(world->texts, pool.submit(options, &shout, text), what);
        return keep(world->pairs, pool.submit(options, &split, text), what);
      }
      case 2:
        if constexpr (brood::CopiesHost<Policy>) {
          const int n = in.byte();
          return keep(world->numbers, pool.submit(options, [n] { return n; }), what);
        }
        [[fallthrough]];
      case 3: {
        what.kind = fuzz::Kind::elements;
        what.room = std::size_t{in.byte()} * 512;
        std::vector<int> destination(what.room);
        auto future = pool.submit_into(options, destination, &count, 7);
        return keep(world->counts, std::move(future), what, std::move(destination));
      }
      case 4:
      case 5: {
        what.kind = fuzz::Kind::files;
        constexpr std::size_t counts[] = {0, 1, 2, 3, 1, 2, 3, 254};
        what.files = in.choose(counts);
        if (what.files > 3 && std::exchange(world->many_passed, true)) what.files = 1;
        std::vector<brood::Fd> files;
        for (std::size_t left = what.files; left != 0; --left) files.push_back(brood::Fd::duplicate(world->something.get()));
        return keep(world->files, pool.submit(options, &pass, std::move(files)), what);
      }
      default: return keep(world->numbers, pool.submit(options, &work, in.byte()), what);
    }
  } catch (const brood::PoolClosed&) {
  } catch (const brood::LaunchError&) {
  } catch (const brood::MessageTooLarge&) {
  } catch (const brood::QueueFull&) {
  }
}

template <class R, class Policy>
void map(brood::Pool<Policy>& pool, R (*function)(int), const brood::MapOptions& options) {
  const std::vector<int> items(world->in.byte() % 20, 7);
  world->ledger.items = std::is_same_v<R, int> ? fuzz::Kind::number : fuzz::Kind::files;
  try {
    const auto outcomes = pool.try_map(function, items, options);
    fuzz::require(outcomes.size() == items.size(), "a map lost items");
    world->accepted += items.size();
    for (const auto& outcome : outcomes) {
      if (!outcome) world->tally.add(outcome.failure());
      if constexpr (std::is_same_v<R, int>) {
        if (outcome && outcome.value() != 7) world->items_wrong = true;
      }
    }
  } catch (const brood::PoolClosed&) {
    world->accepted = ~std::uint64_t{0};  // how many of its items were accepted is not to be known
  }
}

/// Something that the host's code asks for. `waits`: it may be something that waits.
template <class Policy>
void call(brood::Pool<Policy>& pool, bool waits) {
  fuzz::Input& in = world->in;
  const std::size_t what = in.below(waits ? 15 : 11);
  fuzz::tell(waits ? "host: call" : "host: call by another thread", what);
  switch (what) {
    case 0: return pool.cancel_pending();
    case 1: return in.byte() < 32 ? pool.kill() : submit(pool);
    case 2: return in.byte() < 32 ? pool.close() : submit(pool);
    case 3: return world->some_future([](auto& future) { future.cancel(); });
    case 4: static_cast<void>(pool.stats()); return;
    case 5: return in.byte() < 64 ? pool.resize(1 + in.byte() % 3) : submit(pool);
    case 6:
    case 7:
    case 8:
    case 9:
    case 10: return submit(pool);
    case 11: return world->some_future([&](auto& future) { future.wait_for(std::chrono::milliseconds(in.byte())); });
    case 12: return world->some_future([](auto& future) { static_cast<void>(future.outcome()); });
    case 13: {
      brood::MapOptions options;
      options.chunk_size = in.byte() % 9;
      options.retries = in.byte() % 2;
      if (in.flag()) options.timeout = 50ms;
      if (in.flag()) return map(pool, &files_of, options);
      return map(pool, &work, options);
    }
    default: return pool.wait();
  }
}

/// All is resolved, and the pool is still there: no worker has ended for that. What may have failed is what the workers that
/// have ended ran, and what was lied about.
///
/// One thing beside: a task that was the next one of six workers that ended, none of which had started it, is given up.
void judge(World& now) {
  fuzz::Ledger& ledger = now.ledger;
  for (const auto& server : now.servers) {
    for (const auto& worker : server->workers) {
      if (!worker->ended && (!worker->announced || worker->forgotten())) worker->be_forgotten();
    }
  }
  now.each_future([](auto& each) {
    look(each);
    fuzz::require(each.seen.has_value(), "a task was never resolved");
  });
  std::uint64_t lies = ledger.server_lies;
  std::uint64_t died = 0;
  std::uint64_t cost = 0;
  std::uint64_t for_nothing = 0;
  for (const auto& each : ledger.workers) {
    lies += each->lies;
    died += each->died ? 1U : 0U;
    cost += each->cost ? 1U : 0U;
    for_nothing += each->idle ? 1U : 0U;
  }
  const std::uint64_t given_up = for_nothing / 6;
  const Failures& failed = now.tally.all;
  fuzz::require(failed.refused.size() <= lies, "an answer was refused that was none of a lie");
  fuzz::require(failed.died <= died + lies + given_up, "more tasks have died than workers that ran one");
  fuzz::require(failed.all() <= cost + lies + given_up, "more tasks have failed than workers have ended that ran one");
  if (!ledger.names_lie && ledger.server_lies == 0) {
    std::uint64_t too_many = 0;
    for (const auto& each : ledger.workers) {
      const auto its = now.tally.of.find(each->pid);
      if (its == now.tally.of.end()) continue;
      fuzz::require(its->second.refused.size() <= each->lies, "an answer of a worker was refused for another's lie");
      const std::uint64_t allowed = (each->cost ? 1U : 0U) + each->lies;
      if (its->second.all() > allowed) too_many += its->second.all() - allowed;
    }
    fuzz::require(too_many <= given_up, "a worker has cost more than the task that it ran");
  }
  // a server that has not told of a worker for a second and more may be given up
  const bool troubles = ledger.troubles != 0 || fuzz::world::now >= std::chrono::hours(1) + 1s;
  fuzz::require(now.tally.launch == 0 || troubles, "workers can't be started, says the host, and nothing is wrong");
  std::uint64_t again = 0;
  for (const auto& [task, starts] : ledger.starts) {
    const auto call = ledger.calls.find(task);
    const unsigned tries = call != ledger.calls.end() ? call->second.tries : 1;
    if (starts > tries) again += starts - tries;
  }
  fuzz::require(again <= ledger.server_lies, "a task was started once more than it may");
  if (lies != 0) return;
  fuzz::require(now.tally.undecodable == 0 || ledger.numbers_lost, "what an honest worker has sent can't be decoded");
  fuzz::require(!now.items_wrong, "an item has come to what nobody has said");
  now.each_future([&](auto& each) {
    if (each.has_value) fuzz::require(*each.seen == ledger.answers[each.task], "a task has come to what nobody has said");
  });
}

template <class Policy>
void run(World& now) {
  fuzz::Input& in = now.in;
  brood::PoolOptions options;
  options.workers = 1 + in.byte() % 3;
  constexpr std::uint64_t tasks[] = {0, 0, 1, 3};
  options.tasks_per_worker = in.choose(tasks);
  constexpr std::chrono::milliseconds timeouts[] = {0ms, 0ms, 20ms, 500ms};
  options.task_timeout = in.choose(timeouts);
  constexpr std::uint64_t limits[] = {std::uint64_t{1} << 40, 100, 100'000};
  options.max_message_bytes = now.ledger.limit = in.choose(limits);
  if (in.byte() < 64) options.memory_per_worker = 1 << 20;
  constexpr std::uint64_t pending[] = {0, 0, 0, 1000};
  options.max_pending_bytes = in.choose(pending);
  options.stop_grace = std::chrono::milliseconds(in.byte() * 8);
  constexpr unsigned spares[] = {0, 0, 1, 2};
  options.spares = in.choose(spares);
  const bool kills = in.flag();

  std::optional<brood::Pool<Policy>> pool;
  try {
    pool.emplace(options);
  } catch (const brood::Error&) {
    return;
  }
  now.host_call = [&] { call(*pool, false); };
  while (!in.empty()) {
    if (in.byte() < 64) {
      call(*pool, true);
    } else {
      play();
      static_cast<void>(pool->stats());
    }
  }
  fuzz::tell("the program has ended");
  if (kills) pool->kill();
  pool->wait();
  const brood::PoolStats stats = pool->stats();
  fuzz::require(stats.queued == 0 && stats.running == 0, "a task is outstanding after wait");
  if (now.accepted < ~std::uint64_t{0} / 2) {
    fuzz::require(stats.done + stats.failed == now.accepted,
                  "the tasks that were accepted are not those that were resolved");
  }
  judge(now);
  now.host_call = nullptr;
  pool.reset();
  now.each_future([](auto& each) {
    fuzz::require(describe(each, each.future.outcome()) == *each.seen, "a task has come to something else than before");
  });
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  fuzz::watch_broken_pipes();
  fuzz::while_reading = [] {
    static bool reading = false;
    if (world->in.empty() || reading || world->in.byte() >= 64) return;
    reading = true;
    const auto other_thread = std::exchange(world->host_call, nullptr);  // it might wait for this piece
    play();
    world->host_call = other_thread;
    reading = false;
  };
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::DescriptorWatch descriptors;
  fuzz::world::start();
  World now{fuzz::Input(data, size)};
  world = &now;
  fuzz::ledger = &now.ledger;
  fuzz::no_numbers = false;
  fuzz::workers_by_pid.clear();
  if (now.in.flag()) {
    run<ScriptedCopies>(now);
  } else {
    run<ScriptedPolicy>(now);
  }
  world = nullptr;
  fuzz::ledger = nullptr;
  return 0;
}
