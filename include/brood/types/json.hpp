// SPDX-License-Identifier: MIT
// Values of nlohmann::json as arguments and results. Needs that library; brood.hpp does not include this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <brood/wire/serializer.hpp>

namespace brood::inline v0_1 {

/// Any nlohmann::basic_json (json, ordered_json), whole: kinds of numbers, NaN, binary values and bytes that are no UTF-8
/// stay what they are. Values nested more than 100 deep, and discarded ones, can't be sent (SerializationError).
/// Complexity: linear; a value takes at most some tens of bytes of memory for each byte that came.
/// \snippet own_types.cpp json
template <class Json>
  requires nlohmann::detail::is_basic_json<Json>::value
struct Serializer<Json> {
  static void write(Writer& writer, const Json& value) { write(writer, value, 0); }
  static Json read(Reader& reader) { return read(reader, 0); }

 private:
  // a level of its own: what is around the value may be nested as well
  static constexpr int max_depth = 100;

  enum class Kind : std::uint8_t { null, boolean, integer, natural, real, string, binary, array, object };

  static void write(Writer& writer, const Json& value, int depth) {
    if (depth > max_depth) Writer::fail("a JSON value is nested too deeply");
    switch (value.type()) {
      case Json::value_t::null:
        return writer.number(Kind::null);
      case Json::value_t::boolean:
        writer.number(Kind::boolean);
        return writer.value(*value.template get_ptr<const typename Json::boolean_t*>());
      case Json::value_t::number_integer:
        writer.number(Kind::integer);
        return writer.number(*value.template get_ptr<const typename Json::number_integer_t*>());
      case Json::value_t::number_unsigned:
        writer.number(Kind::natural);
        return writer.number(*value.template get_ptr<const typename Json::number_unsigned_t*>());
      case Json::value_t::number_float:
        writer.number(Kind::real);
        return writer.number(*value.template get_ptr<const typename Json::number_float_t*>());
      case Json::value_t::string:
        writer.number(Kind::string);
        return write_text(writer, *value.template get_ptr<const typename Json::string_t*>());
      case Json::value_t::binary: {
        const auto& bytes = *value.template get_ptr<const typename Json::binary_t*>();
        writer.number(Kind::binary);
        writer.number(bytes.has_subtype());
        writer.number(static_cast<std::uint64_t>(bytes.has_subtype() ? bytes.subtype() : 0));
        return write_text(writer, bytes);
      }
      case Json::value_t::array:
        writer.number(Kind::array);
        writer.count(value.size());
        for (const Json& element : value) write(writer, element, depth + 1);
        return;
      case Json::value_t::object:
        writer.number(Kind::object);
        writer.count(value.size());
        for (auto member = value.begin(); member != value.end(); ++member) {
          write_text(writer, member.key());
          write(writer, *member, depth + 1);
        }
        return;
      case Json::value_t::discarded:
        break;
    }
    Writer::fail("a JSON value was discarded by the parser");
  }

  static Json read(Reader& reader, int depth) {
    if (depth > max_depth) Reader::fail("a JSON value is nested too deeply");
    switch (reader.number<Kind>()) {
      case Kind::null:
        return Json(nullptr);
      case Kind::boolean:
        return Json(reader.value<typename Json::boolean_t>());
      case Kind::integer:
        return Json(reader.number<typename Json::number_integer_t>());
      case Kind::natural:
        return Json(reader.number<typename Json::number_unsigned_t>());
      case Kind::real:
        return Json(reader.number<typename Json::number_float_t>());
      case Kind::string:
        return Json(read_text<typename Json::string_t>(reader));
      case Kind::binary: {
        const bool has_subtype = reader.number<bool>();
        const auto subtype = reader.number<std::uint64_t>();
        typename Json::binary_t bytes(read_text<typename Json::binary_t::container_type>(reader));
        if (has_subtype) bytes.set_subtype(static_cast<typename Json::binary_t::subtype_type>(subtype));
        return Json(std::move(bytes));
      }
      case Kind::array: {
        const std::size_t count = reader.count();
        typename Json::array_t array;
        array.reserve(count);
        for (std::size_t i = 0; i != count; ++i) array.push_back(read(reader, depth + 1));
        return Json(std::move(array));
      }
      case Kind::object: {
        const std::size_t count = reader.count(sizeof(std::uint64_t) + 1);
        typename Json::object_t object;
        for (std::size_t i = 0; i != count; ++i) {
          auto name = read_text<typename Json::string_t>(reader);
          if (!object.emplace(std::move(name), read(reader, depth + 1)).second) {
            Reader::fail("a JSON object has a name twice");
          }
        }
        return Json(std::move(object));
      }
    }
    Reader::fail("a JSON value is of no known kind");
  }

  template <class Text>
  static void write_text(Writer& writer, const Text& text) {
    static_assert(sizeof(*text.data()) == 1);
    writer.text({reinterpret_cast<const char*>(text.data()), text.size()});
  }
  template <class Text>
  static Text read_text(Reader& reader) {
    const std::string_view text = reader.text();
    const auto* const first = reinterpret_cast<const typename Text::value_type*>(text.data());
    return Text(first, first + text.size());
  }
};

}  // namespace brood
