// SPDX-License-Identifier: MIT
// internal
#pragma once

namespace brood::inline v0_1::detail {

/// A list of types.
template <class... Ts>
struct Types {};

/// Why a type can't be sent.
enum class Reason {
  none,
  void_type,
  reference,
  volatile_type,
  array,
  pointer,
  function,
  member_pointer,
  view,
  shared_pointer,
  deleter,
  array_pointer,
  sliced_pointer,
  lambda,
  function_object,
  abstract,
  polymorphic,
  union_type,
  base_class,
  bit_field,
  reference_member,
  uncountable,
  array_member,
  synchronisation,
  made_by_default,
  wrong_serializer,
  private_serialize,
  serialize_needs_default,
  bitwise_not_copyable,
  bitwise_padding,
  unknown_standard,
  incomplete,
  private_state,
};

template <Reason Why, class Culprit>
struct Refusal;

/// The answer to "can it be sent?": yes, or no, because of `Culprit`, which is the type itself or one inside it.
template <Reason Why, class Culprit>
struct Verdict {
  using Explained = Refusal<Why, Culprit>;
  static constexpr bool accepted = Why == Reason::none;
};

using Accepted = Verdict<Reason::none, void>;

/// By name: clang adds to a comparison that fails what its sides are.
template <Reason why, Reason reason>
inline constexpr bool is_not = why != reason;

/// Fails to compile, with words, unless the verdict is that of a type that can be sent. The compiler names `Culprit`
/// beside the words, and the type that was to be sent in the notes below them.
template <Reason Why, class Culprit>
struct Refusal {
  static_assert(is_not<Why, Reason::void_type>, "brood: void can't be sent: there is no value");
  static_assert(is_not<Why, Reason::reference>,
                "brood: a reference can't be sent: the other process has no such object. Send a value (take the "
                "parameter by value or by const&), or use ForkPolicy, whose closures see the host's objects");
  static_assert(is_not<Why, Reason::volatile_type>, "brood: a volatile type can't be sent: send a copy without volatile");
  static_assert(is_not<Why, Reason::array>,
                "brood: a C array can't be sent on its own, since it can't be returned: use std::array, std::vector or "
                "std::string (as a member of a struct it can)");
  static_assert(is_not<Why, Reason::pointer>,
                "brood: a raw pointer can't be sent: an address means nothing in another process. Send the value, a "
                "std::vector, a std::string for a const char*, or a std::unique_ptr when it is owned");
  static_assert(is_not<Why, Reason::function>,
                "brood: a function pointer can't be sent as a value: its address may differ in another process. Pass "
                "the function as the callable of submit or map, or send an enum that selects it");
  static_assert(is_not<Why, Reason::member_pointer>,
                "brood: a pointer to member can't be sent: send an enum or an index that selects the member");
  static_assert(is_not<Why, Reason::view>,
                "brood: a view can't be sent: what it looks at stays in this process. Send the owner: std::string for "
                "std::string_view, std::vector for std::span, the object for std::reference_wrapper");
  static_assert(is_not<Why, Reason::shared_pointer>,
                "brood: std::shared_ptr and std::weak_ptr can't be sent: a copy in another process would not be shared "
                "any more. Send the value, or a std::unique_ptr, and share it on arrival");
  static_assert(is_not<Why, Reason::deleter>,
                "brood: a std::unique_ptr with its own deleter can't be sent: how its object is made is not known "
                "here. Use std::default_delete, or write a brood::Serializer<T>");
  static_assert(is_not<Why, Reason::array_pointer>,
                "brood: a std::unique_ptr<T[]> can't be sent: it doesn't know its length. Use a std::vector<T>");
  static_assert(is_not<Why, Reason::sliced_pointer>,
                "brood: a std::unique_ptr to a polymorphic class can't be sent: the derived part would be cut off. Use "
                "a std::variant of the classes, or write a brood::Serializer<std::unique_ptr<T>>");
  static_assert(is_not<Why, Reason::lambda>,
                "brood: a lambda with captures can't be sent: its captures are private. Pass what it captures as "
                "arguments, write a struct with operator() and public members, or use ForkPolicy");
  static_assert(is_not<Why, Reason::function_object>,
                "brood: std::function, std::any and other types that hide what they hold can't be sent: write a struct "
                "with operator() and public members, or a std::variant");
  static_assert(is_not<Why, Reason::abstract>,
                "brood: an abstract class can't be sent: there is no value of it. Send a std::variant of the classes "
                "that derive from it");
  static_assert(is_not<Why, Reason::polymorphic>,
                "brood: a class with virtual functions can't be reflected, and an object of a derived class would be "
                "cut to this one. Write a brood::Serializer<T>, or send a std::variant of plain structs");
  static_assert(is_not<Why, Reason::union_type>,
                "brood: a union (or a struct with an anonymous one) can't be sent: which member is alive is not known "
                "here. Use a std::variant, or write a brood::Serializer<T>");
  static_assert(is_not<Why, Reason::base_class>,
                "brood: a struct with a base class can't be reflected: make the base a member, or write a "
                "brood::Serializer<T>");
  static_assert(is_not<Why, Reason::bit_field>,
                "brood: a struct with a bit-field can't be reflected: use ordinary members, or write `template <> "
                "inline constexpr bool brood::bitwise<T> = true;` or a brood::Serializer<T>");
  static_assert(is_not<Why, Reason::reference_member>,
                "brood: a struct with a reference member can't be sent: the other process has no such object. Hold a "
                "value, or write a brood::Serializer<T>");
  static_assert(is_not<Why, Reason::uncountable>,
                "brood: the members of this struct can't be counted for certain: there are more than 32, or one that "
                "can't be initialised in the usual ways. Group them in structs, or write a brood::Serializer<T>");
  static_assert(is_not<Why, Reason::array_member>,
                "brood: a struct with a C array can be read only when it can be default-made and its members assigned "
                "to: use std::array, or write a brood::Serializer<T>");
  static_assert(is_not<Why, Reason::synchronisation>,
                "brood: threads, locks, atomics, streams and futures can't be sent: they belong to this process. Send "
                "the values that they guard or produce");
  static_assert(
      is_not<Why, Reason::made_by_default>,
      "brood: the comparator, hasher or allocator of a container is made anew where it arrives, which this "
      "one can't be (a pointer, or not default-constructible): make it a functor type, or send a std::vector");
  static_assert(is_not<Why, Reason::wrong_serializer>,
                "brood: a specialisation of brood::Serializer<T> needs `static void write(brood::Writer&, const T&)` "
                "and `static T read(brood::Reader&)`");
  static_assert(is_not<Why, Reason::private_serialize>,
                "brood: this class has a serialize, save or load that can't be called from here: make it public, or "
                "include the header of the `access` class that it befriends before its first use");
  static_assert(is_not<Why, Reason::serialize_needs_default>,
                "brood: a class that is read by its serialize or load must be default-constructible: give it a "
                "default constructor, or write a brood::Serializer<T>");
  static_assert(is_not<Why, Reason::bitwise_not_copyable>,
                "brood: bitwise<T> is true for a type that is not trivially copyable: its bytes are not its value. "
                "Write a brood::Serializer<T>");
  static_assert(is_not<Why, Reason::bitwise_padding>,
                "brood: bitwise<T> is true for a struct with padding, whose bytes have no value: remove the "
                "specialisation (the struct is reflected without it), or fill the gap with a member");
  static_assert(is_not<Why, Reason::unknown_standard>,
                "brood: this type of the standard library is not known here: write a brood::Serializer<T>, or send "
                "what it is made of");
  static_assert(is_not<Why, Reason::incomplete>,
                "brood: this class is declared but not defined here: include the header that defines it");
  static_assert(is_not<Why, Reason::private_state>,
                "brood: a class with private members can't be reflected: write `template <> inline constexpr bool "
                "brood::bitwise<T> = true;` if its bytes are its value, or a brood::Serializer<T>, or give it a "
                "serialize member");
  static_assert(Why == Reason::none || Why <= Reason::private_state);
};

}  // namespace brood::detail
