// SPDX-License-Identifier: MIT
// What a type says to cereal, pointers included: std::shared_ptr that stay shared, pointers to polymorphic bases. Needs
// cereal; brood.hpp does not include this. A type without such pointers needs no more than its `serialize`.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <cereal/cereal.hpp>
#include <cereal/types/memory.hpp>

#include <brood/core/type_name.hpp>
#include <brood/types/sized.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// Whoever loads what was nested may need a little more depth than who saved it.
inline constexpr int max_cereal_depth = 1000;

class CerealOutput : public ::cereal::OutputArchive<CerealOutput, ::cereal::AllowEmptyClassElision> {
 public:
  explicit CerealOutput(Writer& writer)
      : ::cereal::OutputArchive<CerealOutput, ::cereal::AllowEmptyClassElision>(this), writer_(writer) {}

  Writer& writer() noexcept { return writer_; }

  void enter() {
    if (++depth_ > max_cereal_depth) Writer::fail("cereal nests values too deeply");
  }
  void leave() noexcept { --depth_; }

  /// A count of elements. Whoever reads it believes no more than there are bytes behind it.
  void size_tag(std::uint64_t size) {
    if (size > max_size) Writer::fail("cereal writes a count of " + std::to_string(size) + " elements");
    writer_.number(size);
    backed_to_ = std::max<std::uint64_t>(backed_to_, writer_.size() + size);
  }

  /// To be called last: elements may have taken no bytes.
  void finish() {
    if (backed_to_ <= writer_.size()) return;
    const std::uint64_t missing = backed_to_ - writer_.size();
    if (missing > max_padding) Writer::fail("cereal writes more than a million elements that take no bytes");
    std::memset(writer_.bytes().extend(missing), 0, missing);
  }

 private:
  static constexpr std::uint64_t max_size = std::uint64_t{1} << 48;
  static constexpr std::uint64_t max_padding = std::size_t{1} << 20;

  Writer& writer_;
  std::uint64_t backed_to_ = 0;  ///< there must be bytes up to here
  int depth_ = 0;
};

class CerealInput : public ::cereal::InputArchive<CerealInput, ::cereal::AllowEmptyClassElision> {
 public:
  explicit CerealInput(Reader& reader)
      : ::cereal::InputArchive<CerealInput, ::cereal::AllowEmptyClassElision>(this), reader_(reader) {}

  Reader& reader() noexcept { return reader_; }

  void enter() {
    if (++depth_ > max_cereal_depth + 24) Reader::fail("cereal nests values too deeply");
  }
  void leave() noexcept { --depth_; }

  std::uint64_t size_tag() {
    const auto size = reader_.number<std::uint64_t>();
    if (size > reader_.remaining()) Reader::fail("cereal finds a count of elements that the message can't hold");
    if (size == reader_.remaining()) padded_ = true;
    return size;
  }

  /// To be called last.
  void finish() const {
    if (!padded_) reader_.finish();
  }

  // These two hide cereal's. A pointer that the bytes say is shared with another one must be of the same type: cereal
  // keeps them as void pointers, and would believe it.
  void pointee(const std::type_info& type) noexcept { pointee_ = &type; }
  void registerSharedPointer(std::uint32_t id, std::shared_ptr<void> pointer) {
    shared_[id & ~::cereal::detail::msb_32bit] = {std::move(pointer), pointee_};
  }
  std::shared_ptr<void> getSharedPointer(std::uint32_t id) {
    if (id == 0) return nullptr;
    const auto found = shared_.find(id);
    if (found == shared_.end()) Reader::fail("a shared pointer refers to nothing that was sent");
    if (*found->second.type != *pointee_) {
      Reader::fail("a shared pointer to " + readable_name(demangled(pointee_->name())) + " refers to an object of type " +
                   readable_name(demangled(found->second.type->name())));
    }
    return found->second.pointer;
  }

 private:
  struct Shared {
    std::shared_ptr<void> pointer;
    const std::type_info* type = nullptr;
  };

  Reader& reader_;
  std::map<std::uint32_t, Shared> shared_;
  const std::type_info* pointee_ = nullptr;
  bool padded_ = false;  ///< the last bytes may be there for a count's sake
  int depth_ = 0;
};

// What cereal asks of an archive, found by the archive's namespace.

template <class T>
void prologue(CerealOutput& archive, const T&) {
  archive.enter();
}
template <class T>
void epilogue(CerealOutput& archive, const T&) {
  archive.leave();
}
template <class T>
void prologue(CerealInput& archive, const T&) {
  archive.enter();
}
template <class T>
void prologue(CerealInput& archive, const ::cereal::memory_detail::PtrWrapper<std::shared_ptr<T>&>&) {
  archive.enter();
  archive.pointee(typeid(T));
}
template <class T>
void epilogue(CerealInput& archive, const T&) {
  archive.leave();
}

template <class T>
  requires std::is_arithmetic_v<T>
void CEREAL_SAVE_FUNCTION_NAME(CerealOutput& archive, const T& value) {
  archive.writer().number(value);
}
template <class T>
  requires std::is_arithmetic_v<T>
void CEREAL_LOAD_FUNCTION_NAME(CerealInput& archive, T& value) {
  value = archive.reader().template number<T>();
}

template <class T>
void CEREAL_SERIALIZE_FUNCTION_NAME(CerealOutput& archive, ::cereal::NameValuePair<T>& pair) {
  archive(pair.value);
}
template <class T>
void CEREAL_SERIALIZE_FUNCTION_NAME(CerealInput& archive, ::cereal::NameValuePair<T>& pair) {
  archive(pair.value);
}

template <class T>
void CEREAL_SAVE_FUNCTION_NAME(CerealOutput& archive, const ::cereal::SizeTag<T>& tag) {
  archive.size_tag(static_cast<std::uint64_t>(tag.size));
}
template <class T>
void CEREAL_LOAD_FUNCTION_NAME(CerealInput& archive, ::cereal::SizeTag<T>& tag) {
  tag.size = static_cast<std::remove_cvref_t<T>>(archive.size_tag());
}

template <class T>
void CEREAL_SAVE_FUNCTION_NAME(CerealOutput& archive, const ::cereal::BinaryData<T>& binary) {
  archive.writer().raw(binary.data, static_cast<std::size_t>(binary.size));
}
template <class T>
void CEREAL_LOAD_FUNCTION_NAME(CerealInput& archive, ::cereal::BinaryData<T>& binary) {
  read_bytes(archive.reader(), binary.data, static_cast<std::size_t>(binary.size));
}

}  // namespace detail

/// How a type travels as cereal would store it. It is asked for by type:
///
///   template <> struct brood::Serializer<Scene> : brood::CerealSerializer<Scene> {};
///
/// also for std::shared_ptr<Shape>, std::unique_ptr<Shape> themselves. Include this before CEREAL_REGISTER_TYPE: a type is
/// registered for the archives that are known there. Objects shared within one value are shared in what arrives, not with
/// other values. Bytes that are no such value are refused (SerializationError): counts that exceed the bytes, shared pointers
/// to an object of another type, nesting of more than some hundred levels. T must be default-constructible.
/// \snippet own_types.cpp cereal
template <class T>
struct CerealSerializer {
  static void write(Writer& writer, const T& value) {
    detail::write_sized(writer, "cereal", [&] {
      detail::CerealOutput archive(writer);
      archive(value);
      archive.serializeDeferments();
      archive.finish();
    });
  }

  static T read(Reader& reader) {
    static_assert(std::is_default_constructible_v<T>, "brood: cereal loads into an object that is there: T needs a public "
                                                      "default constructor; or send a std::unique_ptr<T>");
    return detail::read_sized(reader, "cereal", [](Reader& own) {
      T value{};
      detail::CerealInput archive(own);
      archive(value);
      archive.serializeDeferments();
      archive.finish();
      return value;
    });
  }
};

}  // namespace brood

CEREAL_REGISTER_ARCHIVE(brood::detail::CerealOutput)
CEREAL_REGISTER_ARCHIVE(brood::detail::CerealInput)
CEREAL_SETUP_ARCHIVE_TRAITS(brood::detail::CerealInput, brood::detail::CerealOutput)
