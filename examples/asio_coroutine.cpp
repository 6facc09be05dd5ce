// SPDX-License-Identifier: MIT
// Coroutines of asio's await tasks. An asio loop drives the pool, so all of this is one thread.
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <asio.hpp>
#include <brood/brood.hpp>

using Pool = brood::Pool<brood::ForkServerPolicy<>>;

std::string fetch(const std::string& name) {
  if (name == "down") throw std::runtime_error("no answer");
  return "the page of " + name;
}

/// What asio's coroutines await: they go on in their loop, with the value or the failure.
template <class R>
asio::awaitable<brood::Outcome<R>> outcome_of(brood::Future<R> future) {
  const auto begin = [](auto handler, brood::Future<R> started) {
    std::move(started).then([handler = std::move(handler)](brood::Outcome<R> outcome) mutable {
      auto loop = asio::get_associated_executor(handler);
      asio::post(loop, [handler = std::move(handler), outcome = std::move(outcome)]() mutable { handler(std::move(outcome)); });
    });
  };
  return asio::async_initiate<const asio::use_awaitable_t<>, void(brood::Outcome<R>)>(begin, asio::use_awaitable, std::move(future));
}

asio::awaitable<void> visit(Pool& pool) {
  const brood::Outcome<std::string> one = co_await outcome_of(pool.submit(&fetch, "one"));
  std::cout << *one << '\n';
  const brood::Outcome<std::string> down = co_await outcome_of(pool.submit(&fetch, "down"));
  std::cout << (down ? *down : down.failure().message()) << '\n';
  const std::vector<std::string> mirrors{"down", "mirror"};
  const brood::Outcome<std::string> first = co_await outcome_of(pool.first_of(&fetch, mirrors));
  std::cout << first.value() << '\n';  // throws what the task has thrown, if all have
}

void drive(asio::posix::stream_descriptor& descriptor, Pool& pool) {  // when it is readable, again and again
  descriptor.async_wait(asio::posix::stream_descriptor::wait_read, [&](asio::error_code error) {
    if (!error) pool.poll(), drive(descriptor, pool);
  });
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  Pool pool({.workers = 2, .helper_thread = false});
  asio::io_context loop;
  asio::posix::stream_descriptor descriptor(loop, pool.descriptor());
  drive(descriptor, pool);
  asio::co_spawn(loop, visit(pool), [&](const std::exception_ptr&) { loop.stop(); });
  loop.run();
  descriptor.release();  // it is the pool's
}
