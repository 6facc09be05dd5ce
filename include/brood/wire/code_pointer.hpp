// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include <brood/core/config.hpp>
#include <brood/core/errors.hpp>
#include <brood/core/type_name.hpp>
#include <brood/os/module.hpp>
#include <brood/os/symbols.hpp>
#include <brood/wire/reader.hpp>
#include <brood/wire/writer.hpp>

namespace brood::inline v0_1::detail {

/// Code on the wire: which module, and where in it. Never an address.
///
/// The module travels with its identity and its path: a worker that has not opened it yet opens it by the path and
/// then compares the identity.
BROOD_INLINE void write_code(Writer& out, const void* address);

/// The code of this process that was meant. Throws ImageMismatch when it is not to be had here.
BROOD_INLINE void* read_code(Reader& in);

/// A function's name for messages: its symbol where there is one, else the module and the offset.
BROOD_INLINE std::string name_of_code(const void* address);

#if BROOD_BODIES

BROOD_INLINE void write_code(Writer& out, const void* address) {
  const ModuleTable::Entry module = ModuleTable::instance().containing(address);
  if (!module) {
    throw SerializationError(
        "a function can't be sent to a worker: its address lies in no loaded program or library (code that was "
        "generated at run time, or a null pointer?)");
  }
  out.raw(module->identity.bytes.data(), module->identity.bytes.size());
  out.text(module->path);
  out.number<std::uint64_t>(reinterpret_cast<std::uintptr_t>(address) - module->base);
}

BROOD_INLINE void* read_code(Reader& in) {
  ModuleIdentity identity;
  std::memcpy(identity.bytes.data(), in.raw(identity.bytes.size()).data(), identity.bytes.size());
  const std::string path(in.text());
  const auto offset = in.number<std::uint64_t>();

  ModuleTable& table = ModuleTable::instance();
  ModuleTable::Entry module = table.with(identity);
  const auto wanted = [&] { return (path.empty() ? "the program" : path) + " (" + identity.text() + ")"; };
  if (!module && path.empty()) {
    const auto own = table.program();
    throw ImageMismatch("a worker runs another program than the host: the host runs " + wanted() + ", the worker runs " +
                        (own ? own->identity.text() : "an unknown one") + "; restart the host after an upgrade");
  }
  if (!module) {
    if (::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) {
      const char* const reason = ::dlerror();
      throw ImageMismatch("a worker can't open the library that holds the task's code, " + wanted() + ": " +
                          (reason != nullptr ? reason : "no reason given"));
    }
    module = table.with(identity);
  }
  if (!module) {
    throw ImageMismatch("the library that holds the task's code, " + wanted() +
                        ", is another one on disk now; restart the host after an upgrade");
  }
  if (!module->holds_code(offset)) {
    throw ImageMismatch("the task's code lies outside the code of " + wanted());
  }
  return reinterpret_cast<void*>(module->base + offset);
}

BROOD_INLINE std::string name_of_code(const void* address) {
  const ModuleTable::Entry module = ModuleTable::instance().containing(address);
  if (!module) return "a function at an unknown place";
  const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(address) - module->base;
  std::string symbol = symbol_of(*module, offset);
  if (!symbol.empty()) return symbol;
  Dl_info info{};
  if (::dladdr(address, &info) != 0 && info.dli_sname != nullptr && info.dli_saddr == address) {
    return readable_name(demangled(info.dli_sname));
  }
  char text[32];
  std::snprintf(text, sizeof text, "+0x%llx", static_cast<unsigned long long>(offset));
  return (module->path.empty() ? std::string("the program") : module->path) + text;
}

#endif  // BROOD_BODIES

}  // namespace brood::detail
