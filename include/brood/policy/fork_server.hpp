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

#include <brood/os/threads.hpp>
#include <brood/policy/local_server.hpp>
#include <brood/policy/worker_policy.hpp>
#include <brood/wire/code_pointer.hpp>
#include <brood/worker/preload.hpp>
#include <brood/worker/worker_loop.hpp>

namespace brood {
namespace detail {

/// A Preload on its way to the server: how it is built, and from what.
struct PreloadOrder {
  BuildPreload build = nullptr;
  std::string arguments;
};

/// Builds one Preload in the server and tells the host. A failure is told, and ends the server.
inline void build_one_preload(Server& server, std::int32_t index, PreloadedObject preload, const PreloadOrder& order,
                              bool allow_threads) {
  const auto say = [&](const ControlMessage& message) { server.control.send(message.bytes()); };
  const auto give_up = [&](const std::string& why) {
    say(ControlMessage::make(ControlType::failed, {}, index, 0, why));
    leave(exit_code_of_broken_worker);
  };
  say(ControlMessage::make(ControlType::building, {}, index));
  const std::uint64_t started = monotonic_ns();
  try {
    Reader arguments(std::as_bytes(std::span(order.arguments)));
    preload.object = order.build(arguments);
    server.preloaded.push_back(preload);
  } catch (const abi::__forced_unwind&) {
    throw;
  } catch (...) {
    Writer thrown;
    write_exception(thrown, std::current_exception());
    const ExceptionSummary summary = summarize_exception(thrown.view());
    give_up("its constructor threw " + summary.type + (summary.said.empty() ? "" : ": " + summary.said));
  }
  const std::uint64_t time = monotonic_ns() - started;
  if (!allow_threads) {
    int threads = count_threads();
    // one that has been joined may be listed for a moment longer
    for (int looks = 0; threads != 1 && looks < 100; ++looks) {
      timespec moment{0, 500'000};
      ::nanosleep(&moment, nullptr);
      threads = count_threads();
    }
    if (threads != 1) {
      const std::string count = threads == 0 ? "" : std::to_string(threads - 1) + " ";
      give_up("it left " + count + (threads == 2 ? "thread" : "threads") +
              " running; threads do not survive a fork, so the workers would not have them. Join them in the "
              "constructor, or set ForkServerPolicy's allow_threads");
    }
  }
  if (server.control.send(ControlMessage::make(ControlType::built, {}, index, time).bytes()) != ControlSocket::Sent::yes) {
    leave(exit_code_of_lost_server);
  }
}

}  // namespace detail

/// Workers are copies of a small, clean server that has built each Preload once, in this order, when the pool was made.
/// When to use: always, unless a reason speaks for another policy. What it costs: one start of the program and the
/// Preloads per pool; then a worker is ready in well under a millisecond, whatever the host's size, and shares the
/// Preloads copy-on-write. Needs brood::init as the first line of main.
///
/// A Preload is any type that can be default-constructed, or that is given its arguments:
/// `ForkServerPolicy<Model, Index>{preload_args<Model>("m.bin")}`. preloaded<Model>() gives a task its instance. A Preload
/// that throws, exits, crashes, hangs, or leaves threads running makes the pool's constructor throw PreloadError.
template <class... Preload>
class ForkServerPolicy {
 public:
  static constexpr std::string_view name = sizeof...(Preload) == 0 ? "ForkServerPolicy<>" : "ForkServerPolicy<...>";

  /// Lets Preloads leave threads running in the server. They do not exist in the workers.
  bool allow_threads = false;

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
    for (const detail::PreloadOrder& each : orders_) {
      detail::write_code(sent, reinterpret_cast<const void*>(each.build));
      sent.text(each.arguments);
    }
    return launch_by_exec<ForkServerPolicy>(options, sent, {std::string(detail::type_name<Preload>())...});
  }

  /// Builds the Preloads. Runs in the server.
  static void prepare(Server& server, Reader& sent) {
    const bool threads_allowed = sent.number<bool>();
    detail::TaskContext context;  // lets a Preload use the ones before it
    context.preloaded = &server.preloaded;
    const detail::ContextScope scope(context);
    [[maybe_unused]] std::int32_t index = 0;
    [[maybe_unused]] const auto build_next = [&](detail::PreloadedObject preload) {
      detail::PreloadOrder next;
      next.build = reinterpret_cast<detail::BuildPreload>(detail::read_code(sent));
      next.arguments = sent.text();
      detail::build_one_preload(server, index++, preload, next, threads_allowed);
    };
    (build_next({detail::type_name<Preload>(), detail::type_key<Preload>(), nullptr}), ...);
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
    [[maybe_unused]] const auto take = [&]<class G>(const PreloadArgs<G>& args) {
      if constexpr (std::is_same_v<G, T>) result = {args.build(), args.arguments()};
    };
    (take(given), ...);
    return result;
  }

  std::array<detail::PreloadOrder, sizeof...(Preload)> orders_;
};

}  // namespace brood
