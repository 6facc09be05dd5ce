// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/pool/outcome.hpp>
#include <brood/wire/serializer.hpp>

namespace brood::inline v0_1::detail {

/// Whether values of R are collected in an array of nothing but values: they are made of bytes, and cost nothing to make.
template <class R>
consteval bool collected_plain() {
  if constexpr (std::is_void_v<R>) {
    return false;
  } else {
    return bulk<R>() && std::is_trivially_copyable_v<R> && std::is_trivially_default_constructible_v<R>;
  }
}

/// What has become of the items of a map so far, by their index in the range.
template <class R>
class MapResults {
 public:
  static constexpr bool plain = false;

  std::size_t size() const noexcept { return all_.size(); }
  void reserve(std::size_t) {}  // an Outcome is large, and the range may be longer than what is asked of it
  void grow_to(std::size_t size) {
    if (size > all_.size()) all_.resize(size);
  }

  /// Takes a result. Throws what decoding throws.
  void store(std::size_t index, Reader& item) {
    if constexpr (std::is_void_v<R>) {
      all_[index].emplace();
    } else {
      R value = item.value<R>();
      item.finish();
      all_[index].emplace(std::move(value));
    }
  }
  void fail(std::size_t index, const Failure& failure) { all_[index].emplace(failure); }
  const Failure& failure(std::size_t index) const { return all_[index]->failure(); }

  /// Every item has a result.
  std::vector<Outcome<R>> outcomes() && {
    std::vector<Outcome<R>> result;
    result.reserve(all_.size());
    for (auto& each : all_) result.push_back(std::move(*each));
    return result;
  }
  /// Every item has a value.
  auto values() && {
    if constexpr (!std::is_void_v<R>) {
      std::vector<R> result;
      result.reserve(all_.size());
      for (auto& each : all_) result.push_back(std::move(*each).value());
      return result;
    }
  }

 private:
  std::vector<std::optional<Outcome<R>>> all_;
};

/// The same where a value is nothing but bytes: failures, of which there are few, are kept apart.
template <class R>
  requires(collected_plain<R>())
class MapResults<R> {
 public:
  static constexpr bool plain = true;

  std::size_t size() const noexcept { return values_.size(); }
  void reserve(std::size_t size) { values_.reserve(std::min(size, most_reserved)); }
  void grow_to(std::size_t size) {
    if (size > values_.size()) values_.resize(size);
  }

  /// Takes results of items from `index` on, at most `count`, up to the first that is not the bytes of a value. Returns how
  /// many there were.
  std::uint32_t store_run(std::size_t index, std::uint32_t count, Reader& in) {
    constexpr std::uint64_t word_of_value = std::uint64_t{sizeof(R)} << 1;
    constexpr std::size_t each = sizeof word_of_value + sizeof(R);
    const std::size_t here = std::min<std::size_t>(count, in.remaining() / each);
    Reader ahead = in;
    const std::byte* at = ahead.raw(here * each).data();
    std::uint32_t taken = 0;
    for (; taken < here; ++taken, at += each) {
      std::uint64_t word;
      std::memcpy(&word, at, sizeof word);
      if (word != word_of_value) break;
      std::memcpy(&values_[index + taken], at + sizeof word, sizeof(R));
    }
    in.raw(taken * each);
    return taken;
  }
  void store(std::size_t index, Reader& item) {
    values_[index] = item.value<R>();
    item.finish();
  }
  void fail(std::size_t index, const Failure& failure) { failures_.insert_or_assign(index, failure); }
  const Failure& failure(std::size_t index) const { return failures_.at(index); }

  std::vector<Outcome<R>> outcomes() && {
    std::vector<Outcome<R>> result;
    result.reserve(values_.size());
    auto failed = failures_.begin();
    for (std::size_t index = 0; index < values_.size(); ++index) {
      if (failed != failures_.end() && failed->first == index) {
        result.emplace_back((failed++)->second);
      } else {
        result.emplace_back(values_[index]);
      }
    }
    return result;
  }
  std::vector<R> values() && { return std::move(values_); }

 private:
  static constexpr std::size_t most_reserved = (std::size_t{64} << 20) / sizeof(R) + 1;  ///< what is longer grows

  std::vector<R> values_;
  std::map<std::size_t, Failure> failures_;
};

}  // namespace brood::detail
