// SPDX-License-Identifier: MIT
// The limits, written as system calls: what the kernel takes when nothing is checked, counted, or given a type.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

namespace bench {

inline void must(bool done, const char* what) {
  if (!done) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

/// Reads or writes all of it. False at the end of the stream.
inline bool read_all(int fd, void* data, std::size_t size) {
  for (auto* at = static_cast<char*>(data); size > 0;) {
    const ssize_t got = ::read(fd, at, size);
    if (got <= 0) return false;
    at += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}
inline bool write_all(int fd, const void* data, std::size_t size) {
  for (const auto* at = static_cast<const char*>(data); size > 0;) {
    const ssize_t put = ::write(fd, at, size);
    if (put <= 0) return false;
    at += put;
    size -= static_cast<std::size_t>(put);
  }
  return true;
}

/// A forked child and two pipes.
class Child {
 public:
  explicit Child(const std::function<void(int in, int out)>& run) {
    int there[2];
    int back[2];
    must(::pipe2(there, O_CLOEXEC) == 0 && ::pipe2(back, O_CLOEXEC) == 0, "pipe2");
    pid_ = ::fork();
    must(pid_ >= 0, "fork");
    if (pid_ == 0) {
      ::dup2(there[0], 0);
      ::dup2(back[1], 1);
      ::close_range(3, ~0U, 0);  // what the contestants beside it have open is not its own
      run(0, 1);
      ::_exit(0);
    }
    ::close(there[0]);
    ::close(back[1]);
    out = there[1];
    in = back[0];
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    ::close(out);
    ::close(in);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  void exchange(void* data, std::size_t size) const {
    must(write_all(out, data, size) && read_all(in, data, size), "a pipe");
  }

  int in = -1;
  int out = -1;

 private:
  pid_t pid_ = 0;
};

/// Sends back what it reads, as it comes or in pieces of so many bytes.
inline void echo(int in, int out, std::size_t piece = 0) {
  static char buffer[std::size_t{1} << 16];
  for (ssize_t got; (got = ::read(in, buffer, sizeof buffer)) > 0;) {
    const auto size = static_cast<std::size_t>(got);
    const std::size_t step = piece == 0 ? size : piece;
    for (std::size_t at = 0; at < size; at += step) {
      if (!write_all(out, buffer + at, std::min(step, size - at))) return;
    }
  }
}

/// Memory that nobody has touched, so that each page faults once: what a result is received into.
class FreshMemory {
 public:
  explicit FreshMemory(std::size_t size) : size_(size) {
    data_ = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(data_ != MAP_FAILED, "mmap");
  }
  FreshMemory(const FreshMemory&) = delete;
  FreshMemory& operator=(const FreshMemory&) = delete;
  ~FreshMemory() { ::munmap(data_, size_); }
  void* data() const { return data_; }

 private:
  void* data_;
  std::size_t size_;
};

/// Runs on one CPU while it lives, and so do processes that are started meanwhile.
class OneCpu {
 public:
  OneCpu() {
    must(::sched_getaffinity(0, sizeof before_, &before_) == 0, "sched_getaffinity");
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &before_)) {
        CPU_SET(cpu, &one);
        break;
      }
    }
    must(::sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
  }
  OneCpu(const OneCpu&) = delete;
  OneCpu& operator=(const OneCpu&) = delete;
  ~OneCpu() { ::sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

// ---- the fork server ----------------------------------------------------------------------------------------------------

/// Sends a byte and two descriptors, which are closed here.
inline void send_descriptors(int socket, char byte, int first, int second) {
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(2 * sizeof(int));
  const int descriptors[2] = {first, second};
  std::memcpy(CMSG_DATA(header), descriptors, sizeof descriptors);
  must(::sendmsg(socket, &message, MSG_NOSIGNAL) == 1, "sendmsg");
  ::close(first);
  ::close(second);
}

inline bool receive_descriptors(int socket, char& byte, int (&descriptors)[2]) {
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&message) == nullptr) return false;
  std::memcpy(descriptors, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptors);
  return true;
}

/// A child of the fork server, and its pipes. It sends back each byte that it is sent, and leaves when they end.
class RawWorker {
 public:
  RawWorker(int in, int out) : in_(in), out_(out) {}
  RawWorker(RawWorker&& other) noexcept : in_(std::exchange(other.in_, -1)), out_(std::exchange(other.out_, -1)) {}
  RawWorker& operator=(RawWorker&&) = delete;
  ~RawWorker() {
    if (in_ < 0) return;
    ::close(in_);
    ::close(out_);
  }
  void answer() const {
    char byte = 0;
    must(::read(in_, &byte, 1) == 1, "read");
  }

 private:
  int in_;
  int out_;
};

/// This program's image again, as a server that forks on request. The program calls serve_if_asked at the top of main.
class RawForkServer {
 public:
  RawForkServer() {
    int pair[2];
    must(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
    pid_ = ::vfork();
    if (pid_ == 0) {
      ::dup2(pair[1], 0);
      ::execl("/proc/self/exe", "raw-fork-server", "--raw-fork-server", nullptr);
      ::_exit(127);
    }
    ::close(pair[1]);
    socket_ = pair[0];
    must(pid_ > 0, "vfork");
    wait_for_answer();
  }
  RawForkServer(const RawForkServer&) = delete;
  RawForkServer& operator=(const RawForkServer&) = delete;
  ~RawForkServer() {
    ::close(socket_);
    ::waitpid(pid_, nullptr, 0);
  }

  /// A fresh worker that has been sent one byte. With `alone` the server waits for its end before it takes more requests.
  RawWorker start(bool alone) const {
    int there[2];
    int back[2];
    must(::pipe2(there, O_CLOEXEC) == 0 && ::pipe2(back, O_CLOEXEC) == 0, "pipe2");
    char byte = 1;
    must(::write(there[1], &byte, 1) == 1, "write");
    send_descriptors(socket_, alone ? 1 : 0, there[0], back[1]);
    return {back[0], there[1]};
  }
  /// Until a worker that was started alone is reaped.
  void wait_for_answer() const {
    char byte = 0;
    must(::recv(socket_, &byte, 1, 0) == 1, "recv");
  }

  static void serve_if_asked(int argc, char** argv, const std::function<void()>& prepare = [] {}) {
    if (argc != 2 || std::strcmp(argv[1], "--raw-fork-server") != 0) return;
    prepare();
    char byte = 0;
    static_cast<void>(!::send(0, &byte, 1, MSG_NOSIGNAL));
    char alone = 0;
    for (int ends[2]; receive_descriptors(0, alone, ends);) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::close(0);
        while (::read(ends[0], &byte, 1) == 1) static_cast<void>(!::write(ends[1], &byte, 1));
        ::_exit(0);
      }
      ::close(ends[0]);
      ::close(ends[1]);
      if (alone == 0) continue;
      ::waitpid(pid, nullptr, 0);
      static_cast<void>(!::send(0, &byte, 1, MSG_NOSIGNAL));
    }
    ::_exit(0);  // workers that are left become init's
  }

 private:
  int socket_ = -1;
  pid_t pid_ = 0;
};

// ---- what a process uses ------------------------------------------------------------------------------------------------

/// The private memory of a process in KiB, as smaps_rollup tells it: what would be free if it ended.
inline double private_kib(pid_t pid) {
  std::ifstream rollup("/proc/" + std::to_string(pid) + "/smaps_rollup");
  double total = 0;
  for (std::string word; rollup >> word;) {
    double kib = 0;
    if ((word == "Private_Clean:" || word == "Private_Dirty:") && rollup >> kib) total += kib;
  }
  must(total > 0, "smaps_rollup");
  return total;
}

}  // namespace bench
