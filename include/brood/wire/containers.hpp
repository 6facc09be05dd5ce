// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <forward_list>
#include <iterator>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <brood/os/huge_pages.hpp>
#include <brood/wire/codec.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/refusal.hpp>
#include <brood/wire/writer.hpp>

// The containers: a count, then the elements.

namespace brood::inline v0_1::detail {

/// Whether data of a container that is made with it lies in plain memory, where the kernel can read it for another process.
template <class Allocator>
inline constexpr bool in_plain_memory = false;
template <class T>
inline constexpr bool in_plain_memory<std::allocator<T>> = true;

/// The elements of a std::vector or std::basic_string that are bulk.
template <class Container>
void write_contiguous(Writer& writer, const Container& value) {
  const std::size_t size = value.size() * sizeof(typename Container::value_type);
  if constexpr (in_plain_memory<typename Container::allocator_type>) {
    writer.bulk(value.data(), size);
  } else {
    writer.raw(value.data(), size);
  }
}

/// Makes room in an empty container for what is about to fill it.
template <class Container>
void make_room(Container& container, std::size_t count) {
  container.reserve(count);
  prefer_huge_pages(container.data(), count * sizeof(typename Container::value_type));
}

/// Room for some elements, which are not constructed.
template <class T>
struct Stage {
  explicit Stage(std::size_t count) : data(std::allocator<T>().allocate(count)), size(count) {}
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  ~Stage() { std::allocator<T>().deallocate(data, size); }

  T* data;
  std::size_t size;
};

/// Elements that lie in another process, by way of a small buffer that stays in the cache: so fresh memory is touched once.
/// (There is no way to make room in a vector without writing to it.)
template <class Container>
void append_foreign_block(Reader& reader, Container& out, std::size_t count) {
  using T = typename Container::value_type;
  const std::size_t step = std::min(count, sizeof(T) < block_stage_size ? block_stage_size / sizeof(T) : 1);
  const Stage<T> stage(step);
  for (std::size_t done = 0; done < count; done += step) {
    const std::size_t size = std::min(step, count - done);
    reader.fetch(done * sizeof(T), {reinterpret_cast<std::byte*>(stage.data), size * sizeof(T)});
    const T* first = stage.data;
    out.insert(out.end(), first, first + size);
  }
  reader.pass_block();
}

/// A std::vector or std::basic_string of elements that are bulk: one copy, without zeroing the memory first.
template <class Container>
Container read_contiguous(Reader& reader) {
  using T = typename Container::value_type;
  const std::size_t count = read_count<T>(reader);
  Container out;
  if (reader.at_foreign_block(count * sizeof(T))) {
    make_room(out, count);
    append_foreign_block(reader, out, count);
    return out;
  }
  const std::byte* bytes = reader.raw(count * sizeof(T)).data();
  if (count == 0) return out;
  if (reinterpret_cast<std::uintptr_t>(bytes) % alignof(T) == 0) {
    const T* first = reinterpret_cast<const T*>(bytes);
    make_room(out, count);
    out.assign(first, first + count);
    return out;
  }
  // by way of an aligned block that stays in the cache
  constexpr std::size_t block_size = sizeof(T) < 4096 ? 4096 / sizeof(T) : 1;
  alignas(T) std::byte block[block_size * sizeof(T)];
  out.reserve(count);
  for (std::size_t done = 0; done < count; done += block_size) {
    const std::size_t size = std::min(block_size, count - done);
    std::memcpy(block, bytes + done * sizeof(T), size * sizeof(T));
    const T* first = reinterpret_cast<const T*>(block);
    out.insert(out.end(), first, first + size);
  }
  return out;
}

/// How many of `count` elements to make room for at once: as many as the message can be trusted for. An element may be
/// much larger in memory than on the wire, and is then believed only when it is read.
template <class T>
std::size_t trusted(const Reader& reader, std::size_t count) {
  return std::min(count, reader.remaining() * 16 / sizeof(T) + 1);
}

template <class Container>
void write_elements(Writer& writer, const Container& value, std::size_t count) {
  const Writer::Nested nested(writer);
  writer.count(count);
  for (const auto& element : value) write_element<typename Container::value_type>(writer, element);
}

template <class C, class Traits, class Allocator>
struct BuiltIn<std::basic_string<C, Traits, Allocator>> {
  using String = std::basic_string<C, Traits, Allocator>;
  using Parts = Types<C, MadeByDefault<Allocator>>;
  static constexpr std::size_t min_size() { return sizeof(std::uint64_t); }
  static void write(Writer& writer, const String& value) {
    writer.count(value.size());
    write_contiguous(writer, value);
  }
  static String read(Reader& reader) { return read_contiguous<String>(reader); }
};

template <class T, class Allocator>
struct BuiltIn<std::vector<T, Allocator>> {
  using Vector = std::vector<T, Allocator>;
  using Parts = Types<T, MadeByDefault<Allocator>>;
  static constexpr std::size_t min_size() { return sizeof(std::uint64_t); }
  static void write(Writer& writer, const Vector& value) {
    if constexpr (detail::bulk<T>()) {
      writer.count(value.size());
      write_contiguous(writer, value);
    } else {
      write_elements(writer, value, value.size());
    }
  }
  static Vector read(Reader& reader) {
    if constexpr (detail::bulk<T>()) {
      return read_contiguous<Vector>(reader);
    } else {
      const Reader::Nested nested(reader);
      const std::size_t count = read_count<T>(reader);
      Vector out;
      out.reserve(trusted<T>(reader, count));
      for (std::size_t i = 0; i != count; ++i) out.push_back(read_element<T>(reader));
      return out;
    }
  }
};

/// Eight to a byte.
template <class Allocator>
struct BuiltIn<std::vector<bool, Allocator>> {
  using Vector = std::vector<bool, Allocator>;
  using Parts = Types<MadeByDefault<Allocator>>;
  static constexpr std::size_t min_size() { return sizeof(std::uint64_t); }
  static void write(Writer& writer, const Vector& value) {
    writer.count(value.size());
    for (std::size_t i = 0; i < value.size(); i += 8) {
      unsigned byte = 0;
      for (std::size_t bit = 0; bit < std::min<std::size_t>(8, value.size() - i); ++bit) {
        byte |= static_cast<unsigned>(value[i + bit]) << bit;
      }
      writer.number(static_cast<std::uint8_t>(byte));
    }
  }
  static Vector read(Reader& reader) {
    const auto count = reader.number<std::uint64_t>();
    const std::uint64_t size = count / 8 + (count % 8 != 0);
    if (size > reader.remaining()) Reader::fail("a count of " + std::to_string(count) + " bits");
    const auto bytes = reader.raw(static_cast<std::size_t>(size));
    Vector out(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i != out.size(); ++i)
      out[i] = ((std::to_integer<unsigned>(bytes[i / 8]) >> (i % 8)) & 1u) != 0;
    return out;
  }
};

template <class List, class T, class Allocator>
struct ListCodec {
  using Parts = Types<T, MadeByDefault<Allocator>>;
  static constexpr std::size_t min_size() { return sizeof(std::uint64_t); }
  static void write(Writer& writer, const List& value) { write_elements(writer, value, value.size()); }
  static List read(Reader& reader) {
    const Reader::Nested nested(reader);
    List out;
    for (std::size_t left = read_count<T>(reader); left != 0; --left) out.push_back(read_element<T>(reader));
    return out;
  }
};
template <class T, class Allocator>
struct BuiltIn<std::deque<T, Allocator>> : ListCodec<std::deque<T, Allocator>, T, Allocator> {};
template <class T, class Allocator>
struct BuiltIn<std::list<T, Allocator>> : ListCodec<std::list<T, Allocator>, T, Allocator> {};

template <class T, class Allocator>
struct BuiltIn<std::forward_list<T, Allocator>> {
  using List = std::forward_list<T, Allocator>;
  using Parts = Types<T, MadeByDefault<Allocator>>;
  static constexpr std::size_t min_size() { return sizeof(std::uint64_t); }
  static void write(Writer& writer, const List& value) {
    write_elements(writer, value, static_cast<std::size_t>(std::distance(value.begin(), value.end())));
  }
  static List read(Reader& reader) {
    const Reader::Nested nested(reader);
    List out;
    auto last = out.before_begin();
    for (std::size_t left = read_count<T>(reader); left != 0; --left) {
      last = out.insert_after(last, read_element<T>(reader));
    }
    return out;
  }
};

template <class T, std::size_t N>
struct BuiltIn<std::array<T, N>> {
  using Value = std::remove_const_t<T>;
  using Parts = Types<T>;
  static constexpr std::size_t min_size() { return N * detail::min_size<Value>(); }
  static constexpr bool bulk() { return N != 0 && detail::bulk<Value>(); }
  static void write(Writer& writer, const std::array<T, N>& value) {
    if constexpr (bulk()) {
      writer.raw(value.data(), sizeof(value));
    } else {
      for (const T& element : value) writer.value<Value>(element);
    }
  }
  static std::array<T, N> read(Reader& reader) {
    if constexpr (bulk()) {
      return read_bulk<std::array<T, N>>(reader);
    } else if constexpr (std::is_default_constructible_v<T> && std::is_move_assignable_v<T>) {
      std::array<T, N> out{};
      for (T& element : out) element = reader.value<T>();
      return out;
    } else {
      return [&reader]<std::size_t... I>(std::index_sequence<I...>) {
        return std::array<T, N>{{(static_cast<void>(I), reader.value<Value>())...}};
      }(std::make_index_sequence<N>{});
    }
  }
};

/// The sorted and the hashed containers. `T` is what is read for one element: in a map, its key is not const.
template <class Container, class T>
struct SetCodec {
  static constexpr std::size_t min_size() { return sizeof(std::uint64_t); }
  static void write(Writer& writer, const Container& value) {
    const Writer::Nested nested(writer);
    writer.count(value.size());
    for (const auto& element : value) {
      if constexpr (padded<T>) writer.number(std::uint8_t{0});
      if constexpr (requires { typename Container::mapped_type; }) {
        writer.value<typename Container::key_type>(element.first);
        writer.value<typename Container::mapped_type>(element.second);
      } else {
        writer.value<T>(element);
      }
    }
  }
  static Container read(Reader& reader) {
    const Reader::Nested nested(reader);
    const std::size_t count = read_count<T>(reader);
    Container out;
    if constexpr (requires { out.bucket_count(); }) out.reserve(trusted<T>(reader, count));
    for (std::size_t i = 0; i != count; ++i) out.emplace_hint(out.end(), read_element<T>(reader));
    // also a comparator or hasher that means something else when it is made by default would lose elements
    if (out.size() != count) Reader::fail("a key is there twice");
    return out;
  }
};

template <class K, class C, class A>
struct BuiltIn<std::set<K, C, A>> : SetCodec<std::set<K, C, A>, K> {
  using Parts = Types<K, MadeByDefault<C>, MadeByDefault<A>>;
};
template <class K, class C, class A>
struct BuiltIn<std::multiset<K, C, A>> : SetCodec<std::multiset<K, C, A>, K> {
  using Parts = Types<K, MadeByDefault<C>, MadeByDefault<A>>;
};
template <class K, class H, class E, class A>
struct BuiltIn<std::unordered_set<K, H, E, A>> : SetCodec<std::unordered_set<K, H, E, A>, K> {
  using Parts = Types<K, MadeByDefault<H>, MadeByDefault<E>, MadeByDefault<A>>;
};
template <class K, class H, class E, class A>
struct BuiltIn<std::unordered_multiset<K, H, E, A>> : SetCodec<std::unordered_multiset<K, H, E, A>, K> {
  using Parts = Types<K, MadeByDefault<H>, MadeByDefault<E>, MadeByDefault<A>>;
};
template <class K, class V, class C, class A>
struct BuiltIn<std::map<K, V, C, A>> : SetCodec<std::map<K, V, C, A>, std::pair<K, V>> {
  using Parts = Types<K, V, MadeByDefault<C>, MadeByDefault<A>>;
};
template <class K, class V, class C, class A>
struct BuiltIn<std::multimap<K, V, C, A>> : SetCodec<std::multimap<K, V, C, A>, std::pair<K, V>> {
  using Parts = Types<K, V, MadeByDefault<C>, MadeByDefault<A>>;
};
template <class K, class V, class H, class E, class A>
struct BuiltIn<std::unordered_map<K, V, H, E, A>> : SetCodec<std::unordered_map<K, V, H, E, A>, std::pair<K, V>> {
  using Parts = Types<K, V, MadeByDefault<H>, MadeByDefault<E>, MadeByDefault<A>>;
};
template <class K, class V, class H, class E, class A>
struct BuiltIn<std::unordered_multimap<K, V, H, E, A>>
    : SetCodec<std::unordered_multimap<K, V, H, E, A>, std::pair<K, V>> {
  using Parts = Types<K, V, MadeByDefault<H>, MadeByDefault<E>, MadeByDefault<A>>;
};

}  // namespace brood::detail
