// SPDX-License-Identifier: MIT
// The code of docs/guide/channels.md.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>

#include <brood/brood.hpp>

namespace {

int count_lines(brood::Fd file);
brood::Fd connect_to(const std::string& service);

int count_lines(brood::Fd file) {
  int lines = 0;
  for (char byte = 0; ::read(file.get(), &byte, 1) == 1;) lines += byte == '\n' ? 1 : 0;
  return lines;
}

brood::Fd connect_to(const std::string&) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
  ::close(ends[1]);
  return brood::Fd(ends[0]);
}

double quality = 1;
double improve() { return quality /= 2; }

struct Part { int round; double best; };
enum class Order { stop };

void search(brood::Channel<Part, Order> host) {          // sends Part, receives Order
  for (int round = 0; !host.try_receive(); ++round) host.send({round, improve()});
}

using Pool = brood::Pool<brood::ForkServerPolicy<>>;

void descriptors(Pool& pool) {
  char path[] = "/tmp/brood_docs_XXXXXX";
  const int made = ::mkstemp(path);
  if (made < 0 || ::write(made, "a\nb\n", 4) != 4) std::abort();
  ::close(made);
  brood::Fd log(::open(path, O_RDONLY | O_CLOEXEC));
  int lines = pool.submit(&count_lines, std::move(log)).get();      // the host's own is closed
  brood::Fd socket = pool.submit(&connect_to, "name").get();        // resolved and connected by a worker
  ::unlink(path);
  if (lines != 2 || socket.get() < 0) std::abort();
}

void orders(Pool& pool) {
  //! [Channel]
  auto [mine, theirs] = brood::channel<Order, Part>();     // mine sends Order, receives Part
  auto done = pool.submit(&search, std::move(theirs));
  bool told = false;
  for (const Part& part : mine)                            // until the task closes its end, returns, or dies
    if (part.best < 0.01 && !std::exchange(told, true)) mine.send(Order::stop);
  done.get();                                              // throws what the task threw
  //! [Channel]
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  Pool pool;
  descriptors(pool);
  orders(pool);
}
