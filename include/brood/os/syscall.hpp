// SPDX-License-Identifier: MIT
// internal
// The one place through which the library talks to the kernel: retries interrupted calls and turns errno into an
// exception that names the call.
#pragma once

#include <cerrno>
#include <string>
#include <system_error>

namespace brood::detail {

/// A system call that failed. code() is its errno, call() its name.
class SystemError : public std::system_error {
 public:
  SystemError(const char* call, int error) : std::system_error(error, std::generic_category(), call), call_(call) {}
  const char* call() const noexcept { return call_; }

 private:
  const char* call_;
};

/// Runs a system call until it is not interrupted. Returns what it returned; errno tells why when that is -1.
template <class Call>
auto retried(const char* /*name*/, Call call) noexcept {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

/// The same; throws SystemError when it fails.
template <class Call>
auto checked(const char* name, Call call) {
  auto result = retried(name, call);
  if (result == -1) throw SystemError(name, errno);
  return result;
}

/// Whether a newer system call is not to be had here: an old kernel, or a container that refuses it.
constexpr bool not_available(int error) noexcept { return error == ENOSYS || error == EPERM || error == EINVAL; }

}  // namespace brood::detail
