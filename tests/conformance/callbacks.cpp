// SPDX-License-Identifier: MIT
// Any call may be made from any code of the user's that the library runs, or that runs in the middle of a call. Each
// round plays a host of its own, which is killed, with a text that says so, when it does not come to its end.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/rounds.hpp"

namespace app {

/// What a hook of the host does. Workers pass it over.
struct Hook {
  static inline pid_t host = 0;
  static inline std::function<void()> action;

  static void run() {
    if (::getpid() != host || !action) return;
    const auto once = std::exchange(action, nullptr);
    once();
  }
};

/// Its serializer runs the hook on the way out of the host, and on the way in.
struct Hooked {
  int value = 1;
};

/// A result that runs the hook when it is destroyed.
struct Ending {
  bool armed = false;

  Ending() = default;
  explicit Ending(bool is_armed) : armed(is_armed) {}
  Ending(Ending&& other) noexcept : armed(std::exchange(other.armed, false)) {}
  Ending& operator=(Ending&& other) noexcept {
    armed = std::exchange(other.armed, false);
    return *this;
  }
  ~Ending() {
    if (armed) Hook::run();
  }
};

}  // namespace app

template <>
struct brood::Serializer<app::Hooked> {
  static void write(brood::Writer& writer, const app::Hooked& hooked) {
    app::Hook::run();
    writer.value(hooked.value);
  }
  static app::Hooked read(brood::Reader& reader) {
    app::Hook::run();
    return {reader.value<int>()};
  }
};

template <>
struct brood::Serializer<app::Ending> {
  static void write(brood::Writer& writer, const app::Ending&) { writer.value(true); }
  static app::Ending read(brood::Reader& reader) { return app::Ending(reader.value<bool>()); }
};

namespace {

int add_one(int n) { return n + 1; }
int take(const app::Hooked& hooked) { return hooked.value; }
app::Hooked give() { return {}; }
app::Ending end() { return app::Ending(true); }

/// The calls that are made from a hook.
template <class Policy>
struct World {
  brood::Pool<Policy> pool{{.workers = 2}};
  std::unique_ptr<brood::Pool<Policy>> other = std::make_unique<brood::Pool<Policy>>(brood::PoolOptions{.workers = 1});
  brood::Future<int> pending;
  std::vector<brood::Future<int>> started;
};

template <class Policy>
struct Call {
  const char* name;
  void (*make)(World<Policy>&);
};

template <class Policy>
constexpr std::array calls{
    Call<Policy>{"submit", [](World<Policy>& world) { world.started.push_back(world.pool.submit(&add_one, 1)); }},
    Call<Policy>{"submit and get",
                 [](World<Policy>& world) {
                   if (world.pool.submit(&add_one, 1).get() != 2) throw std::logic_error("a wrong result");
                 }},
    Call<Policy>{"map",
                 [](World<Policy>& world) {
                   if (world.pool.map(&add_one, std::vector(20, 1)) != std::vector(20, 2)) throw std::logic_error("a wrong map");
                 }},
    Call<Policy>{"cancel", [](World<Policy>& world) { world.pending.cancel(); }},
    Call<Policy>{"Future::wait", [](World<Policy>& world) { world.pending.wait(); }},
    Call<Policy>{"Pool::wait", [](World<Policy>& world) { world.pool.wait(); }},
    Call<Policy>{"close", [](World<Policy>& world) { world.pool.close(); }},
    Call<Policy>{"cancel_pending", [](World<Policy>& world) { world.pool.cancel_pending(); }},
    Call<Policy>{"kill", [](World<Policy>& world) { world.pool.kill(); }},
    Call<Policy>{"stats", [](World<Policy>& world) { static_cast<void>(world.pool.stats()); }},
    Call<Policy>{"destroy another pool", [](World<Policy>& world) { world.other.reset(); }},
    Call<Policy>{"make and destroy a third pool",
                 [](World<Policy>& world) {
                   if constexpr (!brood::CopiesHost<Policy>) {  // which the library's own thread does not hinder, others do
                     brood::Pool<Policy> third({.workers = 1});
                     world.started.push_back(third.submit(&add_one, 1));
                   }
                 }},
    Call<Policy>{"throw", [](World<Policy>&) { throw std::range_error("from the hook"); }},
    Call<Policy>{"throw an int", [](World<Policy>&) { throw 42; }},
};

/// Whatever comes out of a call in which a hook ran: the pool is as good as before.
template <class F>
void whatever(F&& call) {
  try {
    call();
  } catch (const brood::Error&) {  // closed, killed, cancelled
  } catch (const std::range_error&) {
  } catch (int) {
  }
}

template <class Policy>
struct Context {
  const char* name;
  void (*enter)(World<Policy>&);
  bool may_throw;
};

template <class Policy>
constexpr std::array contexts{
    Context<Policy>{"the serializer of an argument",
                    [](World<Policy>& world) {
                      whatever([&] { static_cast<void>(world.pool.submit(&take, app::Hooked{}).get()); });
                    },
                    true},
    Context<Policy>{"the serializer of an item",
                    [](World<Policy>& world) {
                      whatever([&] { world.pool.map(&take, std::vector<app::Hooked>(5)); });
                    },
                    true},
    Context<Policy>{"the deserializer of a result",
                    [](World<Policy>& world) { whatever([&] { static_cast<void>(world.pool.submit(&give).get()); }); }, true},
    Context<Policy>{"the deserializer of an item's result",
                    [](World<Policy>& world) {
                      whatever([&] { world.pool.map([](int) { return give(); }, std::vector<int>(5)); });
                    },
                    true},
    Context<Policy>{"the destructor of a result",
                    [](World<Policy>& world) { whatever([&] { static_cast<void>(world.pool.submit(&end).get()); }); }, false},
    Context<Policy>{"the range of a map",
                    [](World<Policy>& world) {
                      whatever([&] {
                        world.pool.map(&add_one, std::views::iota(0, 20) | std::views::transform([](int n) {
                                                   if (n == 7) app::Hook::run();
                                                   return n;
                                                 }));
                      });
                    },
                    true},
    Context<Policy>{"another thread, in the middle of a map",
                    [](World<Policy>& world) {
                      std::thread thread([] { whatever([] { app::Hook::run(); }); });
                      whatever([&] { world.pool.map(&add_one, std::vector<int>(200), {.chunk_size = 1}); });
                      thread.join();
                    },
                    true},
};

template <class Policy>
std::string every_hook() {
  // what is tried happens in the host: where starts are slow each third pair is enough
  constexpr bool slow = support::has_sanitizer;
  unsigned pair = 0;
  for (const Context<Policy>& context : contexts<Policy>) {
    for (const Call<Policy>& call : calls<Policy>) {
      const bool throws = std::string(call.name).find("throw") == 0;
      if (throws && !context.may_throw) continue;
      if (slow && ++pair % 3 != 0) continue;
      std::printf("%s from %s: ", call.name, context.name);
      std::fflush(stdout);
      {
        World<Policy> world;
        world.pending = world.pool.submit(&add_one, 41);
        app::Hook::host = ::getpid();
        bool ran = false;
        app::Hook::action = [&] {
          ran = true;
          call.make(world);
        };
        context.enter(world);
        if (!ran) return "the hook did not run";
        for (auto& each : world.started) {
          if (each.get() != 2) return "a wrong result";
        }
        const auto pending = world.pending.outcome();
        if (!pending && pending.failure().kind() != brood::FailureKind::cancelled) return pending.failure().message();
        const std::string name = call.name;
        if (name != "kill" && name != "close" && world.pool.submit(&add_one, 1).get() != 2) return "the pool is broken";
      }
      std::printf("done\n");
    }
  }
  return {};
}

class OnExit {
 public:
  explicit OnExit(std::function<void()> action) : action_(std::move(action)) {}
  OnExit(const OnExit&) = delete;
  OnExit& operator=(const OnExit&) = delete;
  ~OnExit() { action_(); }

 private:
  std::function<void()> action_;
};

/// A call as submit makes it, before it is handed to the pool.
template <class F, class... Args>
brood::detail::TaskPtr make_call(const std::shared_ptr<brood::detail::Dispatcher>& dispatcher, F f, const Args&... args) {
  using namespace brood::detail;
  using Types = CallTypes<F, const Args&...>;
  const TaskPtr task = dispatcher->make_task();
  task->name = name_of<F>(f);
  brood::Writer out;
  out.raw(code_of<&run_call<F, typename Types::Arguments, typename Types::Result>>());
  write_callable<F>(out, f);
  WriteArguments<typename Types::Arguments>::to(out, args...);
  task->payload = shared_bytes(std::move(out));
  return task;
}

/// What a callback of a resolved task may do, on the thread that drives: the helper, or one that waits.
template <class Policy>
std::string every_callback() {
  using brood::detail::Dispatcher;
  using Handle = std::shared_ptr<Dispatcher>;
  using Action = std::pair<const char*, void (*)(const Handle&)>;
  const Action actions[] = {
      {"submit", [](const Handle& d) {
         static_cast<void>(brood::detail::submit_under<Policy>(d, brood::TaskOptions{}, &add_one, 1));
       }},
      {"submit and get", [](const Handle& d) {
         if (brood::detail::submit_under<Policy>(d, brood::TaskOptions{}, &add_one, 1).get() != 2) ::_exit(3);
       }},
      {"wait_all", [](const Handle& d) { d->wait_all(); }},
      {"close", [](const Handle& d) { d->close(); }},
      {"cancel_pending", [](const Handle& d) { d->cancel_pending(); }},
      {"kill", [](const Handle& d) { d->kill(); }},
      {"resize", [](const Handle& d) { d->resize(1); }},
      {"stats", [](const Handle& d) { static_cast<void>(d->stats()); }},
      {"shut_down", [](const Handle& d) { d->shut_down(); }},
      {"throw an int", [](const Handle&) { throw 42; }},
  };
  for (const bool by_helper : {false, true}) {
    for (const auto& [name, action] : actions) {
      std::printf("%s from a callback, %s: ", name, by_helper ? "on the helper" : "on the waiting thread");
      std::fflush(stdout);
      auto dispatcher =
          brood::detail::make_dispatcher<Policy>(brood::PoolOptions{.workers = 2}, Policy{}, true);
      const auto task = make_call(dispatcher, &add_one, 1);
      std::atomic<bool> ran = false;
      dispatcher->when_resolved(task, [&, run = action] {
        const OnExit told([&] { ran = true; });
        run(dispatcher);
      });
      dispatcher->enqueue(task, Dispatcher::Caller::leaves);
      if (!by_helper) dispatcher->wait(*task);
      if (!support::eventually([&] { return ran.load(); })) return "the callback did not come to its end";
      dispatcher->close();
      dispatcher->wait_all();
      dispatcher->shut_down();
      std::printf("done\n");
    }
  }
  return {};
}

/// Whether the task is resolved although nobody waits for it.
bool resolved_by_itself(const std::atomic<bool>& resolved) {
  return support::eventually([&] { return resolved.load(); });
}
bool resolved_by_itself(const brood::Future<int>& future) {
  return support::eventually([&] { return future.ready(); });
}

int loops() {
  for (volatile unsigned n = 0;;) n = n + 1;
}

enum class By { helper, waiting_thread, cancelling_thread };

/// A callback that looks whether somebody drives while it runs. Returns what was wrong.
template <class Policy>
std::string look_from_callback(By by) {
  using namespace std::chrono_literals;
  using brood::detail::Dispatcher;
  using brood::detail::submit_under;
  // whoever is about to wait, or says so, makes no helper
  const auto caller = by == By::helper ? Dispatcher::Caller::leaves : Dispatcher::Caller::waits;
  const brood::PoolOptions options{.workers = by == By::cancelling_thread ? 1U : 2U};
  const auto dispatcher = brood::detail::make_dispatcher<Policy>(options, Policy{}, true);
  const support::Gate gate;
  const auto behind = make_call(dispatcher, &support::wait_for_gate, gate.path(), 1);
  const auto task = make_call(dispatcher, &add_one, 1);
  std::string wrong = "the callback did not run";
  std::atomic<bool> ran = false;
  const std::thread::id here = std::this_thread::get_id();
  dispatcher->when_resolved(task, [&] {
    const OnExit told([&] { ran = true; });
    wrong.clear();
    if ((std::this_thread::get_id() == here) == (by == By::helper)) wrong += "it runs on the wrong thread; ";
    gate.open();
    if (!resolved_by_itself(behind->resolved)) wrong += "nobody hears of the end of a task; ";
    const auto late = submit_under<Policy>(dispatcher, brood::TaskOptions{.timeout = 50ms}, &loops);
    if (!resolved_by_itself(late)) {
      wrong += "nobody looks at deadlines; ";
    } else if (late.outcome().failure().kind() != brood::FailureKind::timeout) {
      wrong += late.outcome().failure().message();
    }
    if constexpr (!brood::CopiesHost<Policy>) {
      ::kill(dispatcher->stats().server_pid, SIGKILL);
      if (!support::eventually([&] { return dispatcher->stats().server_pid == 0; })) wrong += "nobody hears of the server's end; ";
      const auto next = submit_under<Policy>(dispatcher, brood::TaskOptions{}, &add_one, 1);
      if (!resolved_by_itself(next)) wrong += "nobody starts a server; ";
    }
  });
  dispatcher->enqueue(behind, caller);
  dispatcher->enqueue(task, caller);
  switch (by) {
    case By::helper: break;
    case By::waiting_thread: dispatcher->wait(*task); break;
    case By::cancelling_thread: dispatcher->cancel(task); break;
  }
  if (!support::eventually([&] { return ran.load(); }, std::chrono::seconds(60))) return "the callback does not come to its end";
  dispatcher->close();
  dispatcher->wait_all();
  dispatcher->shut_down();
  return wrong;
}

}  // namespace

TEST_CASE_TEMPLATE("while a callback runs somebody else drives", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const int round : support::rounds(1, 1'000)) {
    CAPTURE(round);
    CHECK(look_from_callback<Policy>(By::helper) == "");
    CHECK(look_from_callback<Policy>(By::waiting_thread) == "");
    CHECK(look_from_callback<Policy>(By::cancelling_thread) == "");
  }
}

TEST_CASE_TEMPLATE("any call from a callback of a resolved task comes to its end", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const int round : support::rounds(1, 1'000)) {
    CAPTURE(round);
    const auto ran = support::run_in_child(
        [] {
          const std::string wrong = every_callback<Policy>();
          if (!wrong.empty()) std::printf("%s\n", wrong.c_str());
          return wrong.empty() ? 0 : 1;
        },
        120'000);
    CHECK_MESSAGE(ran.status.exited(), ran.output);
    CHECK_MESSAGE(ran.status.code() == 0, ran.output);
  }
}

TEST_CASE_TEMPLATE("any call from any hook comes to its end", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const int round : support::rounds(1, 1'000)) {
    CAPTURE(round);
    const auto ran = support::run_in_child(
        [] {
          const std::string wrong = every_hook<Policy>();
          if (!wrong.empty()) std::printf("%s\n", wrong.c_str());
          return wrong.empty() ? 0 : 1;
        },
        120'000);
    CHECK_MESSAGE(ran.status.code() == 0, ran.output);
    CHECK_MESSAGE(ran.status.exited(), ran.output);
  }
}

TEST_CASE_TEMPLATE("an on_worker_start may make a pool, and throw what is no exception", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  for (const int round : support::rounds(1, 1'000)) {
    CAPTURE(round);
    brood::Pool<Policy> pool({.workers = 1, .on_worker_start = [] {
                                brood::Pool<brood::SpawnPolicy> inner({.workers = 1});
                                if (inner.submit(&add_one, 1).get() != 2) ::_exit(3);
                              }});
    CHECK(pool.submit(&add_one, 1).get() == 2);
  }
  brood::Pool<Policy> pool({.workers = 1, .on_worker_start = [] { throw 42; }});
  auto future = pool.submit(&add_one, 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(future.get()), doctest::Contains("int"), brood::LaunchError);
}

TEST_CASE("an on_worker_start that uses the pool it has inherited under ForkPolicy: WrongProcess") {
  const support::Leftovers audit;
  static brood::Pool<brood::ForkPolicy>* inherited = nullptr;
  std::unique_ptr<brood::Pool<brood::ForkPolicy>> first;
  first = std::make_unique<brood::Pool<brood::ForkPolicy>>(brood::PoolOptions{.workers = 1});
  inherited = first.get();
  {
    brood::Pool<brood::ForkPolicy> second({.workers = 1, .on_worker_start = [] { inherited->kill(); }});
    auto future = second.submit(&add_one, 1);
    CHECK_THROWS_WITH_AS(static_cast<void>(future.get()), doctest::Contains("belongs to process"), brood::LaunchError);
  }
  CHECK(first->submit(&add_one, 1).get() == 2);
  inherited = nullptr;
}
