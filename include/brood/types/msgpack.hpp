// SPDX-License-Identifier: MIT
// Types with a MessagePack adaptor (MSGPACK_DEFINE) as arguments and results. Needs msgpack-cxx; brood.hpp does not
// include this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <msgpack.hpp>

#include <brood/types/sized.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// Writes to a Writer, as msgpack::pack wants it.
struct MsgpackStream {
  Writer& writer;
  void write(const char* data, std::size_t size) { writer.raw(data, size); }
};

/// What the unpacker does not check before it asks for memory: all elements together can't be more than the bytes, for
/// each takes one. And the depth, for it takes stack to use such a value.
struct MsgpackCheck : msgpack::null_visitor {
  explicit MsgpackCheck(std::size_t bytes) noexcept : left(bytes) {}

  bool start_array(std::uint32_t count) { return claim(count); }
  bool start_map(std::uint32_t pairs) { return claim(std::size_t{2} * pairs); }
  bool end_array() { return --depth, true; }
  bool end_map() { return --depth, true; }

  bool claim(std::size_t elements) {
    if (elements > left || ++depth > Reader::max_depth) return false;
    left -= elements;
    return true;
  }

  std::size_t left;
  int depth = 0;
};

}  // namespace detail

/// How a type that MessagePack knows travels. It is asked for by type, for most such types need it not (aggregates travel by
/// themselves):
///
///   template <> struct brood::Serializer<Order> : brood::MsgpackSerializer<Order> {};
///
/// T must own what it holds: a std::string_view or msgpack::object in it would refer to bytes that are gone. Values nested
/// more than 128 deep are refused (SerializationError).
/// \snippet own_types.cpp MessagePack
template <class T>
struct MsgpackSerializer {
  static void write(Writer& writer, const T& value) {
    detail::write_sized(writer, "MessagePack", [&] {
      detail::MsgpackStream stream{writer};
      msgpack::pack(stream, value);
    });
  }

  static T read(Reader& reader) {
    return detail::read_sized(reader, "MessagePack", [](Reader& own) {
      const std::size_t size = own.remaining();
      const auto* const data = reinterpret_cast<const char*>(own.raw(size).data());
      detail::MsgpackCheck check(size);
      std::size_t end = 0;
      if (!msgpack::parse(data, size, end, check) || end != size) Reader::fail("it is no value of MessagePack, or nested too deeply");
      msgpack::zone zone;
      end = 0;
      const auto in_place = [](msgpack::type::object_type, std::size_t, void*) { return true; };
      return msgpack::unpack(zone, data, size, end, in_place).template as<T>();
    });
  }
};

}  // namespace brood
