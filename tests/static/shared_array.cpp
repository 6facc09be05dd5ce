// SPDX-License-Identifier: MIT
// What can be the element of a SharedArray, what converts to what, and where it can go.
#include <array>
#include <atomic>
#include <bitset>
#include <chrono>
#include <complex>
#include <cstddef>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <brood/wire/shared_array.hpp>

using brood::SharedArray;
using brood::Shareable;

namespace {

enum class Colour : unsigned char { red };
struct Padded {
  char tag;
  double value;
  std::array<int, 3> numbers;
  bool flags[5];
};
struct HoldsPointer {
  int count;
  const char* text;
};
struct HoldsHolder {
  std::optional<HoldsPointer> holder;
};
struct HoldsReference {
  int& reference;
};
struct HoldsText {
  std::string text;
};
struct Defaulted {
  int value = 5;
};
class Private {
 public:
  int value() const { return value_; }

 private:
  int value_ = 0;
};
class Declared : public Private {};
struct Handle {  // its bytes are not what it sends
  int* pointer;
};
union Union {
  int number;
  float real;
};
struct Empty {};
struct Incomplete;

using Reads = int (*)(const SharedArray<const int>& array);

}  // namespace

template <>
inline constexpr bool brood::bitwise<Declared> = true;
template <>
struct brood::Serializer<Handle> {
  static void write(brood::Writer& writer, const Handle& handle) { writer.value(*handle.pointer); }
  static Handle read(brood::Reader& reader) { return {new int(reader.value<int>())}; }
};

static_assert(Shareable<int> && Shareable<double> && Shareable<bool> && Shareable<long double> && Shareable<Colour>);
static_assert(Shareable<std::byte> && Shareable<char> && Shareable<const int>);
static_assert(Shareable<Padded> && Shareable<Defaulted> && Shareable<Empty> && Shareable<Declared>);
static_assert(Shareable<std::array<Padded, 2>> && Shareable<std::complex<double>> && Shareable<std::bitset<70>>);
static_assert(Shareable<std::optional<int>> && Shareable<std::variant<int, Padded>>);
static_assert(Shareable<std::chrono::nanoseconds> && Shareable<std::chrono::system_clock::time_point>);

static_assert(!Shareable<int*> && !Shareable<HoldsPointer> && !Shareable<HoldsHolder> && !Shareable<HoldsReference>);
static_assert(!Shareable<std::string> && !Shareable<HoldsText> && !Shareable<std::vector<int>> && !Shareable<std::unique_ptr<int>>);
static_assert(!Shareable<std::string_view> && !Shareable<std::span<int>> && !Shareable<std::optional<std::string_view>>);
static_assert(!Shareable<std::error_code> && !Shareable<void (*)()> && !Shareable<int Padded::*> && !Shareable<std::nullptr_t>);
static_assert(!Shareable<Private> && !Shareable<Handle> && !Shareable<Union> && !Shareable<std::atomic<int>>);
static_assert(!Shareable<Incomplete> && !Shareable<volatile int> && !Shareable<int&> && !Shareable<void>);
static_assert(!Shareable<SharedArray<int>>);

static_assert(std::ranges::contiguous_range<SharedArray<int>> && std::ranges::sized_range<const SharedArray<const int>>);
static_assert(!std::ranges::view<SharedArray<int>> && !std::ranges::borrowed_range<SharedArray<int>>);
static_assert(std::is_nothrow_move_constructible_v<SharedArray<int>> && std::is_nothrow_copy_constructible_v<SharedArray<int>>);
static_assert(std::is_same_v<decltype(std::declval<const SharedArray<int>&>()[0]), int&>);
static_assert(std::is_same_v<decltype(std::declval<SharedArray<const int>&>()[0]), const int&>);

// to read only: yes; to write: never again
static_assert(std::is_convertible_v<SharedArray<int>, SharedArray<const int>>);
static_assert(std::is_convertible_v<const SharedArray<int>&, SharedArray<const int>>);
static_assert(!std::is_constructible_v<SharedArray<int>, SharedArray<const int>>);
static_assert(!std::is_constructible_v<SharedArray<double>, SharedArray<int>>);
static_assert(!std::is_constructible_v<SharedArray<const double>, SharedArray<int>>);
static_assert(std::is_invocable_v<Reads, SharedArray<int>&>);
static_assert(!std::is_convertible_v<std::size_t, SharedArray<int>> && !std::is_convertible_v<std::vector<int>, SharedArray<int>>);
static_assert(std::is_constructible_v<SharedArray<int>, std::size_t> &&
              !std::is_constructible_v<SharedArray<const int>, std::size_t>);
static_assert(std::is_constructible_v<SharedArray<const int>, const std::vector<int>&>);
static_assert(std::is_convertible_v<const SharedArray<int>&, std::span<int>> &&
              std::is_convertible_v<const SharedArray<int>&, std::span<const int>> &&
              !std::is_convertible_v<const SharedArray<const int>&, std::span<int>>);
static_assert(std::is_same_v<decltype(std::declval<SharedArray<int>>().freeze()), SharedArray<const int>>);

static_assert(brood::Serializable<SharedArray<int>> && brood::Serializable<SharedArray<const Padded>>);
static_assert(brood::Serializable<std::tuple<int, std::vector<SharedArray<const double>>>>);
