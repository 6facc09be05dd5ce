// SPDX-License-Identifier: MIT
// Types written for cereal or Boost.Serialization. What is needed of those libraries is imitated here.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <unordered_map>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <brood/wire/archive_functions.hpp>

#include "round_trip.hpp"

namespace cereal {

class access {
 public:
  template <class Archive, class T>
  static auto member_serialize(Archive& archive, T& value) -> decltype(value.serialize(archive)) {
    return value.serialize(archive);
  }
  template <class Archive, class T>
  static auto member_save(Archive& archive, const T& value) -> decltype(value.save(archive)) {
    return value.save(archive);
  }
  template <class Archive, class T>
  static auto member_load(Archive& archive, T& value) -> decltype(value.load(archive)) {
    return value.load(archive);
  }
};

template <class T>
class NameValuePair {
 public:
  NameValuePair(const char* n, T v) : name(n), value(v) {}
  const char* name;
  T value;
};
template <class T>
NameValuePair<T&> make_nvp(const char* name, T& value) {
  return {name, value};
}

template <class T>
struct SizeTag {
  explicit SizeTag(T s) : size(s) {}
  T size;
};

template <class Base>
struct base_class {
  template <class Derived>
  explicit base_class(const Derived* derived) : base_ptr(const_cast<Base*>(static_cast<const Base*>(derived))) {}
  Base* base_ptr;
};

template <class T>
struct BinaryData {
  BinaryData(T d, std::uint64_t s) : data(d), size(s) {}
  T data;
  std::uint64_t size;
};

namespace detail {

struct Versions {
  std::unordered_map<std::size_t, std::uint32_t> mapping;
};
template <class T>
class StaticObject {
 public:
  static T& getInstance() {
    static T object;
    return object;
  }
};

}  // namespace detail
}  // namespace cereal

namespace boost::serialization {

class access {
 public:
  template <class Archive, class T>
  static void serialize(Archive& archive, T& value, const unsigned version) {
    value.serialize(archive, version);
  }
};

template <class T>
struct version {
  static constexpr unsigned value = 0;
};

template <class T>
class nvp : public std::pair<const char*, T*> {
 public:
  nvp(const char* name, T& value) : std::pair<const char*, T*>(name, &value) {}
  const char* name() const { return this->first; }
  T& value() const { return *this->second; }
};
template <class T>
const nvp<T> make_nvp(const char* name, T& value) {
  return {name, value};
}

template <class Base, class Derived>
Base& base_object(Derived& derived) {
  return derived;
}

template <class Archive, class T>
void split_member(Archive& archive, T& value, const unsigned version) {
  if constexpr (Archive::is_saving::value) {
    std::as_const(value).save(archive, version);
  } else {
    value.load(archive, version);
  }
}

}  // namespace boost::serialization

using brood::Serializable;
using wire_test::check_round_trip;
using wire_test::decode;
using wire_test::encode;

namespace shop {

class Member {
 public:
  Member() = default;
  Member(int a, std::string b) : a_(a), b_(std::move(b)) {}
  bool operator==(const Member&) const = default;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(a_, b_);
  }

 private:
  int a_ = 0;
  std::string b_;
};

class Versioned {
 public:
  Versioned() = default;
  Versioned(int a, std::vector<int> b) : a_(a), b_(std::move(b)) {}
  bool operator==(const Versioned&) const = default;
  template <class Archive>
  void serialize(Archive& archive, const unsigned version) {
    archive & a_ & b_;
    if (version != 0) throw 1;
  }

 private:
  int a_ = 0;
  std::vector<int> b_;
};

class Registered {
 public:
  explicit Registered(int a = 0, int b = 0) : a_(a), b_(b) {}
  bool operator==(const Registered&) const = default;
  template <class Archive>
  void serialize(Archive& archive, const unsigned version) {
    archive & a_;
    if (version >= 2) archive & b_;
  }

 private:
  int a_;
  int b_;
};

class Split {
 public:
  explicit Split(int a = 0) : a_(a) {}
  bool operator==(const Split&) const = default;
  template <class Archive>
  void save(Archive& archive) const {
    archive << a_ << std::string("extra");
  }
  template <class Archive>
  void load(Archive& archive) {
    std::string extra;
    archive >> a_ >> extra;
  }

 private:
  int a_;
};

class SplitVersioned {
 public:
  explicit SplitVersioned(int a = 0) : a_(a) {}
  bool operator==(const SplitVersioned&) const = default;
  template <class Archive>
  void save(Archive& archive, const std::uint32_t) const {
    archive(a_);
  }
  template <class Archive>
  void load(Archive& archive, const std::uint32_t) {
    archive(a_);
  }

 private:
  int a_;
};

struct Free {
  Free() = default;
  explicit Free(int a) : value(a) {}
  bool operator==(const Free&) const = default;
  int value = 0;
  int* cache = nullptr;
};
template <class Archive>
void serialize(Archive& archive, Free& free) {
  archive(free.value);
}

struct FreeVersioned {
  FreeVersioned() = default;
  explicit FreeVersioned(int a) : value(a) {}
  bool operator==(const FreeVersioned&) const = default;
  int value = 0;
};
template <class Archive>
void serialize(Archive& archive, FreeVersioned& free, const unsigned) {
  archive & free.value;
}

struct FreeSplit {
  FreeSplit() = default;
  explicit FreeSplit(int a) : value(a) {}
  bool operator==(const FreeSplit&) const = default;
  int value = 0;
};
template <class Archive>
void save(Archive& archive, const FreeSplit& free) {
  archive(free.value);
}
template <class Archive>
void load(Archive& archive, FreeSplit& free) {
  archive(free.value);
}

class CerealFriend {
 public:
  explicit CerealFriend(int a = 0) : a_(a) {}
  bool operator==(const CerealFriend&) const = default;

 private:
  friend class cereal::access;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(a_);
  }
  int a_;
};

class CerealSplitFriend {
 public:
  explicit CerealSplitFriend(int a = 0) : a_(a) {}
  bool operator==(const CerealSplitFriend&) const = default;

 private:
  friend class cereal::access;
  template <class Archive>
  void save(Archive& archive) const {
    archive(a_);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(a_);
  }
  int a_;
};

class BoostFriend {
 public:
  explicit BoostFriend(int a = 0) : a_(a) {}
  bool operator==(const BoostFriend&) const = default;

 private:
  friend class boost::serialization::access;
  template <class Archive>
  void serialize(Archive& archive, const unsigned) {
    archive & a_;
  }
  int a_;
};

class BoostSplit {
 public:
  explicit BoostSplit(int a = 0) : a_(a) {}
  bool operator==(const BoostSplit&) const = default;
  template <class Archive>
  void save(Archive& archive, const unsigned) const {
    archive & a_;
  }
  template <class Archive>
  void load(Archive& archive, const unsigned) {
    archive & a_;
  }
  template <class Archive>
  void serialize(Archive& archive, const unsigned version) {
    boost::serialization::split_member(archive, *this, version);
  }

 private:
  int a_;
};

class Named {
 public:
  Named() = default;
  Named(int a, std::string b) : a_(a), b_(std::move(b)) {}
  bool operator==(const Named&) const = default;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(cereal::make_nvp("a", a_), cereal::make_nvp("b", b_));
    archive& boost::serialization::make_nvp("c", c_);
  }

 private:
  int a_ = 0;
  std::string b_;
  int c_[3] = {1, 2, 3};
};

// looks like a pair of name and value, but is a value of its own
struct Labelled {
  std::string name;
  int value = 0;
  bool operator==(const Labelled&) const = default;
};
class HoldsLabelled {
 public:
  HoldsLabelled() = default;
  explicit HoldsLabelled(Labelled a) : a_(std::move(a)) {}
  bool operator==(const HoldsLabelled&) const = default;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(a_);
  }

 private:
  Labelled a_;
};

class Shape {
 public:
  explicit Shape(int colour = 0) : colour_(colour) {}
  virtual ~Shape() = default;
  virtual int corners() const = 0;
  bool operator==(const Shape&) const = default;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(colour_);
  }

 private:
  int colour_;
};
class Square final : public Shape {
 public:
  explicit Square(int colour = 0, int side = 0) : Shape(colour), side_(side) {}
  int corners() const override { return 4; }
  bool operator==(const Square&) const = default;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(cereal::base_class<Shape>(this), side_);
  }

 private:
  int side_;
};
class Triangle final : public Shape {
 public:
  explicit Triangle(int colour = 0, int side = 0) : Shape(colour), side_(side) {}
  int corners() const override { return 3; }
  bool operator==(const Triangle&) const = default;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& boost::serialization::base_object<Shape>(*this);
    archive & side_;
  }

 private:
  int side_;
};

// a container and a buffer of its own
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::vector<std::uint16_t> data) : data_(std::move(data)) {}
  bool operator==(const Buffer&) const = default;
  template <class Archive>
  void save(Archive& archive) const {
    archive(cereal::SizeTag<std::size_t>(data_.size()));
    archive(cereal::BinaryData<const std::uint16_t*>(data_.data(), data_.size() * 2));
  }
  template <class Archive>
  void load(Archive& archive) {
    std::size_t size = 0;
    archive(cereal::SizeTag<std::size_t&>(size));
    data_.resize(size);
    archive(cereal::BinaryData<std::uint16_t*>(data_.data(), data_.size() * 2));
  }

 private:
  std::vector<std::uint16_t> data_;
};

class List {
 public:
  List() = default;
  explicit List(int length) : value_(length) {
    if (length > 1) next_ = std::make_unique<List>(length - 1);
  }
  int length() const { return next_ ? next_->length() + 1 : 1; }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value_, next_);
  }

 private:
  int value_ = 0;
  std::unique_ptr<List> next_;
};

// functions of the same names for other purposes
struct Saver {
  int a = 0;
  void save(const std::string&) const {}
  void load(const std::string&) {}
  void serialize(int) {}
  bool operator==(const Saver&) const = default;
};

}  // namespace shop

template <>
struct boost::serialization::version<shop::Registered> {
  static constexpr unsigned value = 2;
};

TEST_CASE("Serializer<T> takes a serialize or save and load as it is") {
  check_round_trip(shop::Member(1, "one"));
  check_round_trip(shop::Versioned(1, {2, 3}));
  check_round_trip(shop::Split(5));
  check_round_trip(shop::SplitVersioned(5));
  check_round_trip(shop::Free(5));
  check_round_trip(shop::FreeVersioned(5));
  check_round_trip(shop::FreeSplit(5));
  check_round_trip(std::map<int, std::vector<shop::Member>>{{1, {shop::Member(1, "x")}}});
}

TEST_CASE("Serializer<T> calls private functions through the befriended class") {
  check_round_trip(shop::CerealFriend(5));
  check_round_trip(shop::CerealSplitFriend(5));
  check_round_trip(shop::BoostFriend(5));
}

TEST_CASE("Serializer<T> understands what is passed to an archive") {
  check_round_trip(shop::BoostSplit(5));
  check_round_trip(shop::Named(5, "five"));
  check_round_trip(shop::HoldsLabelled({"name", 5}));
  check_round_trip(shop::Square(1, 2));
  check_round_trip(shop::Triangle(1, 2));
  check_round_trip(shop::Buffer({1, 2, 3}));
  CHECK_THROWS_AS(static_cast<void>(decode<shop::Buffer>(wire_test::bytes(std::uint64_t{1} << 40, 1, 2))),
                  brood::SerializationError);
}

TEST_CASE("Serializer<T> passes the version with which a type is registered") {
  check_round_trip(shop::Registered(1, 2));
  CHECK(brood::detail::version_of<shop::Registered>() == 2);
  CHECK(brood::detail::version_of<shop::Versioned>() == 0);
  cereal::detail::StaticObject<cereal::detail::Versions>::getInstance()
      .mapping[typeid(shop::FreeVersioned).hash_code()] = 7;
  CHECK(brood::detail::version_of<shop::FreeVersioned>() == 7);
}

TEST_CASE("Serializer<T> counts the levels of archives") {
  const int deepest = brood::Reader::max_depth / 2;  // a List and its pointer are two
  CHECK(decode<shop::List>(encode(shop::List(deepest))).length() == deepest);
  CHECK_THROWS_AS(static_cast<void>(encode(shop::List(deepest + 1))), brood::SerializationError);
}

TEST_CASE("Serializer<T> ignores functions that take no archive") {
  static_assert(!brood::detail::HasArchiveFunctions<shop::Saver>);
  check_round_trip(shop::Saver{3});
  static_assert(Serializable<shop::Square> && !Serializable<shop::Shape>);
}
