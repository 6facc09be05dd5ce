// SPDX-License-Identifier: MIT
#pragma once

#include <sched.h>

#include <array>
#include <chrono>
#include <concepts>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/core/config.hpp>
#include <brood/os/inventory.hpp>
#include <brood/os/threads.hpp>
#include <brood/policy/launch.hpp>
#include <brood/policy/worker_policy.hpp>
#include <brood/wire/code_pointer.hpp>
#include <brood/worker/preload.hpp>
#include <brood/worker/worker_loop.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// A Preload on its way to the server: how it is built, and from what.
struct PreloadOrder {
  BuildPreload build = nullptr;
  std::string arguments;
  std::shared_ptr<const void> kept;  ///< what the arguments name
};

/// What Preloads may leave behind.
struct PreloadRules {
  bool allow_threads = false;
  bool strict = false;
};

/// Builds one Preload in the server and tells the host. A failure is told, and ends the server.
BROOD_INLINE void build_one_preload(Server& server, std::int32_t index, PreloadedObject preload, const PreloadOrder& order,
                                    PreloadRules rules);

#if BROOD_BODIES

/// The texts as one, as many as a control message has room for beside others of 400 bytes.
BROOD_INLINE std::string join_left_behind(const std::vector<std::string>& texts, std::string_view between) {
  std::string joined;
  for (std::size_t at = 0; at < texts.size(); ++at) {
    const std::string more = (at == 0 ? "" : std::string(between)) + texts[at].substr(0, 1000);
    if (joined.size() + more.size() > ControlMessage::max_text - 400) {
      return joined + std::string(between) + "and " + std::to_string(texts.size() - at) + " more";
    }
    joined += more;
  }
  return joined;
}

/// The threads that run beside the `expected` ones, as a text; empty when there are none. Looks again some times: one that
/// has been joined may be listed for a moment longer.
BROOD_INLINE std::vector<std::string> extra_threads(int expected, int looks) {
  if (expected == 0) return {};  // there were several, and how many is not to be seen
  int threads = count_threads();
  for (; (threads == 0 || threads > expected) && looks > 0; --looks) {
    timespec moment{0, 500'000};
    ::nanosleep(&moment, nullptr);
    threads = count_threads();
  }
  if (threads == 0) return {"threads"};
  if (threads <= expected) return {};
  return {std::to_string(threads - expected) + (threads == expected + 1 ? " thread" : " threads")};
}

BROOD_INLINE void build_one_preload(Server& server, std::int32_t index, PreloadedObject preload, const PreloadOrder& order,
                              PreloadRules rules) {
  const auto say = [&](const ControlMessage& message) { server.control.send(message.bytes()); };
  const auto give_up = [&](const std::string& why) {
    say(ControlMessage::make(ControlType::failed, {}, index, 0, why));
    leave(exit_code_of_broken_worker);
  };
  say(ControlMessage::make(ControlType::building, {}, index));
  const std::vector<Held> descriptors = held_descriptors();
  const std::vector<Held> timers = held_timers();
  const int threads = rules.allow_threads ? count_threads() : 1;
  const std::uint64_t started = monotonic_ns();
  try {
    Reader arguments = Reader::of_call(std::as_bytes(std::span(order.arguments)));
    preload.object = order.build(arguments);
    server.preloaded.push_back(preload);
  } catch (const abi::__forced_unwind&) {
    throw;
  } catch (...) {
    Writer thrown;
    write_exception(thrown, std::current_exception());
    const ExceptionSummary summary = summarize_exception(thrown.view());
    give_up("its constructor threw " + readable_name(summary.type) + (summary.said.empty() ? "" : ": " + summary.said));
  }
  const std::uint64_t time = monotonic_ns() - started;
  std::vector<std::string> running = extra_threads(threads, rules.allow_threads ? 10 : 100);
  for (std::string& timer : what_came(timers, held_timers())) running.push_back(std::move(timer));
  if (!running.empty() && !rules.allow_threads) {
    give_up("it left " + join_left_behind(running, " and ") +
            " running; threads and timers do not survive a fork, so the workers would not have them. Join the threads and "
            "delete the timers in the constructor, or set ForkServerPolicy's allow_threads");
  }
  std::vector<std::string> left = what_came(descriptors, held_descriptors());
  if (!left.empty() && rules.strict) {
    give_up("it left behind: " + join_left_behind(left, "; ") +
            ". ForkServerPolicy's strict refuses that. Close them in the constructor, and open them again in after_fork");
  }
  left.insert(left.end(), running.begin(), running.end());
  const std::string told = join_left_behind(left, "\n");
  if (server.control.send(ControlMessage::make(ControlType::built, {}, index, time, told).bytes()) != ControlSocket::Sent::yes) {
    leave(exit_code_of_lost_server);
  }
}

#endif  // BROOD_BODIES

}  // namespace detail

/// Workers are copies of a small, clean server that has built each Preload once, in this order, when the pool was made.
/// When to use: always, unless a reason speaks for another policy. What it costs: one start of the program and the
/// Preloads per pool; then a worker is ready in well under a millisecond, whatever the host's size, and shares the
/// Preloads copy-on-write. Needs brood::init as the first line of main.
///
/// A Preload is any type that can be default-constructed, or that is given its arguments:
/// `ForkServerPolicy<Model, Index>{preload_args<Model>("m.bin")}`. preloaded<Model>() gives a task its instance. A Preload
/// that throws, exits, crashes, hangs, or leaves threads or timers running makes the pool's constructor throw PreloadError.
/// What else it leaves open for the workers to share is in PreloadStats::left_behind.
///
/// A Preload may have a member `void after_fork()`, const or not: each worker calls it once on its copy, before
/// PoolOptions::on_worker_start, in the order of the Preloads. There it opens files again, seeds random engines and the
/// like. When it throws or ends the process, the worker does not start: LaunchError.
/// \snippet reference.cpp ForkServerPolicy
template <class... Preload>
class ForkServerPolicy {
 public:
  /// For messages.
  static constexpr std::string_view name = sizeof...(Preload) == 0 ? "ForkServerPolicy<>" : "ForkServerPolicy<...>";

  /// Lets Preloads leave threads and timers running in the server. They do not exist in the workers.
  bool allow_threads = false;
  /// Makes a PreloadError of the descriptors and locks that would be in PreloadStats::left_behind.
  bool strict = false;

  /// Preloads without arguments.
  ForkServerPolicy() : orders_{order<Preload>()...} {
    static_assert((std::default_initializable<Preload> && ...),
                  "brood: ForkServerPolicy<...>: a Preload without a default constructor needs its arguments: "
                  "ForkServerPolicy<Model>{brood::preload_args<Model>(\"m.bin\")}");
  }

  /// With the arguments of some of the Preloads, in any order.
  template <class... Given>
    requires(sizeof...(Given) > 0)
  ForkServerPolicy(PreloadArgs<Given>... given)  // NOLINT(google-explicit-constructor): it is how a policy is written
      : orders_{order<Preload>(given...)...} {
    static_assert((is_among<Given, Preload...> && ...),
                  "brood: ForkServerPolicy<...>{preload_args<T>(...)}: T is not among the Preloads of the policy");
    static_assert(((std::default_initializable<Preload> || is_among<Preload, Given...>) && ...),
                  "brood: ForkServerPolicy<...>: a Preload without a default constructor needs its arguments: "
                  "ForkServerPolicy<Model>{brood::preload_args<Model>(\"m.bin\")}");
  }

  /// The server: a fresh image that builds the Preloads. Throws InitMissing, LaunchError.
  std::unique_ptr<WorkerSource> launch(const LaunchOptions& options) const {
    Writer sent;
    sent.number(allow_threads);
    sent.number(strict);
    for (const detail::PreloadOrder& each : orders_) {
      detail::write_code(sent, reinterpret_cast<const void*>(each.build));
      sent.text(each.arguments);
    }
    return launch_by_exec<ForkServerPolicy>(options, sent, {std::string(detail::type_name<Preload>())...});
  }

  /// Builds the Preloads. Runs in the server.
  static void prepare(Server& server, Reader& sent) {
    detail::PreloadRules rules;
    rules.allow_threads = sent.number<bool>();
    rules.strict = sent.number<bool>();
    detail::TaskContext context;  // lets a Preload use the ones before it
    context.preloaded = &server.preloaded;
    const detail::ContextScope scope(context);
    [[maybe_unused]] std::int32_t index = 0;
    [[maybe_unused]] const auto build_next = [&](detail::PreloadedObject preload) {
      detail::PreloadOrder next;
      next.build = reinterpret_cast<detail::BuildPreload>(detail::read_code(sent));
      next.arguments = sent.text();
      detail::build_one_preload(server, index++, preload, next, rules);
    };
    (build_next({detail::type_name<Preload>(), detail::type_key<Preload>(), nullptr, detail::after_fork_of<Preload>()}), ...);
  }

  /// A worker: a copy of the server.
  static pid_t start_worker(Server& server, WorkerChannel& channel) { return start_by_fork(server, channel); }

 private:
  template <class T, class... Candidates>
  static constexpr bool is_among = (std::is_same_v<T, Candidates> || ...);

  template <class T, class... Given>
  static detail::PreloadOrder order(const PreloadArgs<Given>&... given) {
    detail::PreloadOrder result;
    if constexpr (std::default_initializable<T>) result.build = &detail::build_preload<T>;
    static_cast<void>(detail::after_fork_of<T>());  // checks it
    [[maybe_unused]] const auto take = [&]<class G>(const PreloadArgs<G>& args) {
      if constexpr (std::is_same_v<G, T>) result = {args.build(), args.arguments(), args.kept()};
    };
    (take(given), ...);
    return result;
  }

  std::array<detail::PreloadOrder, sizeof...(Preload)> orders_;
};

}  // namespace brood
