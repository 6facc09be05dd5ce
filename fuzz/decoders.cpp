// SPDX-License-Identifier: MIT
// Every decoder that the library has: the first byte chooses a type, the rest is decoded as a value of it. What can be
// decoded is encoded again, decoded again, and must be the same.
#include <array>
#include <bitset>
#include <chrono>
#include <complex>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include <brood/wire/serializer.hpp>

#include "support.hpp"

namespace {

enum class Colour : std::uint8_t { red, green };
enum class Switch : bool { off, on };

struct Empty {};

struct Plain {
  std::int32_t number;
  double fraction;
  std::array<std::uint16_t, 3> few;
};

struct Mixed {
  std::string text;
  int grid[2][3];
  std::vector<std::string> words;
  std::optional<std::pair<bool, Colour>> maybe;
};

/// Made at once: no default constructor.
struct Sealed {
  struct Part {
    explicit Part(int n) : number(n) {}
    int number;
  };
  int first;
  std::string second;
};

struct Tree {
  int value;
  std::vector<Tree> children;
};

struct Chain {
  std::uint8_t value;
  std::unique_ptr<Chain> next;
};

/// As for cereal.
class Archived {
 public:
  template <class Archive>
  void serialize(Archive& archive) {
    archive(number_, words_, by_name_);
  }

 private:
  int number_ = 0;
  std::vector<std::string> words_;
  std::map<std::string, int> by_name_;
};

struct Bits {
  std::uint32_t low;
  float high;
};

class Own {
 public:
  Own() = default;
  std::vector<std::uint32_t> values;
};

}  // namespace

template <>
inline constexpr bool brood::bitwise<Bits> = true;

template <>
struct brood::Serializer<Own> {
  static void write(Writer& out, const Own& own) {
    out.count(own.values.size());
    for (const std::uint32_t each : own.values) out.number(each);
  }
  static Own read(Reader& in) {
    Own own;
    own.values.resize(in.count(sizeof(std::uint32_t)));
    for (std::uint32_t& each : own.values) each = in.number<std::uint32_t>();
    return own;
  }
};

namespace {

/// Memory that an empty one has.
template <class T>
inline constexpr std::size_t empty_size = 0;
template <class T>
inline constexpr std::size_t empty_size<std::deque<T>> = 512 + 64;

/// How many bytes of memory a T may take for each byte on the wire, beside its own sizeof. What is an element of its own
/// on the wire, a byte at least, becomes one in memory, and a vector that grows has its elements twice or thrice.
template <class T>
inline constexpr std::size_t cost = 16;
template <class T>
inline constexpr std::size_t element_cost =
    (3 * sizeof(T) + 64 + empty_size<T>) / std::max<std::size_t>(1, brood::detail::min_size<std::remove_cv_t<T>>()) + cost<T>;
template <class A, class B>
inline constexpr std::size_t cost<std::pair<A, B>> = std::max(cost<A>, cost<B>);
template <class T>
inline constexpr std::size_t cost<std::optional<T>> = cost<T>;
template <class... T>
inline constexpr std::size_t cost<std::variant<T...>> = std::max({cost<T>...});
template <class T>
inline constexpr std::size_t cost<std::unique_ptr<T>> = element_cost<T>;
template <class T>
  requires requires { typename T::value_type; typename T::allocator_type; } && (!std::is_arithmetic_v<typename T::value_type>)
inline constexpr std::size_t cost<T> = element_cost<typename T::value_type>;
template <>
inline constexpr std::size_t cost<Mixed> = cost<std::vector<std::string>>;
template <>
inline constexpr std::size_t cost<Archived> = cost<std::map<std::string, int>>;
template <>
inline constexpr std::size_t cost<Tree> = (3 * sizeof(Tree)) / 12 + 16;
template <>
inline constexpr std::size_t cost<Chain> = 2 * sizeof(Chain);
template <class T>
  requires std::is_arithmetic_v<T>
inline constexpr std::size_t cost<std::list<T>> = 16 + 64 / sizeof(T);
template <class T>
  requires std::is_arithmetic_v<T>
inline constexpr std::size_t cost<std::set<T>> = 16 + 64 / sizeof(T);
template <class T>
  requires std::is_arithmetic_v<T>
inline constexpr std::size_t cost<std::multiset<T>> = 16 + 64 / sizeof(T);

template <class T>
brood::detail::Bytes encode(const T& value) {
  brood::Writer out;
  out.value<T>(value);
  return std::move(out).take();
}

template <class T>
T decode(std::span<const std::byte> bytes) {
  brood::Reader in(bytes);
  T value = in.value<T>();
  in.finish();
  return value;
}

/// The order of a hashed container is its own, also inside of another.
template <class T>
inline constexpr bool hashed = requires(const T& value) { value.bucket_count(); };
template <class T>
inline constexpr bool hashed<std::vector<T>> = hashed<T>;

template <class T>
void check(std::span<const std::byte> bytes) {
  std::optional<T> value;
  {
    const fuzz::HeapWatch heap;
    try {
      value.emplace(decode<T>(bytes));
    } catch (const brood::SerializationError&) {
    }
    heap.require_at_most(cost<T> * bytes.size() + 4096, std::string(brood::detail::type_name<T>()));
  }
  if (!value) return;
  const auto once = encode(*value);
  const T again = decode<T>(once.view());
  if constexpr (hashed<T>) {
    fuzz::require(again == *value, "a value is another one when it has been out and back");
  } else {
    const auto twice = encode(again);
    fuzz::require(std::ranges::equal(once.view(), twice.view()), "a value is another one when it has been out and back");
  }
}

template <class... Ts>
struct Types {
  static_assert(((cost<Ts> <= 384) && ...), "a small multiple");
  static constexpr void (*checks[])(std::span<const std::byte>) = {&check<Ts>...};
};

// behind the last, not between: the seeds count on the order
using All = Types<bool, char, std::uint8_t, std::int64_t, double, long double, Colour, Switch, std::byte,  // 0
                  std::string, std::u16string, std::u32string, std::wstring,                               // 9
                  std::vector<std::uint8_t>, std::vector<bool>, std::vector<double>, std::vector<std::string>,  // 13
                  std::vector<std::vector<std::uint16_t>>, std::vector<std::optional<std::string>>, std::vector<Plain>,
                  std::deque<int>, std::list<std::uint8_t>, std::forward_list<std::string>,                // 20
                  std::set<int>, std::multiset<std::string>, std::map<std::string, int>, std::multimap<std::uint8_t, std::uint8_t>,
                  std::unordered_set<std::string>, std::unordered_multiset<int>, std::unordered_map<int, std::string>,
                  std::unordered_multimap<std::uint8_t, std::uint8_t>, std::map<int, std::map<int, std::vector<bool>>>,
                  std::array<int, 4>, std::array<std::string, 3>, std::array<int, 0>,                      // 32
                  std::pair<int, std::string>, std::tuple<>, std::tuple<bool, std::string, double>,
                  std::optional<int>, std::optional<std::optional<bool>>,
                  std::variant<std::monostate, int, std::string>, std::variant<std::vector<int>, bool>,    // 40
                  std::unique_ptr<int>, std::unique_ptr<std::string>,
                  std::chrono::nanoseconds, std::chrono::duration<double>, std::chrono::system_clock::time_point,
                  std::complex<float>, std::complex<double>, std::vector<std::complex<float>>,             // 47
                  std::bitset<3>, std::bitset<64>, std::bitset<100>, std::filesystem::path,
                  std::error_code, std::error_condition,                                                   // 54
                  Empty, std::vector<Empty>, Plain, Mixed, Sealed, Tree, Chain, Archived, Bits, std::vector<Bits>, Own,
                  std::vector<std::tuple<>>, std::vector<std::unique_ptr<Tree>>, std::deque<std::deque<std::uint8_t>>,
                  std::vector<std::variant<bool, std::string>>, std::list<std::list<int>>, std::vector<Mixed>,
                  std::set<std::vector<int>>, std::map<std::string, std::vector<Archived>>, std::multiset<double>,
                  std::vector<std::unordered_set<int>>, std::optional<std::vector<Own>>, std::vector<Switch>>;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size);
  const auto which = in.below(std::size(All::checks));
  All::checks[which](in.rest());
  return 0;
}
