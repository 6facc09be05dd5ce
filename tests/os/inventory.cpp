// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <brood/os/inventory.hpp>

#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <string>
#include <vector>

#include "support/child.hpp"
#include "support/leftovers.hpp"

using namespace brood::detail;

namespace {

bool hides_proc() {
  return ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::umount2("/proc", MNT_DETACH) == 0;
}

}  // namespace

TEST_CASE("open_descriptors and probe_descriptors see the same") {
  const support::Leftovers audit;
  const Fd far(::fcntl(0, F_DUPFD_CLOEXEC, 500));
  const std::vector<int> listed = open_descriptors();
  CHECK(listed == probe_descriptors());
  CHECK(std::find(listed.begin(), listed.end(), far.get()) != listed.end());
}

TEST_CASE("open_descriptors lists them when no descriptor is left to list them with") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    const std::vector<int> before = open_descriptors();
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    std::vector<int> taken;
    limit.rlim_cur = 100;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;
    for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) taken.push_back(fd);
    if (open_descriptors().size() != before.size() + taken.size()) return 2;
    for (const Held& each : held_descriptors()) std::printf("%s\n", each.text.c_str());
    return 0;
  });
  CHECK_MESSAGE(ran.status.code() == 0, ran.output);
}

TEST_CASE("what_came tells new things, each once, and nothing that was there") {
  const std::vector<Held> before{{"1", "socket"}, {"2", "pipe"}};
  CHECK(what_came(before, before).empty());
  CHECK(what_came(before, {{"2", "pipe"}}).empty());
  CHECK(what_came(before, {{"1", "socket"}, {"3", "epoll"}, {"4", "epoll"}}) == std::vector<std::string>{"epoll"});
}

TEST_CASE("held_descriptors leaves out the library's own, and tells a number that was used again") {
  const support::Leftovers audit;
  const std::vector<Held> before = held_descriptors();
  {
    const Fd own(::eventfd(0, EFD_CLOEXEC));
    CHECK(what_came(before, held_descriptors()).empty());
  }
  const int first = ::eventfd(0, EFD_CLOEXEC);
  const std::vector<Held> with_event = held_descriptors();
  CHECK(what_came(before, with_event) == std::vector<std::string>{"eventfd (descriptor " + std::to_string(first) + ")"});
  ::close(first);
  const int second = ::epoll_create1(EPOLL_CLOEXEC);
  REQUIRE(second == first);
  CHECK(what_came(with_event, held_descriptors()) ==
        std::vector<std::string>{"epoll (descriptor " + std::to_string(second) + ")"});
  ::close(second);
}

TEST_CASE("probe_timers finds what held_timers does") {
  const support::Leftovers audit;
  CHECK(probe_timers().empty());
  sigevent event{};
  event.sigev_notify = SIGEV_NONE;
  std::vector<timer_t> timers(3);
  for (timer_t& each : timers) REQUIRE(::timer_create(CLOCK_MONOTONIC, &event, &each) == 0);
  const std::vector<int> numbers = probe_timers();
  CHECK(numbers.size() == timers.size());
  std::vector<std::string> expected;
  for (const int each : numbers) expected.push_back("a timer (timer_create, number " + std::to_string(each) + ")");
  CHECK(what_came({}, held_timers()) == expected);
  for (const timer_t each : timers) ::timer_delete(each);
  CHECK(held_timers().empty());
}

TEST_CASE("without /proc descriptors are told by what the kernel says of them") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_in_child([] {
    const std::vector<Held> before = held_descriptors();
    if (!hides_proc()) return 77;
    static_cast<void>(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    static_cast<void>(::eventfd(0, EFD_CLOEXEC));
    static_cast<void>(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    static_cast<void>(::open("/dev/null", O_RDWR | O_CLOEXEC));
    sigevent event{};
    event.sigev_notify = SIGEV_NONE;
    timer_t timer{};
    static_cast<void>(::timer_create(CLOCK_MONOTONIC, &event, &timer));
    for (const std::string& each : what_came(before, held_descriptors())) std::printf("%s\n", each.c_str());
    for (const Held& each : held_timers()) std::printf("%s\n", each.text.c_str());
    return 0;
  });
  if (ran.status.code() == 77) {
    MESSAGE("skipped: /proc can't be hidden here");
    return;
  }
  CHECK(ran.status.code() == 0);
  for (const char* part : {"socket (descriptor ", "kernel object (descriptor ", ", a file opened for writing: workers share its offset",
                           "a timer (timer_create, number 0)"}) {
    CHECK_MESSAGE(ran.output.find(part) != std::string::npos, part << " is missing in:\n" << ran.output);
  }
  CHECK_MESSAGE(std::count(ran.output.begin(), ran.output.end(), '\n') == 4, ran.output);
}
