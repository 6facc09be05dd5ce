// SPDX-License-Identifier: MIT
// Eigen's matrices and arrays as arguments and results. Needs that library; brood.hpp does not include this.
#pragma once

#include <cstddef>
#include <cstdint>

#include <Eigen/Core>

#include <brood/wire/serializer.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// A matrix or an array: its sizes, where they are not part of the type, and its elements, in the order of its storage.
template <class Plain>
struct EigenSerializer {
  using Scalar = typename Plain::Scalar;
  static_assert(Serializable<Scalar>, "brood: the elements of this Eigen matrix are not serializable: write a "
                                      "brood::Serializer for them");

  static void write(Writer& writer, const Plain& value) {
    if constexpr (Plain::RowsAtCompileTime == Eigen::Dynamic) writer.number(std::int64_t{value.rows()});
    if constexpr (Plain::ColsAtCompileTime == Eigen::Dynamic) writer.number(std::int64_t{value.cols()});
    const auto count = static_cast<std::size_t>(value.size());
    if constexpr (bulk<Scalar>()) {
      writer.raw(value.data(), count * sizeof(Scalar));
    } else {
      for (std::size_t i = 0; i != count; ++i) write_element(writer, value.data()[i]);
    }
  }

  static Plain read(Reader& reader) {
    constexpr std::size_t bytes_each = padded<Scalar> ? 1 : min_size<Scalar>();
    const std::int64_t rows = extent<Plain::RowsAtCompileTime, Plain::MaxRowsAtCompileTime>(reader);
    const std::int64_t columns = extent<Plain::ColsAtCompileTime, Plain::MaxColsAtCompileTime>(reader);
    const auto most = static_cast<std::int64_t>(reader.remaining() / bytes_each);
    if (columns != 0 && rows > most / columns) Reader::fail("a matrix has more elements than the message can hold");
    Plain value;
    value.resize(static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns));
    const auto count = static_cast<std::size_t>(value.size());
    if constexpr (bulk<Scalar>()) {
      read_bytes(reader, value.data(), count * sizeof(Scalar));
    } else {
      for (std::size_t i = 0; i != count; ++i) value.data()[i] = read_element<Scalar>(reader);
    }
    return value;
  }

 private:
  template <int Size, int Most>
  static std::int64_t extent(Reader& reader) {
    if constexpr (Size != Eigen::Dynamic) {
      return Size;
    } else {
      const auto size = reader.number<std::int64_t>();
      if (size < 0 || (Most != Eigen::Dynamic && size > Most)) Reader::fail("a matrix has a size that its type can't have");
      return size;
    }
  }
};

}  // namespace detail

/// Matrices and vectors of any serializable scalar, of fixed and of dynamic size. One copy for numbers and complex numbers.
/// Expressions are no values yet: let a task return `MatrixXd(a * b)` or name its result type.
/// \snippet own_types.cpp Eigen
template <class Scalar, int Rows, int Columns, int Options, int MaxRows, int MaxColumns>
struct Serializer<Eigen::Matrix<Scalar, Rows, Columns, Options, MaxRows, MaxColumns>>
    : detail::EigenSerializer<Eigen::Matrix<Scalar, Rows, Columns, Options, MaxRows, MaxColumns>> {};

/// Eigen::Array, likewise.
template <class Scalar, int Rows, int Columns, int Options, int MaxRows, int MaxColumns>
struct Serializer<Eigen::Array<Scalar, Rows, Columns, Options, MaxRows, MaxColumns>>
    : detail::EigenSerializer<Eigen::Array<Scalar, Rows, Columns, Options, MaxRows, MaxColumns>> {};

/// Rotations and transformations, for those who include <Eigen/Geometry>.
template <class Scalar, int Options>
struct Serializer<Eigen::Quaternion<Scalar, Options>> {
  using Value = Eigen::Quaternion<Scalar, Options>;

  static void write(Writer& writer, const Value& value) { writer.value(value.coeffs()); }
  static Value read(Reader& reader) { return Value(reader.value<typename Value::Coefficients>()); }
};
/// Eigen::Transform, likewise.
template <class Scalar, int Dimensions, int Mode, int Options>
struct Serializer<Eigen::Transform<Scalar, Dimensions, Mode, Options>> {
  using Value = Eigen::Transform<Scalar, Dimensions, Mode, Options>;

  static void write(Writer& writer, const Value& value) { writer.value(value.matrix()); }
  static Value read(Reader& reader) {
    Value value;
    value.matrix() = reader.value<typename Value::MatrixType>();
    return value;
  }
};

}  // namespace brood
