// SPDX-License-Identifier: MIT
// internal
// What another library writes goes behind its size, so that what it reads ends there too.
#pragma once

#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include <brood/core/errors.hpp>
#include <brood/wire/serializer.hpp>

namespace brood::inline v0_1::detail {

/// Calls write(), which appends to the writer, and puts the number of bytes in front. Exceptions of `library` become a
/// SerializationError.
template <class Write>
void write_sized(Writer& writer, const char* library, Write&& write) {
  const std::size_t start = writer.size();
  writer.count(0);
  try {
    write();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    Writer::fail(std::string(library) + " says: " + error.what());
  }
  const std::uint64_t size = writer.size() - start - sizeof size;
  std::memcpy(writer.bytes().data() + start, &size, sizeof size);
}

/// Returns read(own), where `own` reads the bytes of one write_sized. Exceptions of `library` become a SerializationError.
template <class Read>
auto read_sized(Reader& reader, const char* library, Read&& read) {
  Reader own(reader.raw(reader.count()));
  try {
    return read(own);
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    Reader::fail(std::string(library) + " says: " + error.what());
  }
}

}  // namespace brood::detail
