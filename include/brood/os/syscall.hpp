// SPDX-License-Identifier: MIT
// internal
// The one place through which the library talks to the kernel: retries interrupted calls and turns errno into an
// exception that names the call. A program compiled with BROOD_FAULT_INJECTION can have any of them fail (os/faults.hpp).
#pragma once

#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include <brood/core/config.hpp>
#include <brood/core/errors.hpp>
#if BROOD_FAULT_INJECTION
#include <brood/os/faults.hpp>
#endif

namespace brood::inline v0_1::detail {

/// A system call that failed. code() is its errno, call() its name.
class SystemError : public Error {
 public:
  SystemError(const char* call, int error)
      : Error(std::string(call) + ": " + std::generic_category().message(error)), call_(call), error_(error) {}
  const char* call() const noexcept { return call_; }
  std::error_code code() const noexcept { return {error_, std::generic_category()}; }

 private:
  const char* call_;
  int error_;
};

/// Runs a system call once. Returns what it returned; errno tells why when that is -1.
template <class Call>
auto tried([[maybe_unused]] const char* name, Call call) noexcept {
#if BROOD_FAULT_INJECTION
  return attempt_or_fail(name, call);
#else
  return call();
#endif
}

/// Runs a system call until it is not interrupted.
template <class Call>
auto retried([[maybe_unused]] const char* name, Call call) noexcept {
#if BROOD_FAULT_INJECTION
  auto result = tried(name, call);
  while (result == -1 && errno == EINTR) result = tried(name, call);
#else
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
#endif
  return result;
}

/// The same; throws SystemError when it fails.
template <class Call>
auto checked(const char* name, Call call) {
  auto result = retried(name, call);
  if (result == -1) throw SystemError(name, errno);
  return result;
}

/// close(2) is not retried: Linux has released the number even after EINTR.
inline void close_descriptor(int fd) noexcept {
  tried("close", [&] { return ::close(fd); });
}

/// What a process is in a pool's tree.
enum class ProcessRole : unsigned { unknown, host, server, worker };

/// First thing in a process that becomes a server or a worker, so that a fault can be aimed at it. Nothing elsewhere.
inline void take_role([[maybe_unused]] ProcessRole role) noexcept {
#if BROOD_FAULT_INJECTION
  fault_role = static_cast<unsigned>(role);
#endif
}

/// Whether a newer system call is not to be had here: an old kernel, or a container that refuses it.
constexpr bool not_available(int error) noexcept { return error == ENOSYS || error == EPERM || error == EINVAL; }

}  // namespace brood::detail
