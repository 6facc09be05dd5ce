// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <brood/core/limits.hpp>
#include <brood/wire/code_pointer.hpp>
#include <brood/wire/serializer.hpp>
#include <brood/worker/limits.hpp>
#include <brood/worker/remote_exception.hpp>

namespace brood::inline v0_1::detail {

/// What a worker is told before its first task.
struct WorkerSetup {
  std::uint64_t max_message_bytes = ~std::uint64_t{0};
  std::string name;
  std::uint64_t seed = 0;
  std::span<const std::byte> start_hook{};  ///< their calls; empty: none
  std::span<const std::byte> stop_hook{};
  Limits limits{};
  std::uint64_t memory_limit = 0;
  bool leads_group = false;
  bool backtraces = false;
  bool discards_output = false;
  std::int32_t host = 0;               ///< the host's process, a word of its memory, and what is in it
  std::uint64_t word_address = 0;
  std::uint64_t word = 0;

  void write(Writer& out) const {
    out.number(max_message_bytes);
    out.text(name);
    out.number(seed);
    out.number(backtraces);
    out.number(discards_output);
    for (const std::span<const std::byte> hook : {start_hook, stop_hook}) {
      out.count(hook.size());
      out.raw(hook.data(), hook.size());
    }
    write_limits(out, limits);
    out.number(memory_limit);
    out.number(leads_group);
    out.number(host);
    out.number(word_address);
    out.number(word);
    const std::vector<ExceptionType> types = ExceptionRegistry::instance().all();
    out.count(types.size());
    for (const ExceptionType& type : types) {
      out.text(type.name);
      write_code(out, reinterpret_cast<const void*>(type.write));
      write_code(out, reinterpret_cast<const void*>(type.read));
    }
  }

  /// The hooks stay where they were read from.
  static WorkerSetup read(Reader& in) {
    WorkerSetup setup;
    setup.max_message_bytes = in.number<std::uint64_t>();
    setup.name = in.text();
    setup.seed = in.number<std::uint64_t>();
    setup.backtraces = in.number<bool>();
    setup.discards_output = in.number<bool>();
    setup.start_hook = in.raw(in.count());
    setup.stop_hook = in.raw(in.count());
    setup.limits = read_limits(in);
    setup.memory_limit = in.number<std::uint64_t>();
    setup.leads_group = in.number<bool>();
    setup.host = in.number<std::int32_t>();
    setup.word_address = in.number<std::uint64_t>();
    setup.word = in.number<std::uint64_t>();
    for (std::size_t left = in.count(); left != 0; --left) {
      ExceptionType type;
      type.name = in.text();
      type.write = reinterpret_cast<decltype(type.write)>(read_code(in));
      type.read = reinterpret_cast<decltype(type.read)>(read_code(in));
      ExceptionRegistry::instance().add(std::move(type));
    }
    in.finish();
    return setup;
  }
};

}  // namespace brood::detail
