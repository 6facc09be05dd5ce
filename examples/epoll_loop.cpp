// SPDX-License-Identifier: MIT
// A host with a loop of its own, here of epoll: the pool has no thread, the loop calls poll() when its descriptor is readable.
// A timer ticks meanwhile, because nothing waits.
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <iostream>

#include <brood/brood.hpp>

long count_primes(long below) {
  long count = 0;
  for (long n = 2; n < below; ++n) {
    bool prime = true;
    for (long d = 2; d * d <= n && prime; ++d) prime = n % d != 0;
    count += prime ? 1 : 0;
  }
  return count;
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 2, .helper_thread = false});

  const int ticks = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  const itimerspec each_ms{{0, 1'000'000}, {0, 1'000'000}};
  ::timerfd_settime(ticks, 0, &each_ms, nullptr);

  const int loop = ::epoll_create1(EPOLL_CLOEXEC);
  for (const int fd : {pool.descriptor(), ticks}) {
    epoll_event watched{};
    watched.events = EPOLLIN;
    watched.data.fd = fd;
    ::epoll_ctl(loop, EPOLL_CTL_ADD, fd, &watched);
  }

  std::array<long, 4> counts{};
  unsigned left = counts.size();
  for (std::size_t n = 0; n < counts.size(); ++n) {  // then: the function is called by poll(), on this thread
    pool.submit(&count_primes, 20'000L * static_cast<long>(n + 1)).then([&, n](long count) { counts[n] = count; --left; });
  }

  std::uint64_t ticked = 0;
  while (left != 0 || ticked == 0) {
    epoll_event event{};
    if (::epoll_wait(loop, &event, 1, -1) != 1) continue;
    std::uint64_t times = 0;
    if (event.data.fd == pool.descriptor()) pool.poll();
    if (event.data.fd == ticks && ::read(ticks, &times, sizeof times) > 0) ticked += times;
  }
  for (const long count : counts) std::cout << count << " primes\n";
  std::cout << "the loop went on: " << (ticked > 0 ? "yes" : "no") << '\n';
  ::close(loop);  // before the pool ends: its descriptor is watched
  ::close(ticks);
}
