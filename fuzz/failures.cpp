// SPDX-License-Identifier: MIT
// What a worker says about a failure: the reader of failures, and that of exceptions with their chains.
#include <exception>
#include <stdexcept>
#include <string>

#include <brood/worker/failure.hpp>

#include "support.hpp"

namespace {

/// Rebuilt from its text.
struct FromText : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Rebuilt from its members.
struct FromMembers {
  int code;
  std::string text;
};
/// Refuses some values.
struct Picky {
  explicit Picky(int n) : number(n) {}
  int number;
};

}  // namespace

template <>
struct brood::Serializer<Picky> {
  static void write(Writer& out, const Picky& value) { out.number(value.number); }
  static Picky read(Reader& in) {
    const int number = in.number<int>();
    if (number < 0) throw std::invalid_argument("negative");
    if (number == 0) throw number;
    return Picky(number);
  }
};

namespace {

const bool registered = brood::register_exception<FromText>() && brood::register_exception<FromMembers>() &&
                        brood::register_exception<Picky>();

/// Looks at an exception and at those that it nests. Returns how many there are.
int visit(const std::exception_ptr& exception) {
  fuzz::require(exception != nullptr, "no exception came out");
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& caught) {
    fuzz::require(std::strlen(caught.what()) < 8'000'000, "a text without end");
    if (const auto* const chain = dynamic_cast<const std::nested_exception*>(&caught); chain && chain->nested_ptr()) {
      return 1 + visit(chain->nested_ptr());
    }
    return 1;
  } catch (...) {
    return 1;
  }
}

/// Bytes as they are, or the frame of an exception with names that the library knows.
brood::detail::Bytes make_bytes(fuzz::Input& in) {
  brood::Writer out;
  if (in.flag()) {
    const auto bytes = in.rest();
    out.raw(bytes.data(), bytes.size());
    return std::move(out).take();
  }
  out.number(brood::FailureKind::exception);
  const auto& known = brood::detail::standard_exceptions();
  const auto registered_types = brood::detail::ExceptionRegistry::instance().all();
  do {
    const std::size_t which = in.below(known.size() + registered_types.size() + 1);
    out.text(which < known.size()                             ? known[which].name
             : which < known.size() + registered_types.size() ? registered_types[which - known.size()].name
                                                              : "an unknown one");
    const auto said = in.bytes(in.byte());
    out.text({reinterpret_cast<const char*>(said.data()), said.size()});
    const bool rebuildable = in.flag();
    out.number(rebuildable);
    if (rebuildable) {
      const auto parts = in.bytes(in.byte());
      out.text({reinterpret_cast<const char*>(parts.data()), parts.size()});
    }
    out.number(!in.empty());
  } while (!in.empty());
  return std::move(out).take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace brood::detail;
  fuzz::require(registered, "the exceptions are not registered");
  fuzz::Input in(data, size);
  const auto bytes = make_bytes(in);
  const Origin origin{4711, 7};

  const fuzz::HeapWatch heap;
  const brood::Failure failure = read_failure(bytes.view(), origin, "task 7 (f)");
  fuzz::require(failure.pid() == origin.pid && failure.task() == origin.task, "a failure lost its origin");
  fuzz::require(failure.message().starts_with("task 7 (f)"), "a failure does not say whose it is");
  visit(failure.exception());
  if (!bytes.empty()) {
    brood::Reader reader(bytes.view().subspan(1));
    try {
      visit(read_exception(reader, origin, "task 7 (f)"));
    } catch (const brood::SerializationError&) {
    }
  }
  // each level of a chain has its texts in several places, and is an object of its own
  heap.require_at_most(64 * bytes.size() + 65'536, "read_failure");
  return 0;
}
