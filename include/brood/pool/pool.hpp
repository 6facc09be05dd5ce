// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>

#include <brood/core/config.hpp>
#include <brood/policy/worker_policy.hpp>
#include <brood/pool/dispatcher.hpp>
#include <brood/pool/fold.hpp>
#include <brood/pool/future.hpp>
#include <brood/pool/make_dispatcher.hpp>
#include <brood/pool/map.hpp>
#include <brood/pool/options.hpp>
#include <brood/pool/progress.hpp>
#include <brood/pool/stats.hpp>
#include <brood/pool/stream.hpp>
#include <brood/pool/submit.hpp>
#include <brood/pool/submit_into.hpp>
#include <brood/pool/task_options.hpp>
#include <brood/pool/when.hpp>

namespace brood::inline v0_1 {

/// Runs callables in worker processes and hands back what they return. All members may be called from any thread, and
/// from any callback; none waits for a worker but those that say so. In a copy of the process (a fork) each but the destructor
/// throws WrongProcess. Complexity: constant, or linear in the number of workers, but for those that say what they cost.
///
/// Policy is one of ForkPolicy, SpawnPolicy, ForkServerPolicy<Preload...>, InlinePolicy, or a type of your own: see the
/// blueprint in <brood/policy/worker_policy.hpp>.
/// \snippet reference.cpp init
template <class Policy>
class Pool : detail::RefusesOptionsWithoutUnit {
  static_assert(std::copy_constructible<Policy>, "brood: Pool<Policy>: a policy must be copyable");
  static_assert(NamedPolicy<Policy>,
                "brood: Pool<Policy>: the policy has no name; add `static constexpr std::string_view name = \"...\";`");
  static_assert(LaunchesWorkers<Policy> || RunsInline<Policy>,
                "brood: Pool<Policy>: the policy can't make workers; add `std::unique_ptr<brood::WorkerSource> launch(const "
                "brood::LaunchOptions&) const;` (see the blueprint in brood/policy/worker_policy.hpp)");

 public:
  /// Starts the server and waits until it is ready, with its Preloads. Workers are started when there is work for them.
  /// Takes some milliseconds and the time of the Preloads; under ForkPolicy that of a fork, which grows with the host's memory.
  /// Throws HostIsThreaded (ForkPolicy), InitMissing, PreloadError, ImageMismatch, LaunchError, and std::invalid_argument
  /// for an option that makes no sense.
  /// \snippet reference.cpp PoolOptions
  explicit Pool(PoolOptions options = {}, Policy policy = {})
      : dispatcher_(detail::make_dispatcher(detail::with_environment(std::move(options)), std::move(policy), !RunsInline<Policy>)),
        exceptions_(std::uncaught_exceptions()) {}

  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Waits for the accepted tasks and ends all processes. While an exception unwinds it kills them instead. In a process
  /// that is not the pool's own (a ForkPolicy worker that inherited it) it does nothing.
  ~Pool() {
    if (!dispatcher_->in_own_process()) {
      new std::shared_ptr<detail::Dispatcher>(std::move(dispatcher_));  // not ours to destroy
      return;
    }
    for (int tries = 0; tries < 100; ++tries) {
      try {
        dispatcher_->close(detail::Dispatcher::Closing::destroyed);
        if (std::uncaught_exceptions() > exceptions_) {
          dispatcher_->kill();
        } else {
          dispatcher_->wait_all();
        }
        dispatcher_->shut_down();
        return;
      } catch (...) {  // out of memory or descriptors: for a moment, most likely
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    }
    dispatcher_->give_up();
  }

  using RefusesOptionsWithoutUnit::submit, RefusesOptionsWithoutUnit::submit_into;  // internal

  /// Runs f(args...) in a worker. f is a function, a captureless lambda, a functor with serializable members, or, under
  /// ForkPolicy, any callable: one with captures runs in a copy of the host as it is now. Arguments are converted to f's
  /// parameter types and serialized before submit returns. Throws PoolClosed, QueueFull, MessageTooLarge,
  /// SerializationError, which names the argument, and what a serializer throws. Options that make no sense are a
  /// std::invalid_argument. Failures say where a call of up to eight arguments was submitted; one with more says so when it has
  /// options. Complexity: linear in the bytes of the arguments; some microseconds for small ones. Never waits for a worker.
  /// \snippet reference.cpp submit
  template <detail::NoOptions F>
  auto submit(F&& f, std::source_location where = std::source_location::current()) {
    return submit(TaskOptions{.where = where}, std::forward<F>(f));
  }
  /// The same with an argument.
  template <detail::NoOptions F, class A>
  auto submit(F&& f, A&& a, std::source_location where = std::source_location::current()) {
    return submit(TaskOptions{.where = where}, std::forward<F>(f), std::forward<A>(a));
  }
  /// The same with two arguments.
  template <detail::NoOptions F, class A, class B>
  auto submit(F&& f, A&& a, B&& b, std::source_location where = std::source_location::current()) {
    return submit(TaskOptions{.where = where}, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b));
  }
  /// The same with three arguments.
  template <detail::NoOptions F, class A, class B, class C>
  auto submit(F&& f, A&& a, B&& b, C&& c, std::source_location where = std::source_location::current()) {
    return submit(TaskOptions{.where = where}, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c));
  }
  /// The same with four arguments.
  template <detail::NoOptions F, class A, class B, class C, class D>
  auto submit(F&& f, A&& a, B&& b, C&& c, D&& d, std::source_location where = std::source_location::current()) {
    return submit(TaskOptions{.where = where}, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c),
                  std::forward<D>(d));
  }
  /// The same with five arguments.
  template <detail::NoOptions F, class A, class B, class C, class D, class E>
  auto submit(F&& f, A&& a, B&& b, C&& c, D&& d, E&& e, std::source_location where = std::source_location::current()) {
    return submit(TaskOptions{.where = where}, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c),
                  std::forward<D>(d), std::forward<E>(e));
  }
  /// The same with six arguments.
  template <detail::NoOptions F, class A, class B, class C, class D, class E, class G>
  auto submit(F&& f, A&& a, B&& b, C&& c, D&& d, E&& e, G&& g, std::source_location where = std::source_location::current()) {
    return submit(TaskOptions{.where = where}, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c),
                  std::forward<D>(d), std::forward<E>(e), std::forward<G>(g));
  }
  /// The same with seven arguments.
  template <detail::NoOptions F, class A, class B, class C, class D, class E, class G, class H>
  auto submit(F&& f, A&& a, B&& b, C&& c, D&& d, E&& e, G&& g, H&& h,
              std::source_location where = std::source_location::current()) {
    return submit(TaskOptions{.where = where}, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c),
                  std::forward<D>(d), std::forward<E>(e), std::forward<G>(g), std::forward<H>(h));
  }
  /// The same with eight arguments.
  template <detail::NoOptions F, class A, class B, class C, class D, class E, class G, class H, class I>
  auto submit(F&& f, A&& a, B&& b, C&& c, D&& d, E&& e, G&& g, H&& h, I&& i,
              std::source_location where = std::source_location::current()) {
    return submit(TaskOptions{.where = where}, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c),
                  std::forward<D>(d), std::forward<E>(e), std::forward<G>(g), std::forward<H>(h), std::forward<I>(i));
  }
  /// The same with more: failures say where it was submitted when it has options.
  template <detail::NoOptions F, class A, class B, class C, class D, class E, class G, class H, class I, class J, class... More>
  auto submit(F&& f, A&& a, B&& b, C&& c, D&& d, E&& e, G&& g, H&& h, I&& i, J&& j, More&&... more) {
    return submit(TaskOptions{.where = {}}, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b), std::forward<C>(c),
                  std::forward<D>(d), std::forward<E>(e), std::forward<G>(g), std::forward<H>(h), std::forward<I>(i),
                  std::forward<J>(j), std::forward<More>(more)...);
  }

  /// The same with options: submit({.timeout = 2s, .retries = 1}, f, args...).
  /// \snippet reference.cpp TaskOptions
  template <class F, class... Args>
  auto submit(TaskOptions options, F&& f, Args&&... args) {
    dispatcher_->check_process("Pool::submit");
    return detail::submit_under<Policy>(dispatcher_, options, std::forward<F>(f), std::forward<Args>(args)...);
  }

  /// Runs f(args...) in a worker and puts what it returns, a std::vector<T>, std::array<T, N> or std::basic_string<T>, into
  /// memory of the caller's: a std::span<T>, or a vector or array that can be one. T is a number, or a struct or array of
  /// numbers without gaps. The value of the task is the number of elements written, at the destination's front; when there are
  /// more than it has room for, the task fails as MessageTooLarge and nothing is written.
  ///
  /// The destination belongs to the pool until the task is resolved, that is until get, outcome or wait has returned, ready()
  /// says so, or the pool is gone, so declare it before the pool; dropping the future changes nothing about that. From then on
  /// nobody writes there. What is in it meanwhile, or after a failure, may be anything. Failures say where a call of up to three
  /// arguments was submitted, as submit does. The result crosses in one copy. Throws what submit throws.
  /// \snippet reference.cpp submit_into
  template <detail::NoOptions Destination, class F>
  Future<std::size_t> submit_into(Destination&& destination, F&& f, std::source_location where = std::source_location::current()) {
    return submit_into(TaskOptions{.where = where}, std::forward<Destination>(destination), std::forward<F>(f));
  }
  /// The same with an argument.
  template <detail::NoOptions Destination, class F, class A>
  Future<std::size_t> submit_into(Destination&& destination, F&& f, A&& a,
                                  std::source_location where = std::source_location::current()) {
    return submit_into(TaskOptions{.where = where}, std::forward<Destination>(destination), std::forward<F>(f),
                       std::forward<A>(a));
  }
  /// The same with two arguments.
  template <detail::NoOptions Destination, class F, class A, class B>
  Future<std::size_t> submit_into(Destination&& destination, F&& f, A&& a, B&& b,
                                  std::source_location where = std::source_location::current()) {
    return submit_into(TaskOptions{.where = where}, std::forward<Destination>(destination), std::forward<F>(f),
                       std::forward<A>(a), std::forward<B>(b));
  }
  /// The same with three arguments.
  template <detail::NoOptions Destination, class F, class A, class B, class C>
  Future<std::size_t> submit_into(Destination&& destination, F&& f, A&& a, B&& b, C&& c,
                                  std::source_location where = std::source_location::current()) {
    return submit_into(TaskOptions{.where = where}, std::forward<Destination>(destination), std::forward<F>(f),
                       std::forward<A>(a), std::forward<B>(b), std::forward<C>(c));
  }
  /// The same with more: failures say where it was submitted when it has options.
  template <detail::NoOptions Destination, class F, class A, class B, class C, class D, class... More>
  Future<std::size_t> submit_into(Destination&& destination, F&& f, A&& a, B&& b, C&& c, D&& d, More&&... more) {
    return submit_into(TaskOptions{.where = {}}, std::forward<Destination>(destination), std::forward<F>(f), std::forward<A>(a),
                       std::forward<B>(b), std::forward<C>(c), std::forward<D>(d), std::forward<More>(more)...);
  }

  /// The same with options: submit_into({.timeout = 2s}, destination, f, args...).
  template <class Destination, class F, class... Args>
  Future<std::size_t> submit_into(TaskOptions options, Destination&& destination, F&& f, Args&&... args) {
    dispatcher_->check_process("Pool::submit_into");
    return detail::submit_into_under<Policy>(dispatcher_, options, std::forward<Destination>(destination), std::forward<F>(f),
                                             std::forward<Args>(args)...);
  }

  /// f of each item of the range, in order. Waits. Throws the failure of the first item that failed, when the items
  /// before it are done; what has not started by then is dropped. A range of tuples or pairs is spread over f's
  /// parameters. Results of void are not collected. Complexity: linear; items travel in chunks, so that a short one costs well
  /// below a microsecond. Throws also PoolClosed, std::invalid_argument for options that make no sense, and what submit throws
  /// for an argument.
  /// \snippet reference.cpp map
  template <class F, class Range>
  auto map(F&& f, Range&& range, MapOptions options = {}) {
    dispatcher_->check_process("Pool::map");
    detail::HeldCallable<F> function = f;
    return detail::map_under<Policy, std::decay_t<F>, Range>(dispatcher_, function, range, std::move(options)).values();
  }

  /// Like map, but returns for each item its value or its Failure; that of an item is not thrown.
  /// \snippet reference.cpp try_map
  template <class F, class Range>
  auto try_map(F&& f, Range&& range, MapOptions options = {}) {
    dispatcher_->check_process("Pool::try_map");
    detail::HeldCallable<F> function = f;
    return detail::map_under<Policy, std::decay_t<F>, Range>(dispatcher_, function, range, std::move(options)).outcomes();
  }

  /// combine(... combine(combine(initial, f(item 0)), f(item 1)) ..., f(item n)): the items' values folded in the order of the
  /// range, a T of the type of `initial`. Waits. Where f returns a T, each worker combines the items of a chunk first, with
  /// combine(T, T), and the host combines what chunks came to, in order: combine must be associative then, and need not be
  /// commutative; how floating-point sums are rounded depends on the chunks (MapOptions::chunk_size fixes them). `initial`
  /// is used once, in the host. Otherwise, or when combine can't travel to a worker, the host does all of it.
  ///
  /// Complexity: f once for each item, combine as often, few messages. Throws the failure of the first item that failed, what
  /// combine throws, and what map throws beside. MapOptions::retries: with the item whose worker died, those of its chunk that
  /// were combined by then are run again.
  /// \snippet streams.cpp map_reduce
  template <class F, class Combine, class Range, class T>
  std::decay_t<T> map_reduce(F&& f, Combine&& combine, Range&& range, T&& initial, MapOptions options = {}) {
    dispatcher_->check_process("Pool::map_reduce");
    detail::HeldCallable<F> function = f;
    detail::HeldCallable<Combine> combining = combine;
    return detail::fold_under<Policy, std::decay_t<F>, std::decay_t<Combine>, Range, std::decay_t<T>>(
        dispatcher_, function, combining, range, std::forward<T>(initial), std::move(options));
  }

  /// f of each item of the range, lazily: the result is a Stream, an input range of results in the order of the items, which
  /// reads the input as it is read itself. The range may be endless, readable once only, a generator of items that can only be
  /// moved; an lvalue is referred to, an rvalue or a view is kept. So is f; one with captures sees the host as it is now,
  /// while items always travel by value. A bounded number of items is in flight (StreamOptions). The first item that failed
  /// ends the stream with its failure, when all results before it were handed out.
  ///
  /// Input is read by the thread that reads the stream, and while that waits for input it hands nothing out: where input
  /// comes slowly, StreamOptions::in_flight bounds how many results that can hold back.
  ///
  /// Complexity: linear in the items that are read; memory for those in flight. Throws std::invalid_argument for options that make no
  /// sense, and PoolClosed.
  /// \snippet reference.cpp stream
  template <class F, class Range>
  auto stream(F&& f, Range&& range, StreamOptions options = {}) {
    return stream_of<false>("Pool::stream", std::forward<F>(f), std::forward<Range>(range), options, true);
  }

  /// The same with results as they come: one slow item holds back no other. Stream::index() says which item it was.
  /// \snippet reference.cpp Stream
  template <class F, class Range>
  auto stream_unordered(F&& f, Range&& range, StreamOptions options = {}) {
    return stream_of<false>("Pool::stream_unordered", std::forward<F>(f), std::forward<Range>(range), options, false);
  }

  /// Like stream, but of Outcome: for each item its value or its Failure, which ends nothing.
  /// \snippet reference.cpp try_stream
  template <class F, class Range>
  auto try_stream(F&& f, Range&& range, StreamOptions options = {}) {
    return stream_of<true>("Pool::try_stream", std::forward<F>(f), std::forward<Range>(range), options, true);
  }

  /// Like stream_unordered, but of Outcome.
  /// \snippet from_multiprocessing.cpp try_stream_unordered
  template <class F, class Range>
  auto try_stream_unordered(F&& f, Range&& range, StreamOptions options = {}) {
    return stream_of<true>("Pool::try_stream_unordered", std::forward<F>(f), std::forward<Range>(range), options, false);
  }

  /// Changes how many workers run at the same time; 0: as many as there are usable CPUs. When there are more, those that are
  /// needed are started at once. When there are fewer, idle workers leave, with on_worker_stop, and busy ones first finish the
  /// task (of a map, the chunk) that they run: so for a while more may run. Every task that starts from now on has a
  /// this_worker::index() below the new number; a worker's may change for that. Maps and streams that are under way go on with the
  /// new number. Waits for nothing. InlinePolicy has no workers, and ignores it. Throws std::invalid_argument beyond a million.
  /// \snippet workers.cpp resize
  void resize(unsigned workers) {
    dispatcher_->check_process("Pool::resize");
    dispatcher_->resize(workers);
  }

  /// A race: f of each item of the range, each in a task of its own; the future of the first value. The tasks that are left are
  /// cancelled then. When all fail it fails with the last failure. A range of tuples or pairs is spread over f's parameters.
  /// Complexity: a submit for each item. Throws what submit throws, and std::invalid_argument for an empty range.
  /// \snippet reference.cpp Pool::first_of
  template <class F, class Range>
  auto first_of(F&& f, Range&& range, TaskOptions options = {}) {
    dispatcher_->check_process("Pool::first_of");
    static_assert(std::ranges::input_range<Range>,
                  "brood: first_of needs a range (a container, a view, an array) as its second argument");
    if constexpr (std::ranges::input_range<Range>) {
      detail::HeldCallable<F> function = f;
      return detail::race<std::decay_t<F>>(range, [&](auto&&... args) {
        return detail::submit_under<Policy>(dispatcher_, options, function, std::forward<decltype(args)>(args)...);
      });
    }
  }

  /// For a loop of one's own, in a pool made with PoolOptions::helper_thread = false (throws Error otherwise): a descriptor that
  /// is readable when poll() has something to do, also when a deadline or a pause has passed. To be watched for reading,
  /// level-triggered, with epoll, poll or a library; it is the pool's, so stop watching it before the pool ends.
  /// \snippet reference.cpp poll
  int descriptor() const { return dispatcher_->descriptor(); }

  /// Does what can be done now, and calls the functions (then) and resumes the coroutines of tasks that are resolved by it. Never
  /// waits. Returns how many tasks were resolved meanwhile. One call handles as much as fits in a turn of a loop; while there is
  /// more the descriptor stays readable. If nobody calls it, and nobody waits for a result either, nothing is resolved, no
  /// deadline is kept and no worker is replaced.
  /// \snippet reference.cpp poll
  std::size_t poll() {
    dispatcher_->check_process("Pool::poll");
    return dispatcher_->poll();
  }

  /// No more work is taken: submit throws PoolClosed from now on.
  /// \snippet reference.cpp wait
  void close() {
    dispatcher_->check_process("Pool::close");
    dispatcher_->close();
  }

  /// Waits until every accepted task is resolved, and does the pool's work meanwhile. Throws no task's failure: futures have those.
  /// \snippet reference.cpp wait
  void wait() {
    dispatcher_->check_process("Pool::wait");
    dispatcher_->wait_all();
  }

  /// The same, and tells how far that is: Progress::done counts tasks that were resolved since the call began, the total
  /// those and all that are outstanding. See ProgressCallback.
  /// \snippet reference.cpp wait
  void wait(const ProgressCallback& progress) {
    dispatcher_->check_process("Pool::wait");
    dispatcher_->wait_all(progress);
  }

  /// Tasks that have not started resolve as TaskCancelled; those that run go on. Complexity: linear in the queue.
  /// \snippet reference.cpp kill
  void cancel_pending() {
    dispatcher_->check_process("Pool::cancel_pending");
    dispatcher_->cancel_pending();
  }

  /// Closes the pool and resolves everything now: workers are killed, their tasks resolve as TaskCancelled. Waits for none of
  /// them. Complexity: linear in the tasks and the workers.
  /// \snippet reference.cpp kill
  void kill() {
    dispatcher_->check_process("Pool::kill");
    dispatcher_->kill();
  }

  /// The pool at this moment. Complexity: linear in the workers; some microseconds, and no worker is asked.
  /// \snippet reference.cpp stats
  PoolStats stats() const {
    dispatcher_->check_process("Pool::stats");
    return dispatcher_->stats();
  }

 private:
  template <bool outcomes, class F, class Range>
  auto stream_of(const char* name, F&& f, Range&& range, const StreamOptions& options, bool ordered) {
    static_assert(std::ranges::input_range<Range>,
                  "brood: stream needs a range (a container, a view, an array) as its second argument");
    if constexpr (std::ranges::input_range<Range>) {
      dispatcher_->check_process(name);
      auto feed = detail::feed_under<Policy>(dispatcher_, std::forward<F>(f), std::forward<Range>(range), options, ordered);
      return Stream<typename decltype(feed)::element_type::Result, outcomes>(std::move(feed));
    }
  }

  std::shared_ptr<detail::Dispatcher> dispatcher_;
  int exceptions_;
};

}  // namespace brood

#include <brood/pool/async.hpp>
