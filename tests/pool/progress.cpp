// SPDX-License-Identifier: MIT
// How far a task has come, and how far a long call has.
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>
#include <brood/progress.hpp>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace {

using Server = brood::ForkServerPolicy<>;

int report_and_wait(const std::string& gate, std::uint64_t done, std::uint64_t total) {
  brood::this_task::progress(done, total);
  support::wait_for_gate(gate, 0);
  brood::this_task::progress(total, total);
  return 1;
}

int work_on(const std::string& gate, int n) {
  if (n == 5) return report_and_wait(gate, 1, 2);
  if (n == 7) throw std::runtime_error("seven");
  return n;
}

int twice(int n) { return 2 * n; }

/// What a callback was told.
struct Told {
  std::vector<brood::Progress> all;
  std::vector<std::thread::id> threads;

  brood::ProgressCallback callback(std::function<void(const brood::Progress&)> also = nullptr) {
    return [this, also = std::move(also)](const brood::Progress& now) {
      all.push_back(now);
      threads.push_back(std::this_thread::get_id());
      if (also) also(now);
    };
  }

  /// What holds for every call, however long it takes.
  void check_manners() const {
    REQUIRE(all.size() >= 2);
    for (std::size_t at = 0; at < all.size(); ++at) {
      CHECK(threads[at] == std::this_thread::get_id());
      CHECK(all[at].finished == (at + 1 == all.size()));
      CHECK(all[at].failed <= all[at].done);
      if (at == 0) continue;
      CHECK(all[at].done >= all[at - 1].done);
      CHECK(all[at].elapsed >= all[at - 1].elapsed);
      CHECK(all[at].total == all[at - 1].total);
    }
    CHECK(all.front().done == 0);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("Future::progress tells what the task tells, while it runs and afterwards", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  auto running = pool.submit(&report_and_wait, gate.path(), 3U, 10U);
  auto waiting = pool.submit([] { brood::this_task::progress(7, 9); });
  REQUIRE(support::eventually([&] { return running.progress().done == 3; }));
  CHECK(running.progress() == brood::TaskProgress{3, 10});
  CHECK(waiting.progress() == brood::TaskProgress{});
  gate.open();
  CHECK(running.get() == 1);
  waiting.get();
  CHECK(running.progress() == brood::TaskProgress{10, 10});
  CHECK(waiting.progress() == brood::TaskProgress{7, 9});
  // one that tells nothing is not taken for the one before
  auto silent = pool.submit(&twice, 1);
  silent.wait();
  CHECK(silent.progress() == brood::TaskProgress{});
  // how far the dead one came
  auto dead = pool.submit([]() -> int {
    brood::this_task::progress(340, 1000);
    return ::raise(SIGKILL);
  });
  dead.wait();
  CHECK(dead.progress() == brood::TaskProgress{340, 1000});
}

TEST_CASE("Future::progress: a task that is run again begins anew") {
  const support::Leftovers audit;
  const support::Gate died;
  brood::Pool<Server> pool({.workers = 1});
  auto again = pool.submit({.retries = 1}, [](const std::string& mark) {
    if (::access(mark.c_str(), F_OK) == 0) return 1;
    brood::this_task::progress(1, 2);
    ::close(::open(mark.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    return ::raise(SIGKILL);
  }, died.path());
  CHECK(again.get() == 1);
  CHECK(again.progress() == brood::TaskProgress{});
}

TEST_CASE("Future::progress under InlinePolicy") {
  const support::Leftovers audit;
  brood::Pool<brood::InlinePolicy> pool;
  CHECK(pool.submit([] { brood::this_task::progress(2, 3); }).progress() == brood::TaskProgress{2, 3});
  CHECK(pool.submit([] {}).progress() == brood::TaskProgress{});
}

TEST_CASE("this_task::progress may be called by threads of the task, and by Preloads") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 1});
  auto future = pool.submit([] {
    std::thread([] { brood::this_task::progress(4, 5); }).join();
    return 1;
  });
  CHECK(future.get() == 1);
  CHECK(future.progress() == brood::TaskProgress{4, 5});
  CHECK_THROWS_AS(brood::this_task::progress(1, 2), brood::Error);
}

TEST_CASE("a Future without a task has no progress") {
  CHECK_THROWS_AS(brood::Future<int>().progress(), brood::Error);
}

TEST_CASE_TEMPLATE("MapOptions::progress is called at the start and at the end", Policy, brood::SpawnPolicy, brood::InlinePolicy) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  Told told;
  std::vector<int> items(1000, 1);
  CHECK(pool.map(&twice, items, {.progress = told.callback()}).size() == 1000);
  told.check_manners();
  CHECK(told.all.front().total == 1000);
  CHECK(told.all.back().done == 1000);
  CHECK(told.all.back().failed == 0);
  CHECK(told.all.back().share() == 1);

  Told empty;
  CHECK(pool.map(&twice, std::vector<int>(), {.progress = empty.callback()}).empty());
  empty.check_manners();
  CHECK(empty.all.back().total == 0);
  CHECK(empty.all.back().share() == 1);

  Told unsized;
  std::istringstream numbers("1 2 3 4");
  std::ranges::istream_view<int> range(numbers);
  CHECK(pool.map(&twice, range, {.progress = unsized.callback()}).size() == 4);
  unsized.check_manners();
  CHECK_FALSE(unsized.all.back().total);
  CHECK(unsized.all.back().done == 4);
  CHECK(unsized.all.back().share() == 0);
}

TEST_CASE("MapOptions::progress sees items that are done before their chunk is, and how far the running one is") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Server> pool({.workers = 1});
  std::vector<std::pair<std::string, int>> items;
  for (int n = 0; n < 10; ++n) items.emplace_back(gate.path(), n);
  Told told;
  bool seen = false;
  const auto outcomes = pool.try_map(&work_on, items, {.chunk_size = 10, .progress = told.callback([&](const brood::Progress& now) {
    if (now.done != 5 || now.running != 0.5) return;
    seen = true;
    CHECK(now.share() == 0.55);
    gate.open();
  })});
  CHECK(seen);
  CHECK(outcomes.size() == 10);
  told.check_manners();
  CHECK(told.all.back().done == 10);
  CHECK(told.all.back().failed == 1);
  CHECK(told.all.back().running == 0);
}

TEST_CASE("MapOptions::progress of a closure, and of items that run at the same time") {
  const support::Leftovers audit;
  const support::Gate gate;
  const std::string path = gate.path();
  Told told;
#if BROOD_TEST_HAS_THREAD_SANITIZER
  brood::Pool<brood::InlinePolicy> pool;
  gate.open();
  const bool expected = false;
#else
  brood::Pool<brood::ForkPolicy> pool({.workers = 2});
  const bool expected = true;
#endif
  bool seen = false;
  const auto values = pool.map([&](int n) { return n + report_and_wait(path, 1, 2); }, std::vector{1, 2},
                               {.progress = told.callback([&](const brood::Progress& now) {
                                 if (now.running != 1.0) return;
                                 seen = true;
                                 gate.open();
                               })});
  CHECK(values == std::vector{2, 3});
  CHECK(seen == expected);
  told.check_manners();
}

TEST_CASE("MapOptions::progress: what fails is counted, and map says that it is over when it throws") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 2});
  const support::Gate gate;
  gate.open();
  std::vector<std::pair<std::string, int>> items;
  for (int n = 0; n < 9; ++n) items.emplace_back(gate.path(), n);
  Told told;
  CHECK_THROWS_WITH_AS(pool.map(&work_on, items, {.chunk_size = 1, .progress = told.callback()}), "seven", std::runtime_error);
  told.check_manners();
  CHECK(told.all.back().failed == 1);

  Told dead;
  const auto outcomes = pool.try_map([](int n) { return n == 3 ? ::raise(SIGKILL) : n; }, std::vector{1, 2, 3, 4},
                                     {.progress = dead.callback()});
  CHECK(outcomes.size() == 4);
  dead.check_manners();
  CHECK(dead.all.back().done == 4);
  CHECK(dead.all.back().failed == 1);
}

TEST_CASE("a progress callback that throws ends the map") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 1});
  const auto stop = [](const brood::Progress& now) {
    if (now.finished) throw std::logic_error("at the end");
  };
  CHECK_THROWS_WITH_AS(pool.map(&twice, std::vector{1, 2, 3}, {.progress = stop}), "at the end", std::logic_error);
  const auto refuse = [](const brood::Progress&) { throw std::logic_error("at the start"); };
  CHECK_THROWS_WITH_AS(pool.map(&twice, std::vector{1, 2, 3}, {.progress = refuse}), "at the start", std::logic_error);
  CHECK(pool.map(&twice, std::vector{1, 2}) == std::vector{2, 4});
}

TEST_CASE("map_reduce tells its progress") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 2});
  Told told;
  const auto plus = [](int a, int b) { return a + b; };
  CHECK(pool.map_reduce(&twice, plus, std::vector<int>(100, 1), 0, {.progress = told.callback()}) == 200);
  told.check_manners();
  CHECK(told.all.back().total == 100);
  CHECK(told.all.back().done == 100);
}

TEST_CASE_TEMPLATE("StreamOptions::progress is called when the first result is asked for, and at the end", Policy, brood::SpawnPolicy,
                   brood::InlinePolicy) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  for (const bool ordered : {true, false}) {
    Told told;
    const std::vector<int> items(1000, 1);
    const brood::StreamOptions options{.progress = told.callback()};
    auto results = ordered ? pool.stream(&twice, items, options) : pool.stream_unordered(&twice, items, options);
    CHECK(told.all.empty());
    auto at = results.begin();
    CHECK(*at == 2);
    CHECK(told.all.front().done == 0);
    CHECK_FALSE(told.all.back().finished);
    while (at != results.end()) ++at;
    told.check_manners();
    CHECK(told.all.back().total == 1000);
    CHECK(told.all.back().done == 1000);
    CHECK(told.all.back().share() == 1);
  }
  Told unsized;
  std::istringstream numbers("1 2 3 4");
  std::uint64_t count = 0;
  for ([[maybe_unused]] const int each :
       pool.stream(&twice, std::ranges::istream_view<int>(numbers), {.progress = unsized.callback()})) {
    ++count;
  }
  CHECK(count == 4);
  unsized.check_manners();
  CHECK_FALSE(unsized.all.back().total);
  CHECK(unsized.all.back().done == 4);
}

TEST_CASE("StreamOptions::progress is told while a result is waited for, and of what failed") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 1});
  const auto items_behind = [](const support::Gate& gate) {
    std::vector<std::pair<std::string, int>> items;
    for (int n = 0; n < 10; ++n) items.emplace_back(gate.path(), n);
    return items;
  };
  const support::Gate gate;
  Told told;
  bool seen = false;
  std::size_t good = 0;
  std::size_t all = 0;
  for (const auto& outcome :
       pool.try_stream(&work_on, items_behind(gate), {.in_flight = 10, .progress = told.callback([&](const brood::Progress& now) {
                         if (now.done != 5 || now.running != 0.5) return;
                         seen = true;
                         gate.open();
                       })})) {
    ++all;
    good += outcome ? 1U : 0U;
  }
  CHECK(seen);
  CHECK(all == 10);
  CHECK(good == 9);
  told.check_manners();
  CHECK(told.all.back().done == 10);
  CHECK(told.all.back().failed == 1);

  const support::Gate open;
  open.open();
  Told failing;
  auto results = pool.stream(&work_on, items_behind(open), {.chunk_size = 1, .progress = failing.callback()});
  std::size_t before = 0;
  CHECK_THROWS_WITH_AS(
      [&] {
        for (const int each : results) before += each >= 0 ? 1U : 0U;
      }(),
      "seven", std::runtime_error);
  CHECK(before == 7);
  failing.check_manners();
  CHECK(failing.all.back().failed == 1);
  CHECK(failing.all.back().total == 10);
}

TEST_CASE("a stream that is left early tells nothing any more, also when its own progress callback leaves it") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 1});
  Told told;
  for (const int each : pool.stream(&twice, std::views::iota(0), {.progress = told.callback()})) {
    if (each == 6) break;
  }
  REQUIRE_FALSE(told.all.empty());
  CHECK_FALSE(told.all.back().finished);

  Told leaving;
  const auto alive = std::make_shared<int>(0);
  std::optional<brood::Stream<int>> results;
  results.emplace(pool.stream(&twice, std::views::iota(0), {.progress = leaving.callback([&results, alive](const brood::Progress&) {
    results->cancel();
    ++*alive;  // what is called is still there
  })}));
  CHECK(results->begin() == results->end());
  CHECK(*alive == 1);
  CHECK(leaving.all.size() == 1);
  CHECK(alive.use_count() == 1);  // a progress line among what it holds has ended its line

  const support::Gate gate;  // nobody opens it
  unsigned calls = 0;
  results.emplace(pool.stream(&support::wait_for_gate, std::vector(3, std::pair(gate.path(), 1)), {.progress = [&](const brood::Progress&) {
    if (++calls == 2) results->cancel();  // while results are waited for
  }}));
  CHECK(results->begin() == results->end());
  CHECK(calls == 2);

  auto stopped = pool.stream(&twice, std::views::iota(0), {.progress = [](const brood::Progress&) { throw std::logic_error("stop"); }});
  CHECK_THROWS_WITH_AS(static_cast<void>(stopped.begin() == stopped.end()), "stop", std::logic_error);
  CHECK(stopped.begin() == stopped.end());
  CHECK(support::eventually([&] { return pool.stats().running == 0; }));  // what ran is killed
}

TEST_CASE("Pool::wait tells how many tasks are done") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Server> pool({.workers = 2});
  CHECK(pool.submit(&twice, 1).get() == 2);  // before: not counted
  std::vector<brood::Future<int>> futures;
  futures.push_back(pool.submit(&report_and_wait, gate.path(), 1U, 4U));
  futures.push_back(pool.submit([]() -> int { throw std::runtime_error("no"); }));
  futures.push_back(pool.submit(&twice, 1));
  Told told;
  bool seen = false;
  pool.wait(told.callback([&](const brood::Progress& now) {
    if (now.running != 0.25 || pool.stats().failed != 1) return;  // it may call anything
    seen = true;
    gate.open();
  }));
  CHECK(seen);
  told.check_manners();
  CHECK(told.all.back().total == 3);
  CHECK(told.all.back().done == 3);
  CHECK(told.all.back().failed <= 1);
}

TEST_CASE_TEMPLATE("Future::wait tells how far the task is", Policy, Server, brood::SpawnPolicy) {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Policy> pool({.workers = 1});
  auto future = pool.submit(&report_and_wait, gate.path(), 3U, 10U);
  Told told;
  bool seen = false;
  future.wait(told.callback([&](const brood::Progress& now) {
    if (now.done != 3 || pool.stats().running != 1) return;  // it may call anything
    seen = true;
    CHECK(now.total == 10);
    CHECK_FALSE(future.ready());
    gate.open();
  }));
  CHECK(seen);
  REQUIRE(told.all.size() >= 2);
  for (std::size_t at = 0; at < told.all.size(); ++at) {
    CHECK(told.threads[at] == std::this_thread::get_id());
    CHECK(told.all[at].finished == (at + 1 == told.all.size()));
    CHECK(told.all[at].elapsed >= told.all[at == 0 ? 0 : at - 1].elapsed);
  }
  CHECK(told.all.back().done == 10);
  CHECK(told.all.back().share() == 1);
  CHECK(future.get() == 1);

  // one that tells nothing, one that is resolved, one whose worker dies
  Told silent;
  auto quiet = pool.submit(&twice, 1);
  quiet.wait();
  quiet.wait(silent.callback());
  REQUIRE(silent.all.size() == 2);
  CHECK(silent.all.back().finished);
  CHECK(silent.all.back().done == 0);
  CHECK_FALSE(silent.all.back().total);
  Told dead;
  auto killed = pool.submit([]() -> int {
    brood::this_task::progress(340, 1000);
    return ::raise(SIGKILL);
  });
  killed.wait(dead.callback());
  CHECK(dead.all.back().finished);
  CHECK(dead.all.back().done == 340);
  CHECK_THROWS_AS(killed.get(), brood::WorkerDied);
}

TEST_CASE("Future::wait: about ten times a second, also when the task says nothing new") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Server> pool({.workers = 1});
  auto future = pool.submit(&report_and_wait, gate.path(), 1U, 2U);
  Told told;
  future.wait(told.callback([&](const brood::Progress&) {
    if (told.all.size() == 5) gate.open();
  }));
  CHECK(told.all.size() >= 6);
  CHECK(told.all.size() <= static_cast<std::size_t>(told.all.back().elapsed / std::chrono::milliseconds(100)) + 2);
  for (std::size_t at = 1; at < told.all.size(); ++at) CHECK(told.all[at].done >= told.all[at - 1].done);
}

TEST_CASE("Future::wait: what the callback throws ends the wait, not the task; and it may do away with the future") {
  const support::Leftovers audit;
  const support::Gate gate;
  brood::Pool<Server> pool({.workers = 1});
  auto future = pool.submit(&report_and_wait, gate.path(), 1U, 2U);
  unsigned calls = 0;
  CHECK_THROWS_WITH_AS(future.wait([&](const brood::Progress&) {
    if (++calls == 2) throw std::logic_error("enough");
  }), "enough", std::logic_error);
  CHECK_FALSE(future.ready());
  gate.open();
  CHECK(future.get() == 1);
  CHECK_THROWS_WITH_AS(future.wait([](const brood::Progress& now) {
    if (now.finished) throw std::logic_error("at the end");
  }), "at the end", std::logic_error);

  auto gone = std::make_optional(pool.submit(&twice, 4));
  int value = 0;
  gone->wait([&](const brood::Progress&) {
    if (!gone) return;
    value = std::move(*gone).get();
    gone.reset();
  });
  CHECK(value == 8);

  const support::Gate closed;  // nobody opens it
  auto cancelled = pool.submit(&report_and_wait, closed.path(), 1U, 2U);
  cancelled.wait([&](const brood::Progress& now) {
    if (now.done == 1) cancelled.cancel();
  });
  CHECK_THROWS_AS(cancelled.get(), brood::TaskCancelled);
}

TEST_CASE("Future::wait with a callback: of a function in the host, of nothing, without a callback, without a helper thread") {
  const support::Leftovers audit;
  brood::Pool<Server> pool({.workers = 1, .helper_thread = false});
  Told told;
  auto next = pool.submit(&twice, 2).then([](int n) { return n + 1; });
  next.wait(told.callback());
  CHECK(next.get() == 5);
  REQUIRE(told.all.size() >= 2);
  CHECK(told.all.back().finished);
  CHECK_FALSE(told.all.back().total);
  auto plain = pool.submit(&twice, 3);
  plain.wait(brood::ProgressCallback());
  CHECK(plain.ready());
  CHECK_THROWS_AS(brood::Future<int>().wait(told.callback()), brood::Error);
}

TEST_CASE("Future::wait with a callback under InlinePolicy: all is over when it is called") {
  const support::Leftovers audit;
  brood::Pool<brood::InlinePolicy> pool;
  Told told;
  pool.submit([] { brood::this_task::progress(2, 3); }).wait(told.callback());
  REQUIRE(told.all.size() == 2);
  CHECK_FALSE(told.all.front().finished);
  CHECK(told.all.back().finished);
  CHECK(told.all.back().done == 2);
  CHECK(told.all.back().total == 3);
}

// ---- the line for the terminal -----------------------------------------------------------------------------------------

namespace {

/// A terminal of our own: what is written to one end is read at the other.
class Terminal {
 public:
  explicit Terminal(unsigned short columns) {
    winsize size{};
    size.ws_col = columns;
    size.ws_row = 24;
    REQUIRE(::openpty(&user_, &program_, nullptr, nullptr, &size) == 0);
    ::fcntl(user_, F_SETFL, O_NONBLOCK);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() {
    ::close(user_);
    ::close(program_);
  }

  int fd() const { return program_; }
  /// What has been written since.
  std::string shown() {
    std::string text;
    char piece[512];
    for (ssize_t size = 0; (size = ::read(user_, piece, sizeof piece)) > 0;) text.append(piece, static_cast<std::size_t>(size));
    return text;
  }

 private:
  int user_ = -1;
  int program_ = -1;
};

brood::Progress at(std::uint64_t done, std::optional<std::uint64_t> total, std::chrono::milliseconds elapsed) {
  brood::Progress now;
  now.done = done;
  now.total = total;
  now.elapsed = elapsed;
  return now;
}

}  // namespace

TEST_CASE("a progress line says what is done, for how long, for how much longer and how fast") {
  using brood::detail::progress_text;
  using std::chrono::seconds;
  CHECK(progress_text("resizing", at(450, 1000, seconds(10)), 70, false) ==
        "resizing:  45%|##########             | 450/1000 [00:10<00:12, 45.0/s]");
  CHECK(progress_text("", at(0, 10, seconds(0)), 50, false) == "  0%|                        | 0/10 [00:00<?, ?/s]");
  CHECK(progress_text("reading", at(12345, {}, seconds(3725)), 80, false) == "reading: 12345 [1:02:05, 3.3/s]");
  CHECK(progress_text("slow", at(1, 4, seconds(20)), 40, false) == "slow:  25% 1/4 [00:20<01:00, 20.00s each");
  auto last = at(10, 10, seconds(5));
  last.finished = true;
  last.failed = 3;
  CHECK(progress_text("all", last, 60, false) == "all: 100%|##################| 10/10 [00:05, 2.0/s, 3 failed]");
  auto half = at(1, 4, seconds(1));
  half.running = 1;
  CHECK(progress_text("", half, 40, true).find(" 50%|") != std::string::npos);
  // a bar has eighths of a column where the terminal shows them, and nothing is cut inside of a character
  CHECK(brood::detail::bar_text(0.5, 3, true) == "█▌ ");
  CHECK(brood::detail::bar_text(1, 2, true) == "██");
  for (std::size_t width = 1; width < 60; ++width) {
    const std::string text = progress_text("größer", at(3, 7, seconds(1)), width, true);
    CHECK(brood::detail::columns_of(text) <= width);
  }
}

TEST_CASE("a progress line is redrawn in place, at most ten times a second, and ends on a new line") {
  const support::Leftovers audit;
  using std::chrono::milliseconds;
  Terminal terminal(60);
  {
    const auto line = brood::progress_line("a\nb", terminal.fd());
    line(at(0, 100, milliseconds(0)));
    const std::string first = terminal.shown();
    CHECK(first.rfind("\ra b:   0%|", 0) == 0);
    CHECK(first.find('\n') == std::string::npos);
    CHECK(first.size() <= 60 + 4);
    line(at(10, 100, milliseconds(99)));
    CHECK(terminal.shown().empty());
    line(at(20, 100, milliseconds(100)));
    CHECK(terminal.shown().find(" 20%|") != std::string::npos);
    auto last = at(100, 100, milliseconds(101));
    last.finished = true;
    line(last);
    const std::string end = terminal.shown();
    CHECK(end.find("100%|") != std::string::npos);
    CHECK(end.substr(end.size() - 2) == "\r\n");  // as a terminal shows a line's end
  }
  CHECK(terminal.shown().empty());
}

TEST_CASE("a progress line of a map that throws leaves the cursor on a new line") {
  const support::Leftovers audit;
  Terminal terminal(80);
  brood::Pool<Server> pool({.workers = 1});
  const auto range = std::views::iota(0, 5) | std::views::transform([](int n) {
                       if (n == 3) throw std::runtime_error("from the range");
                       return n;
                     });
  CHECK_THROWS_AS(pool.map(&twice, range, {.progress = brood::progress_line("doing", terminal.fd())}), std::runtime_error);
  const std::string shown = terminal.shown();
  CHECK(shown.rfind("\rdoing:   0%|", 0) == 0);
  CHECK(shown.substr(shown.size() - 2) == "\r\n");
  CHECK(pool.map(&twice, std::vector{1, 2}, {.progress = brood::progress_line("again", terminal.fd())}) == std::vector{2, 4});
  const std::string again = terminal.shown();
  CHECK(again.find("again: 100%|") != std::string::npos);
  CHECK(again.substr(again.size() - 2) == "\r\n");
}

TEST_CASE("a progress line for one task") {
  const support::Leftovers audit;
  Terminal terminal(80);
  brood::Pool<Server> pool({.workers = 1});
  auto future = pool.submit([] { brood::this_task::progress(8, 8); });
  future.wait(brood::progress_line("training", terminal.fd()));
  const std::string shown = terminal.shown();
  CHECK(shown.rfind("\rtraining: ", 0) == 0);
  CHECK(shown.find("training: 100%|") != std::string::npos);
  CHECK(shown.substr(shown.size() - 2) == "\r\n");
}

TEST_CASE("a progress line writes nothing where there is no terminal") {
  const support::Leftovers audit;
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
  brood::Pool<brood::InlinePolicy> pool;
  CHECK(pool.map(&twice, std::vector{1}, {.progress = brood::progress_line("quiet", ends[1])}) == std::vector{2});
  char piece[8];
  CHECK(::read(ends[0], piece, sizeof piece) == -1);
  ::close(ends[0]);
  ::close(ends[1]);
}
