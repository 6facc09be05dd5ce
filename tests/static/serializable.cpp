// SPDX-License-Identifier: MIT
// What can be sent, what can't, and that the concept answers without failing.
#include <any>
#include <array>
#include <atomic>
#include <bitset>
#include <chrono>
#include <complex>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <functional>
#include <future>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <optional>
#include <queue>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include <brood/wire/serializer.hpp>

using brood::Serializable;
using brood::detail::Reason;
using brood::detail::VerdictOn;

namespace {

template <class T, Reason Why, class Culprit = T>
concept Refused = !Serializable<T> && std::is_same_v<VerdictOn<T>, brood::detail::Verdict<Why, Culprit>>;

enum class Colour : unsigned char { red };
enum Unscoped { zero };
struct Empty {};
struct Point {
  double x, y;
};
struct Person {
  std::string name;
  int age = 0;
  std::optional<Point> home;
};
struct Tree {
  int value;
  std::vector<Tree> children;
  std::unique_ptr<Tree> next;
  std::map<std::string, Tree> named;
};
struct NoDefault {
  explicit NoDefault(int) {}
};
struct Private {
  int get() const { return value_; }

 private:
  int value_ = 0;
};
struct Vouched {
  explicit Vouched(int value) : value_(value) {}
  int value_;
};
struct Padded {
  char c;
  int i;
};
struct Text {
  std::string s;
};
struct Custom {
  explicit Custom(int* p) : pointer(p) {}
  int* pointer;
};
struct HalfCustom {};
struct OnlyWrite {};
class Hidden {
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value_);
  }
  int value_ = 0;
};
struct Archived {
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value_);
  }

 private:
  int value_ = 0;
};
struct ArchivedNoDefault {
  explicit ArchivedNoDefault(int value) : value_(value) {}
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value_);
  }

 private:
  int value_;
};
struct Base {
  int a;
};
struct Derived : Base {
  int b;
};
struct DerivedFromEmpty : Empty {
  int b;
};
struct Bits {
  int a : 3;
  int b;
};
struct HoldsReference {
  int& a;
};
struct HoldsConstReference {
  int a;
  const std::string& b;
};
union Union {
  int a;
  float b;
};
struct HoldsUnion {
  Union u;
};
struct HoldsNamelessUnion {
  int kind;
  union {
    int a;
    float b;
  };
};
struct HoldsView {
  int a;
  std::string_view view;
};
struct HoldsPointer {
  Person person;
  std::vector<const char*> names;
};
struct Virtual {
  virtual ~Virtual() = default;
};
struct Abstract {
  virtual ~Abstract() = default;
  virtual void run() = 0;
};
struct VirtualArchived {
  virtual ~VirtualArchived() = default;
  template <class Archive>
  void serialize(Archive&) {}
};
struct FinalArchived final {
  virtual ~FinalArchived() = default;
  template <class Archive>
  void serialize(Archive&) {}
};
struct Incomplete;
struct Many {
  int a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21, a22, a23, a24,
      a25, a26, a27, a28, a29, a30, a31, a32, a33;
};
struct UserView : std::ranges::view_base {
  explicit UserView(const int* p) : p_(p) {}
  const int* begin() const { return p_; }

 private:
  const int* p_;
};
struct TupleLike {
  int a, b;
};
using Lambda = decltype([](int captured) { return [captured] { return captured; }; }(1));
using Captureless = decltype([] { return 3; });
struct FreeDeleter {
  void operator()(int* p) const { delete p; }
};

}  // namespace

template <>
struct std::tuple_size<TupleLike> : std::integral_constant<std::size_t, 1> {};
template <>
struct std::tuple_element<0, TupleLike> {
  using type = int;
};

template <>
inline constexpr bool brood::bitwise<Vouched> = true;
template <>
inline constexpr bool brood::bitwise<Padded> = true;
template <>
inline constexpr bool brood::bitwise<Text> = true;

template <>
struct brood::Serializer<Custom> {
  static void write(Writer&, const Custom&) {}
  static Custom read(Reader&) { return Custom(nullptr); }
};
template <>
struct brood::Serializer<HalfCustom> : brood::Serializer<int> {};
template <>
struct brood::Serializer<OnlyWrite> {
  static void write(Writer&, const OnlyWrite&) {}
};

// known types
static_assert(Serializable<int> && Serializable<bool> && Serializable<long double> && Serializable<char8_t>);
static_assert(Serializable<const int> && Serializable<const std::string>);
static_assert(Serializable<Colour> && Serializable<Unscoped> && Serializable<std::byte>);
static_assert(Serializable<std::string> && Serializable<std::wstring> && Serializable<std::u8string> &&
              Serializable<std::u16string> && Serializable<std::u32string>);
static_assert(Serializable<std::vector<int>> && Serializable<std::vector<bool>> && Serializable<std::deque<Person>>);
static_assert(Serializable<std::list<int>> && Serializable<std::forward_list<int>> &&
              Serializable<std::array<Tree, 2>>);
static_assert(Serializable<std::map<int, Tree>> && Serializable<std::multimap<int, int>>);
static_assert(Serializable<std::set<int>> && Serializable<std::multiset<int, std::greater<>>>);
static_assert(Serializable<std::unordered_map<std::string, int>> && Serializable<std::unordered_set<int>>);
static_assert(Serializable<std::unordered_multimap<int, int>> && Serializable<std::unordered_multiset<int>>);
static_assert(Serializable<std::pair<const int, std::string>> && Serializable<std::tuple<>>);
static_assert(Serializable<std::tuple<int, std::tuple<std::string>>>);
static_assert(Serializable<std::optional<std::unique_ptr<int>>> && Serializable<std::variant<std::monostate, int>>);
static_assert(Serializable<std::unique_ptr<int>> && Serializable<std::unique_ptr<const int>>);
static_assert(Serializable<std::chrono::milliseconds> && Serializable<std::chrono::system_clock::time_point>);
static_assert(Serializable<std::complex<double>> && Serializable<std::bitset<70>>);
static_assert(Serializable<std::filesystem::path> && Serializable<std::error_code> &&
              Serializable<std::error_condition>);
static_assert(Serializable<std::pmr::vector<std::pmr::string>>);

// structs
static_assert(Serializable<Empty> && Serializable<Point> && Serializable<Person> && Serializable<Tree>);
static_assert(Serializable<Custom> && Serializable<std::vector<Custom>> && Serializable<Archived>);
static_assert(Serializable<Vouched> && Serializable<std::unique_ptr<FinalArchived>> && Serializable<VirtualArchived>);
static_assert(Serializable<std::less<>> && Serializable<Captureless>);

// copied at once, because the bytes are the value: a struct without a gap, but none with one
static_assert(brood::detail::bulk<Point>() && brood::detail::bulk<std::array<Point, 3>>());
static_assert(brood::detail::bulk<std::complex<float>>() && brood::detail::bulk<Vouched>());
static_assert(brood::detail::bulk<std::chrono::seconds>() && brood::detail::bulk<Colour>());
static_assert(!brood::detail::bulk<bool>() && !brood::detail::bulk<long double>() && !brood::detail::bulk<Person>());

// refused
static_assert(Refused<void, Reason::void_type>);
static_assert(Refused<int&, Reason::reference> && Refused<int&&, Reason::reference>);
static_assert(Refused<volatile int, Reason::volatile_type>);
static_assert(Refused<int[3], Reason::array>);
static_assert(Refused<int*, Reason::pointer> && Refused<const char*, Reason::pointer>);
static_assert(Refused<std::vector<int*>, Reason::pointer, int*>);
static_assert(Refused<HoldsPointer, Reason::pointer, const char*>);
static_assert(Refused<std::nullptr_t, Reason::pointer>);
static_assert(Refused<void (*)(int), Reason::function> && Refused<int Point::*, Reason::member_pointer>);
static_assert(Refused<std::string_view, Reason::view> && Refused<std::span<int>, Reason::view>);
static_assert(Refused<HoldsView, Reason::view, std::string_view>);
static_assert(Refused<std::tuple<int, int&>, Reason::reference, int&>);
static_assert(Refused<std::reference_wrapper<int>, Reason::view> && Refused<std::initializer_list<int>, Reason::view>);
static_assert(Refused<UserView, Reason::view>);
static_assert(Refused<std::shared_ptr<int>, Reason::shared_pointer> &&
              Refused<std::vector<std::weak_ptr<int>>, Reason::shared_pointer, std::weak_ptr<int>>);
static_assert(Refused<std::unique_ptr<int, FreeDeleter>, Reason::deleter>);
static_assert(Refused<std::unique_ptr<int[]>, Reason::array_pointer>);
static_assert(Refused<std::unique_ptr<Virtual>, Reason::sliced_pointer, Virtual>);
static_assert(Refused<std::unique_ptr<VirtualArchived>, Reason::sliced_pointer, VirtualArchived>);
static_assert(Refused<Lambda, Reason::lambda>);
static_assert(Refused<std::function<void()>, Reason::function_object> && Refused<std::any, Reason::function_object>);
static_assert(Refused<Abstract, Reason::abstract> && Refused<Virtual, Reason::polymorphic>);
static_assert(Refused<Union, Reason::union_type> && Refused<HoldsUnion, Reason::union_type, Union>);
static_assert(Refused<HoldsNamelessUnion, Reason::union_type>);
static_assert(Refused<Derived, Reason::base_class> && Refused<DerivedFromEmpty, Reason::base_class>);
static_assert(Refused<Bits, Reason::bit_field>);
static_assert(Refused<HoldsReference, Reason::reference_member> &&
              Refused<HoldsConstReference, Reason::reference_member>);
static_assert(Refused<Many, Reason::uncountable> && Refused<TupleLike, Reason::uncountable>);
static_assert(Refused<std::mutex, Reason::synchronisation> && Refused<std::thread, Reason::synchronisation>);
static_assert(Refused<std::atomic<int>, Reason::synchronisation> && Refused<std::ostream, Reason::synchronisation>);
static_assert(Refused<std::ostringstream, Reason::synchronisation>);
static_assert(Refused<std::future<int>, Reason::synchronisation> &&
              Refused<std::unique_lock<std::mutex>, Reason::synchronisation> &&
              Refused<std::condition_variable, Reason::synchronisation>);
static_assert(Refused<std::set<int, bool (*)(int, int)>, Reason::made_by_default, bool (*)(int, int)>);
static_assert(Refused<OnlyWrite, Reason::wrong_serializer> && Refused<HalfCustom, Reason::wrong_serializer>);
static_assert(Refused<Hidden, Reason::private_serialize>);
static_assert(Refused<ArchivedNoDefault, Reason::serialize_needs_default>);
static_assert(Refused<Text, Reason::bitwise_not_copyable> && Refused<Padded, Reason::bitwise_padding>);
static_assert(Refused<std::queue<int>, Reason::unknown_standard>);
static_assert(Refused<Incomplete, Reason::incomplete> &&
              Refused<std::unique_ptr<Incomplete>, Reason::incomplete, Incomplete>);
static_assert(Refused<Private, Reason::private_state> && Refused<NoDefault, Reason::private_state>);
static_assert(Refused<std::map<int, std::optional<Private>>, Reason::private_state, Private>);
