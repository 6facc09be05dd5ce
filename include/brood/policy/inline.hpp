// SPDX-License-Identifier: MIT
#pragma once

#include <cxxabi.h>

#include <concepts>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <brood/core/errors.hpp>
#include <brood/core/type_name.hpp>
#include <brood/wire/writer.hpp>
#include <brood/worker/context.hpp>
#include <brood/worker/preload.hpp>
#include <brood/worker/standard_exceptions.hpp>

namespace brood::inline v0_1 {
namespace detail {

/// Preloads that a pool without a server has built itself. They end with it, the last one first.
class OwnPreloads {
 public:
  OwnPreloads() = default;
  OwnPreloads(const OwnPreloads&) = delete;
  OwnPreloads& operator=(const OwnPreloads&) = delete;
  ~OwnPreloads() {
    for (; !ends_.empty(); ends_.pop_back(), built_.pop_back()) {
      if (ends_.back() != nullptr) ends_.back()(built_.back().object);
    }
  }

  /// Throws PreloadError. It may use those before it.
  template <class T>
  void build(const PreloadArgs<T>& args) {
    TaskContext context;
    context.preloaded = &built_;
    const ContextScope scope(context);
    const void* object = nullptr;
    built_.reserve(built_.size() + 1);
    ends_.reserve(ends_.size() + 1);
    try {
      Reader in = Reader::of_call(std::as_bytes(std::span(args.arguments())));
      object = args.build()(in);
    } catch (const abi::__forced_unwind&) {
      throw;
    } catch (...) {
      refuse(std::string(type_name<T>()), std::current_exception());
    }
    built_.push_back({type_name<T>(), type_key<T>(), object, nullptr});
    if constexpr (std::destructible<T>) {
      ends_.push_back([](const void* each) { std::default_delete<const T>()(static_cast<const T*>(each)); });
    } else {
      ends_.push_back(nullptr);
    }
  }

  const std::vector<PreloadedObject>& all() const noexcept { return built_; }

 private:
  [[noreturn]] static void refuse(const std::string& type, const std::exception_ptr& thrown) {
    Writer out;
    write_exception(out, thrown);
    const ExceptionSummary summary = summarize_exception(out.view());
    throw PreloadError("the Preload " + type + " could not be built: its constructor threw " + readable_name(summary.type) +
                           (summary.said.empty() ? "" : ": " + summary.said),
                       type);
  }

  std::vector<PreloadedObject> built_;
  std::vector<void (*)(const void*)> ends_;
};

}  // namespace detail

/// Tasks run in the caller, inside submit, one after the other: no process is started. When to use: in a debugger, or to
/// find out whether a problem comes from the task or from the processes. Arguments, results and exceptions are turned
/// into bytes and back as under every other policy, so a task behaves the same; but a crash is the host's.
/// \snippet reference.cpp InlinePolicy
class InlinePolicy {
 public:
  /// For messages.
  static constexpr std::string_view name = "InlinePolicy";
  /// See RunsInline.
  static constexpr bool runs_inline = true;

  /// Preloads without arguments.
  InlinePolicy() = default;

  /// Takes what ForkServerPolicy takes: `InlinePolicy{preload_args<Model>("m.bin")}`. Each pool builds these in its
  /// constructor, in this order, which throws PreloadError when that fails, and destroys them at its end. Other Preloads are
  /// built by preloaded<T>() at its first call and stay: one that refers to these is to be given, too, `preload_args<Index>()`.
  template <class... Given>
    requires(sizeof...(Given) > 0)
  InlinePolicy(PreloadArgs<Given>... given)  // NOLINT(google-explicit-constructor): as for ForkServerPolicy
      : build_([given...](detail::OwnPreloads& preloads) { (preloads.build(given), ...); }) {}

  // internal
  std::shared_ptr<const detail::OwnPreloads> build() const {
    if (!build_) return nullptr;
    auto preloads = std::make_shared<detail::OwnPreloads>();
    build_(*preloads);
    return preloads;
  }

 private:
  std::function<void(detail::OwnPreloads&)> build_;
};

}  // namespace brood
