// SPDX-License-Identifier: MIT
// zeromq call | result | argument: a forked worker that answers over REQ/REP on an ipc address. The worker of `result`
// sends as many bytes as it is asked for, that of `argument` is sent them.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "serving.hpp"

namespace {

void leave_to_owner(void*, void*) {}

[[noreturn]] void work(const std::string& address, bool gives) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  void* const context = ::zmq_ctx_new();
  void* const socket = ::zmq_socket(context, ZMQ_REP);
  ::zmq_bind(socket, address.c_str());
  std::vector<double> values;
  for (;;) {
    zmq_msg_t message;
    ::zmq_msg_init(&message);
    ::zmq_msg_recv(&message, socket, 0);
    std::size_t size = 0;
    if (gives) std::memcpy(&size, ::zmq_msg_data(&message), sizeof size);
    ::zmq_msg_close(&message);
    if (gives) {
      if (values.size() != size / sizeof(double)) values.assign(size / sizeof(double), 1.0);
      ::zmq_msg_init_data(&message, values.data(), size, leave_to_owner, nullptr);  // without a copy
      ::zmq_msg_send(&message, socket, 0);
    } else {
      ::zmq_send(socket, "", 1, 0);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "call";
  char directory[] = "/tmp/brood-benchmark-XXXXXX";
  if (::mkdtemp(directory) == nullptr) return 1;
  const std::string path = std::string(directory) + "/socket";
  const pid_t worker = ::fork();
  if (worker == 0) work("ipc://" + path, mode == "result");
  void* const context = ::zmq_ctx_new();
  void* const socket = ::zmq_socket(context, ZMQ_REQ);
  ::zmq_connect(socket, ("ipc://" + path).c_str());
  std::vector<double> values;
  const auto exchange = [&](const void* request, std::size_t size) {
    ::zmq_send(socket, request, size, 0);
    zmq_msg_t message;
    ::zmq_msg_init(&message);
    ::zmq_msg_recv(&message, socket, 0);
    ::zmq_msg_close(&message);
  };
  serving::serve([&](std::size_t count) {
    if (mode == "call") {
      for (std::size_t n = 0; n < count; ++n) std::cout << ' ' << serving::timed_ns([&] { exchange("", 1); });
    } else if (mode == "result") {
      exchange(&count, sizeof count);  // so that the values are made
      std::cout << serving::timed_ns([&] { exchange(&count, sizeof count); });
    } else {
      values.assign(count / sizeof(double), 1.0);
      std::cout << serving::timed_ns([&] { exchange(values.data(), count); });
    }
  });
  ::kill(worker, SIGKILL);
  ::waitpid(worker, nullptr, 0);
  ::zmq_close(socket);
  ::zmq_ctx_term(context);
  ::unlink(path.c_str());
  ::rmdir(directory);
}
