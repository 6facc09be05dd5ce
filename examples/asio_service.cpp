// SPDX-License-Identifier: MIT
// A service in one thread: an asio loop accepts connections and drives the pool. Each line from a client is evaluated in a worker:
// one that crashes it, or never ends, costs that request and no other.
#include <cstdlib>
#include <iostream>

#include <asio.hpp>
#include <brood/brood.hpp>

using Pool = brood::Pool<brood::SpawnPolicy>;
using asio::ip::tcp;
std::string evaluate(const std::string& line) {
  for (volatile bool hangs = line == "hang"; hangs;) {}
  if (line == "crash") std::abort();
  return "length " + std::to_string(line.size());
}

struct Session {
  tcp::socket socket;
  std::string input, output;
};

void serve(const std::shared_ptr<Session>& it, Pool& pool) {  // reads a line, has it evaluated, answers, and so on
  asio::async_read_until(it->socket, asio::dynamic_buffer(it->input), '\n', [it, &pool](asio::error_code end, std::size_t size) {
    if (end) return;
    const std::string line = it->input.substr(0, size - 1);
    it->input.erase(0, size);
    pool.submit(&evaluate, line).then([it, &pool](brood::Outcome<std::string> outcome) {
      const bool late = !outcome && outcome.failure().kind() == brood::FailureKind::timeout;
      it->output = (outcome ? *outcome : late ? "it took too long" : "it crashed") + "\n";
      asio::async_write(it->socket, asio::buffer(it->output), [it, &pool](auto error, auto) { if (!error) serve(it, pool); });
    });
  });
}

void drive(asio::posix::stream_descriptor& descriptor, Pool& pool) {  // when it is readable, again and again
  descriptor.async_wait(asio::posix::stream_descriptor::wait_read, [&](asio::error_code error) {
    if (!error) pool.poll(), drive(descriptor, pool);
  });
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  Pool pool({.workers = 2, .task_timeout = std::chrono::milliseconds(300), .helper_thread = false});
  asio::io_context loop;
  asio::posix::stream_descriptor descriptor(loop, pool.descriptor());
  drive(descriptor, pool);
  tcp::acceptor acceptor(loop, {asio::ip::address_v4::loopback(), 0});
  acceptor.async_accept([&](auto, tcp::socket one) { serve(std::make_shared<Session>(Session{std::move(one), {}, {}}), pool); });

  tcp::socket client(loop);  // for the demonstration
  client.connect(acceptor.local_endpoint());
  asio::write(client, asio::buffer(std::string("hello\ncrash\nhang\nworld!\n")));
  client.shutdown(tcp::socket::shutdown_send);
  std::string answers;
  asio::async_read(client, asio::dynamic_buffer(answers), [&](asio::error_code, std::size_t) { loop.stop(); });
  loop.run();
  descriptor.release();  // it is the pool's
  std::cout << answers;
}
