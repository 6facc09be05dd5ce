// SPDX-License-Identifier: MIT
// The code of docs/guide/own-types.md, run.
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

struct Point {
  double x = 0;
  double y = 0;
};
struct Track {
  std::string name;
  std::vector<Point> points;
};

Track reversed(Track track) { return {track.name, {track.points.rbegin(), track.points.rend()}}; }

//! [bitwise]
class Color {
 public:
  Color() = default;
  explicit Color(unsigned rgb) : rgb_(rgb) {}
  unsigned rgb() const { return rgb_; }

 private:
  unsigned rgb_ = 0;
};

template <>
inline constexpr bool brood::bitwise<Color> = true;
//! [bitwise]

class Image {
 public:
  Image(std::size_t width, std::vector<float> pixels) : width_(width), pixels_(std::move(pixels)) {
    if (width_ == 0 || pixels_.size() % width_ != 0) throw std::invalid_argument("the last row of the image is not full");
  }
  std::size_t width() const { return width_; }
  const std::vector<float>& pixels() const { return pixels_; }

 private:
  std::size_t width_;
  std::vector<float> pixels_;
};

//! [Serializer]
template <>
struct brood::Serializer<Image> {
  static void write(Writer& writer, const Image& image) {
    writer.value(image.width());
    writer.value(image.pixels());
  }
  static Image read(Reader& reader) {
    const auto width = reader.value<std::size_t>();
    auto pixels = reader.value<std::vector<float>>();
    if (width == 0 || pixels.size() % width != 0) Reader::fail("the last row of an image is not full");
    return Image(width, std::move(pixels));
  }
};
//! [Serializer]

class Account {
 public:
  Account() = default;
  explicit Account(std::string owner) : owner_(std::move(owner)) {}
  const std::string& owner() const { return owner_; }

  template <class Archive>
  void serialize(Archive& archive) {
    archive(owner_, cents_);
  }

 private:
  std::string owner_;
  long cents_ = 0;
};

/// What a code generator makes, in the manner of protobuf.
class Message {
 public:
  void set_text(std::string text) { text_ = std::move(text); }
  const std::string& text() const { return text_; }
  std::string SerializeAsString() const { return text_; }
  bool ParseFromArray(const void* data, int size) {
    text_.assign(static_cast<const char*>(data), static_cast<std::size_t>(size));
    return true;
  }

 private:
  std::string text_;
};

template <class M>
concept Generated = requires(M message) {
  message.SerializeAsString();
  message.ParseFromArray("", 0);
};

template <Generated M>
struct brood::Serializer<M> {
  static void write(Writer& writer, const M& message) { writer.text(message.SerializeAsString()); }
  static M read(Reader& reader) {
    const std::string_view bytes = reader.text();
    M message;
    if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) Reader::fail("this is no such message");
    return message;
  }
};

#if __has_include(<cereal/cereal.hpp>)
#include <cereal/types/polymorphic.hpp>
#include <cereal/types/vector.hpp>

#include <brood/types/cereal.hpp>  // before CEREAL_REGISTER_TYPE

//! [cereal]
struct Shape {
  virtual ~Shape() = default;
  virtual double area() const = 0;
};
struct Square : Shape {
  double side = 1;
  double area() const override { return side * side; }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(side);
  }
};
CEREAL_REGISTER_TYPE(Square)
CEREAL_REGISTER_POLYMORPHIC_RELATION(Shape, Square)

using Shapes = std::vector<std::shared_ptr<Shape>>;
template <>
struct brood::Serializer<Shapes> : brood::CerealSerializer<Shapes> {};
//! [cereal]
#endif

#if __has_include(<nlohmann/json.hpp>)
#include <brood/types/json.hpp>

//! [json]
nlohmann::json signed_by(nlohmann::json letter, const std::string& name) {
  letter["from"] = name;
  return letter;
}
//! [json]
#endif

#if __has_include(<Eigen/Core>)
#include <brood/types/eigen.hpp>

//! [Eigen]
Eigen::VectorXd row_sums(const Eigen::MatrixXd& matrix) { return matrix.rowwise().sum(); }
//! [Eigen]
#endif

#if __has_include(<msgpack.hpp>)
#include <brood/types/msgpack.hpp>

//! [MessagePack]
class Order {
 public:
  int items() const { return items_; }
  MSGPACK_DEFINE(items_)

 private:
  int items_ = 3;
};

template <>
struct brood::Serializer<Order> : brood::MsgpackSerializer<Order> {};
//! [MessagePack]
#endif

namespace {

int failures = 0;

void check(bool good, const char* what) {
  if (good) return;
  std::printf("wrong: %s\n", what);
  ++failures;
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);

  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  check(pool.submit(&reversed, Track{"a", {{1, 2}, {3, 4}}}).get().points[0].x == 3, "Track");
  check(pool.submit([](Color c) { return Color(c.rgb() / 2); }, Color(8)).get().rgb() == 4, "Color");
  check(pool.submit([](Image i) { return Image(1, i.pixels()); }, Image(2, {1, 2})).get().width() == 1, "Image");
  check(pool.submit([](Account a) { return a; }, Account("Ana")).get().owner() == "Ana", "Account");
  Message hello;
  hello.set_text("hello");
  check(pool.submit([](Message m) { return m; }, hello).get().text() == "hello", "Message");
#if __has_include(<cereal/cereal.hpp>)
  const auto square = std::make_shared<Square>();
  check(pool.submit([](Shapes s) { return s.at(0) == s.at(1) && s[0]->area() == 1; }, Shapes{square, square}).get(), "Shapes");
#endif
#if __has_include(<nlohmann/json.hpp>)
  check(pool.submit(&signed_by, nlohmann::json{{"to", "Ben"}}, "Ana").get()["from"] == "Ana", "json");
#endif
#if __has_include(<Eigen/Core>)
  check(pool.submit(&row_sums, Eigen::MatrixXd(Eigen::MatrixXd::Ones(2, 3))).get()[1] == 3, "MatrixXd");
#endif
#if __has_include(<msgpack.hpp>)
  check(pool.submit([](Order o) { return o; }, Order()).get().items() == 3, "Order");
#endif
  return failures;
}
