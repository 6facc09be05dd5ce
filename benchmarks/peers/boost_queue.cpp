// SPDX-License-Identifier: MIT
// boost_queue call: a forked worker that answers over two message queues of Boost.Interprocess.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/interprocess/ipc/message_queue.hpp>
#include <csignal>
#include <string>

#include "serving.hpp"

namespace ipc = boost::interprocess;

int main() {
  const std::string name = "brood-benchmark-" + std::to_string(::getpid());
  const std::string there_name = name + "-there";
  const std::string back_name = name + "-back";
  ipc::message_queue there(ipc::create_only, there_name.c_str(), 64, 8);
  ipc::message_queue back(ipc::create_only, back_name.c_str(), 64, 8);
  const pid_t worker = ::fork();
  if (worker == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
      char message[8];
      ipc::message_queue::size_type size = 0;
      unsigned priority = 0;
      there.receive(message, sizeof message, size, priority);
      back.send(message, size, 0);
    }
  }
  ipc::message_queue::remove(there_name.c_str());  // both have them mapped
  ipc::message_queue::remove(back_name.c_str());
  serving::serve([&](std::size_t calls) {
    for (std::size_t n = 0; n < calls; ++n) {
      char message[8] = {};
      ipc::message_queue::size_type size = 0;
      unsigned priority = 0;
      std::cout << ' ' << serving::timed_ns([&] {
        there.send(message, 1, 0);
        back.receive(message, sizeof message, size, priority);
      });
    }
  });
  ::kill(worker, SIGKILL);
  ::waitpid(worker, nullptr, 0);
}
