// SPDX-License-Identifier: MIT
// The host's state machines of servers and workers: a real pool with scripted workers (scripted_source.hpp). The input is
// a program of what servers and workers do, lie about and leave out, and of what the host's own code asks for meanwhile.
// When the program has ended, what is left of the world behaves. Then, whatever was done before:
//   every accepted task is resolved, and is counted once; no wait is without end; the pool's end leaves nothing behind.
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "one_thread.hpp"
#include "scripted_source.hpp"

namespace {

using namespace std::chrono_literals;
using namespace brood::detail;
using brood::ExitStatus;
using brood::SourceEvent;
using fuzz::ScriptedServer;
using fuzz::ScriptedWorker;

int work(int x) { return x; }
std::string shout(const std::string& text) { return text; }

struct World {
  explicit World(fuzz::Input bytes) : in(bytes) {}

  fuzz::Input in;
  std::vector<std::shared_ptr<ScriptedServer>> servers;
  std::deque<brood::Future<int>> numbers;
  std::deque<brood::Future<std::string>> texts;
  std::uint64_t accepted = 0;  ///< single tasks, and items of maps
  /// Something that does not wait, asked of the pool by another thread: a wait of the pool's holds no lock.
  std::function<void()> host_call;
  unsigned launches = 0;
};
World* world = nullptr;

std::unique_ptr<brood::WorkerSource> launch(bool first) {
  fuzz::Input& in = world->in;
  if (!first && in.byte() == 0xff) throw brood::LaunchError("the scripted server could not be started", "fork", EAGAIN);
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
      return server.say(std::move(event));
    }
    case 3: server.refusals = in.byte() & 3; return;
    case 4: server.throws = true; return;
    case 5: server.be_honest(); return;
    case 6: return server.bell.raise();
    default: return;
  }
}

/// What a worker says when it says what it may not, or not quite.
void lie(ScriptedWorker& worker) {
  fuzz::Input& in = world->in;
  worker.honest = false;
  const std::size_t what = in.below(6);
  fuzz::tell("worker: lie", worker.ticket.slot, what);
  switch (what) {
    case 0: {  // a header like those that it might send, with something changed
      FrameHeader header;
      constexpr FrameType types[] = {FrameType::hello, FrameType::result, FrameType::items, FrameType::failed,
                                     FrameType::task};
      header.type = in.choose(types);
      if (worker.running) {
        header.task = worker.running->task;
        header.first = worker.items_sent;
        header.count = worker.running->count - worker.items_sent;
      }
      const auto changes = in.byte();
      if ((changes & 1) != 0) header.task += in.byte();
      if ((changes & 2) != 0) header.first = in.take<std::uint32_t>();
      if ((changes & 4) != 0) header.count = in.take<std::uint32_t>();
      if ((changes & 8) != 0) header.flags = in.take<std::uint16_t>();
      if ((changes & 16) != 0) header.number = in.take<std::uint64_t>();
      const auto payload = in.bytes(in.byte());
      header.size = (changes & 32) != 0 ? in.take<std::uint64_t>() : payload.size();
      worker.send(std::as_bytes(std::span(&header, 1)));
      worker.send(payload);
      return;
    }
    case 1: return worker.send(in.bytes(in.byte()));
    case 2: {  // the status page
      auto* const words = reinterpret_cast<std::atomic<std::uint64_t>*>(&worker.page());
      words[in.below(6 + 2 + StatusPage::claim_count)].store(in.flag() ? in.take<std::uint64_t>() : in.byte());
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
      const std::uint64_t number = in.byte();
      worker.page().claims[number % StatusPage::claim_count].store(
          StatusPage::claim_word(number, StatusPage::Claim{in.byte() & 3U}));
      return;
    }
    default: return worker.results.reset();
  }
}

void worker_step(ScriptedServer& server, const std::shared_ptr<ScriptedWorker>& worker) {
  fuzz::Input& in = world->in;
  const std::size_t what = in.below(12);
  fuzz::tell("worker: step", worker->ticket.slot, what);
  switch (what) {
    case 0: return server.start(worker, in.flag(), in.take<std::int16_t>());
    case 1: {
      SourceEvent event;
      event.kind = SourceEvent::Kind::unstarted;
      event.ticket = worker->ticket;
      event.error = in.byte();
      event.stage = "fork";
      worker->ended = true;
      worker->results.reset();
      return server.say(std::move(event));
    }
    case 2: return server.exit(*worker, some_status(), in.flag());
    case 3: return worker->hello();
    case 4: worker->start_task(); return;
    case 5:
      if (worker->running) worker->answer(in.take<std::uint32_t>());
      return;
    case 6: {  // an exception, well-formed or not
      FrameHeader header;
      header.type = FrameType::failed;
      if (worker->running) header.task = worker->running->task;
      if (!worker->running && worker->greeted) worker->honest = false;
      if (in.flag()) {
        brood::Writer out;
        write_failure(out, std::make_exception_ptr(std::runtime_error("scripted")));
        worker->send(header, out.view());
      } else {
        worker->send(header, in.bytes(in.byte()));
      }
      worker->finish();
      return;
    }
    case 7: {  // some items of a chunk, one of them perhaps a failure
      if (!worker->running || worker->running->count == 0) return;
      FrameHeader header;
      header.type = FrameType::items;
      header.task = worker->running->task;
      header.first = worker->items_sent;
      brood::Writer out;
      const auto most = in.byte();
      while (header.count < most && worker->items_sent + header.count < worker->running->count &&
             worker->page().start_item()) {
        const auto payload = in.bytes(in.byte() & 15);
        out.number<std::uint64_t>(payload.size() << 1 | (in.byte() & 1));
        out.raw(payload.data(), payload.size());
        ++header.count;
      }
      worker->items_sent += header.count;
      if (header.count != 0) worker->send(header, out.view());
      return;
    }
    case 8:
      worker->tasks.reset();
      worker->honest = false;
      return;
    case 9: worker->read_tasks(); return;
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

template <class Policy>
void submit(brood::Pool<Policy>& pool) {
  fuzz::Input& in = world->in;
  brood::TaskOptions options;
  constexpr std::chrono::milliseconds timeouts[] = {0ms, 0ms, 50ms, 2s};
  options.timeout = in.choose(timeouts);
  options.retries = in.byte() % 3;
  try {
    switch (in.below(4)) {
      case 0: world->texts.push_back(pool.submit(options, &shout, std::string(in.take<std::uint16_t>(), 'x'))); break;
      case 1:
        if constexpr (brood::CopiesHost<Policy>) {
          const int n = in.byte();
          world->numbers.push_back(pool.submit(options, [n] { return n; }));
          break;
        }
        [[fallthrough]];
      default: world->numbers.push_back(pool.submit(options, &work, in.byte()));
    }
    ++world->accepted;
  } catch (const brood::PoolClosed&) {
  } catch (const brood::LaunchError&) {
  } catch (const brood::MessageTooLarge&) {
  } catch (const brood::QueueFull&) {
  }
}

/// Something that the host's code asks for. `waits`: it may be something that waits.
template <class Policy>
void call(brood::Pool<Policy>& pool, bool waits) {
  fuzz::Input& in = world->in;
  const std::size_t what = in.below(waits ? 14 : 10);
  fuzz::tell(waits ? "host: call" : "host: call by another thread", what);
  switch (what) {
    case 0: return pool.cancel_pending();
    case 1: return in.byte() < 32 ? pool.kill() : submit(pool);
    case 2: return in.byte() < 32 ? pool.close() : submit(pool);
    case 3:
      if (!world->numbers.empty()) world->numbers[in.below(world->numbers.size())].cancel();
      return;
    case 4: static_cast<void>(pool.stats()); return;
    case 5:
    case 6:
    case 7:
    case 8:
    case 9: return submit(pool);
    case 10:
      if (!world->numbers.empty())
        world->numbers[in.below(world->numbers.size())].wait_for(std::chrono::milliseconds(in.byte()));
      return;
    case 11:
      if (!world->numbers.empty()) static_cast<void>(world->numbers[in.below(world->numbers.size())].outcome());
      return;
    case 12: {
      brood::MapOptions options;
      options.chunk_size = in.byte() % 9;
      options.retries = in.byte() % 2;
      if (in.flag()) options.timeout = 50ms;
      const std::vector<int> items(in.byte() % 20, 7);
      try {
        const auto outcomes = pool.try_map(&work, items, options);
        fuzz::require(outcomes.size() == items.size(), "a map lost items");
        world->accepted += items.size();
      } catch (const brood::PoolClosed&) {
        world->accepted = ~std::uint64_t{0};  // how many of its items were accepted is not to be known
      }
      return;
    }
    default: return pool.wait();
  }
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
  options.max_message_bytes = in.choose(limits);
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
  now.host_call = nullptr;
  pool.reset();
  for (const auto& future : now.numbers) {
    fuzz::require(future.ready(), "a task was never resolved");
    static_cast<void>(future.outcome());
  }
  for (const auto& future : now.texts) {
    fuzz::require(future.ready(), "a task was never resolved");
    static_cast<void>(future.outcome());
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  fuzz::watch_broken_pipes();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::DescriptorWatch descriptors;
  fuzz::world::start();
  World now{fuzz::Input(data, size)};
  world = &now;
  if (now.in.flag()) {
    run<ScriptedCopies>(now);
  } else {
    run<ScriptedPolicy>(now);
  }
  world = nullptr;
  return 0;
}
