// SPDX-License-Identifier: MIT
// Fd: a descriptor that can be an argument of a task, or its result.
#pragma once

#include <cstdint>
#include <utility>

#include <brood/wire/customise.hpp>
#include <brood/wire/descriptors.hpp>

namespace brood::inline v0_1 {

/// Owns one descriptor, of whatever kind: a file, a pipe, a socket, a memfd. It is closed when the Fd is destroyed. An `int`
/// borrows.
///
/// It may be an argument of a task (`pool.submit([](brood::Fd file) { ... }, std::move(fd))`), an item of map or of a stream, and a
/// result of any of them, alone or within structs and containers. The other process gets a descriptor of its own for the same open
/// file, closed on exec; the offset in a file is common to both. An argument that is moved in is closed in the host when the
/// task was taken; for itself the pool keeps a copy until a worker has it, or, with retries, until the task is resolved. Who
/// waits for the end of a pipe should know that a Future has a copy, too: `std::move(future).get()` leaves none.
///
/// Throws SerializationError, in the host or as the task's failure, when a limit of open files is reached, or when host and
/// worker can't be connected (docs/guide/channels.md).
/// \snippet reference.cpp Fd
class Fd {
 public:
  /// No descriptor.
  Fd() noexcept = default;
  /// Takes over a descriptor; a negative number is none.
  explicit Fd(int fd) noexcept : fd_(fd < 0 ? -1 : fd) {}
  /// Takes over its descriptor.
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    Fd taken(std::move(other));
    std::swap(fd_, taken.fd_);
    return *this;
  }
  /// Closes the descriptor.
  ~Fd() { reset(); }

  /// A second descriptor for the same open file, closed on exec. Throws Error.
  static Fd duplicate(int fd) { return Fd(detail::duplicate(fd).release()); }

  /// The number; -1 when there is none.
  int get() const noexcept { return fd_; }
  /// Whether there is a descriptor.
  explicit operator bool() const noexcept { return fd_ >= 0; }
  /// The number, which the caller is to close from now on.
  int release() noexcept { return std::exchange(fd_, -1); }
  /// Closes it, and takes over another.
  void reset(int fd = -1) noexcept {
    if (fd_ >= 0) detail::close_descriptor(fd_);
    fd_ = fd < 0 ? -1 : fd;
  }

 private:
  int fd_ = -1;
};

template <>
inline constexpr bool detail::takes_over<Fd> = true;

/// Its place among the descriptors of the message, from 1 on; 0 is no descriptor.
template <>
struct Serializer<Fd> {
  static void write(Writer& writer, const Fd& fd) { writer.number(fd ? writer.attach(fd.get()) + 1 : std::uint32_t{0}); }

  static Fd read(Reader& reader) {
    const auto place = reader.number<std::uint32_t>();
    return place == 0 ? Fd() : Fd(reader.descriptor(place - 1).release());
  }
};

}  // namespace brood
