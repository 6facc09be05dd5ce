// SPDX-License-Identifier: MIT
#include <brood/types/eigen.hpp>

#include <complex>
#include <limits>
#include <string>
#include <vector>

#include <Eigen/Geometry>
#include <doctest/doctest.h>

#include "support/leftovers.hpp"
#include "wire/round_trip.hpp"

using wire_test::bytes;
using wire_test::check_round_trip;
using wire_test::decode;
using wire_test::encode;

static_assert(brood::Serializable<Eigen::MatrixXd>);
static_assert(brood::Serializable<std::vector<Eigen::Vector3f>>);

TEST_CASE("Eigen: fixed and dynamic sizes, both orders of storage") {
  const support::Leftovers leftovers;
  check_round_trip<Eigen::Matrix3d>(Eigen::Matrix3d::Random());
  check_round_trip<Eigen::Vector4f>(Eigen::Vector4f::Random());
  check_round_trip<Eigen::MatrixXd>(Eigen::MatrixXd::Random(3, 5));
  check_round_trip<Eigen::VectorXi>(Eigen::VectorXi::Random(7));
  check_round_trip<Eigen::MatrixXcd>(Eigen::MatrixXcd::Random(2, 3));
  check_round_trip<Eigen::Matrix<float, Eigen::Dynamic, 3, Eigen::RowMajor>>(
      Eigen::Matrix<float, Eigen::Dynamic, 3, Eigen::RowMajor>::Random(4, 3));
  check_round_trip<Eigen::Matrix<int, Eigen::Dynamic, Eigen::Dynamic, 0, 4, 4>>(
      Eigen::Matrix<int, Eigen::Dynamic, Eigen::Dynamic, 0, 4, 4>::Ones(2, 4));
  check_round_trip<std::vector<Eigen::Vector3d>>({Eigen::Vector3d(1, 2, 3), Eigen::Vector3d(4, 5, 6)});

  const Eigen::ArrayXXd array = Eigen::ArrayXXd::Random(2, 2);
  CHECK((decode<Eigen::ArrayXXd>(encode(array)) == array).all());
}

TEST_CASE("Eigen: empty matrices keep their shape") {
  const support::Leftovers leftovers;
  const auto empty = decode<Eigen::MatrixXd>(encode(Eigen::MatrixXd(0, 5)));
  CHECK(empty.rows() == 0);
  CHECK(empty.cols() == 5);
  CHECK(decode<Eigen::VectorXd>(encode(Eigen::VectorXd())).size() == 0);
}

TEST_CASE("Eigen: numbers are one copy, other elements travel one by one") {
  const support::Leftovers leftovers;
  CHECK(encode(Eigen::MatrixXd(10, 10)).size() == 16 + 800);
  CHECK(encode(Eigen::Matrix3f()).size() == 36);
  Eigen::Matrix<std::string, 2, Eigen::Dynamic> words(2, 2);
  words << "a", "bc", "", "d";
  check_round_trip(words);
}

TEST_CASE("Eigen: rotations and transformations") {
  const support::Leftovers leftovers;
  const Eigen::Quaterniond turn(Eigen::AngleAxisd(0.5, Eigen::Vector3d::UnitX()));
  CHECK(decode<Eigen::Quaterniond>(encode(turn)).coeffs() == turn.coeffs());
  Eigen::Isometry3d pose(turn);
  pose.pretranslate(Eigen::Vector3d(1, 2, 3));
  CHECK(decode<Eigen::Isometry3d>(encode(pose)).matrix() == pose.matrix());
}

TEST_CASE("Eigen: sizes are checked before memory is asked for") {
  const support::Leftovers leftovers;
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  const auto refused = [](const wire_test::Image& image) {
    CHECK_THROWS_AS(decode<Eigen::MatrixXd>(image), brood::SerializationError);
  };
  refused(bytes(std::int64_t{-1}, std::int64_t{-1}, 1.0));
  refused(bytes(std::int64_t{-1}, std::int64_t{0}));
  refused(bytes(std::int64_t{2}, std::int64_t{1}, 1.0));
  refused(bytes(std::int64_t{1} << 32, std::int64_t{1} << 32, 1.0));
  refused(bytes(most, most, 1.0));
  refused(bytes(most, std::int64_t{1}, 1.0));
  using Small = Eigen::Matrix<char, Eigen::Dynamic, Eigen::Dynamic, 0, 2, 2>;
  CHECK_THROWS_AS(decode<Small>(bytes(std::int64_t{3}, std::int64_t{1}, 'a', 'b', 'c')), brood::SerializationError);
}
