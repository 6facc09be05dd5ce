// SPDX-License-Identifier: MIT
// What a task throws arrives in the host with its type and its text.
#include <any>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <ios>
#include <memory>
#include <new>
#include <optional>
#include <regex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <typeinfo>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/leftovers.hpp"
#include "support/policies.hpp"

namespace app {

struct PrivateError : std::exception {
  const char* what() const noexcept override { return "private text"; }
};

/// Rebuilt from its text.
struct TextError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Rebuilt from its members.
struct ParseError {
  int line = 0;
  std::string file;
};

struct FinalError final : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Enough {
  friend bool operator==(Enough, Enough) = default;
};

const bool registered =
    brood::register_exception<TextError>() && brood::register_exception<ParseError>() && brood::register_exception<FinalError>();

/// Registered, but its text is not accepted by the constructor that rebuilds it.
struct Stubborn : std::runtime_error {
  explicit Stubborn(const std::string& text) : std::runtime_error(text) {
    if (text == "never again") {
      if (++built > 1) throw std::invalid_argument("not twice");
    }
  }
  static inline int built = 0;
};
const bool stubborn = brood::register_exception<Stubborn>();

}  // namespace app

namespace {

template <class E, auto make>
int throws() {
  throw make();
}

/// The exception of type E that `make` builds arrives as an E, with the same text, and as a FromTask.
template <class E, auto make, class Policy>
void crosses(brood::Pool<Policy>& pool) {
  INFO("type: " << brood::detail::type_name<E>());
  const E original = make();
  auto future = pool.submit(&throws<E, make>);
  bool caught = false;
  try {
    static_cast<void>(future.get());
  } catch (const E& arrived) {
    caught = true;
    CHECK(std::string(arrived.what()) == original.what());
  } catch (...) {
    FAIL_CHECK("arrived as something else");
  }
  CHECK(caught);
  caught = false;
  try {
    static_cast<void>(future.get());
  } catch (const brood::FromTask& origin) {
    caught = true;
    CHECK(origin.task() == future.id());
    CHECK(origin.pid() > 0);
    CHECK((origin.pid() == ::getpid()) == brood::RunsInline<Policy>);
  } catch (...) {
  }
  CHECK(caught);
  caught = false;
  try {
    static_cast<void>(future.get());
  } catch (const std::exception& arrived) {  // no ambiguous base
    caught = std::string(arrived.what()) == original.what();
  }
  CHECK(caught);
  const auto outcome = future.outcome();
  REQUIRE_FALSE(outcome);
  CHECK(outcome.failure().kind() == brood::FailureKind::exception);
  CHECK(outcome.failure().message().find(original.what()) != std::string::npos);
}

template <class E>
E with_text() {
  return E("its own text");
}
template <class E>
E by_default() {
  return E();
}

int stubborn_thrower() { throw app::Stubborn("never again"); }

}  // namespace

TEST_CASE_TEMPLATE("standard exceptions with a text arrive as their own type", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  crosses<std::logic_error, &with_text<std::logic_error>>(pool);
  crosses<std::domain_error, &with_text<std::domain_error>>(pool);
  crosses<std::invalid_argument, &with_text<std::invalid_argument>>(pool);
  crosses<std::length_error, &with_text<std::length_error>>(pool);
  crosses<std::out_of_range, &with_text<std::out_of_range>>(pool);
  crosses<std::runtime_error, &with_text<std::runtime_error>>(pool);
  crosses<std::range_error, &with_text<std::range_error>>(pool);
  crosses<std::overflow_error, &with_text<std::overflow_error>>(pool);
  crosses<std::underflow_error, &with_text<std::underflow_error>>(pool);
}

TEST_CASE_TEMPLATE("standard exceptions without a text arrive as their own type", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  crosses<std::exception, &by_default<std::exception>>(pool);
  crosses<std::bad_alloc, &by_default<std::bad_alloc>>(pool);
  crosses<std::bad_array_new_length, &by_default<std::bad_array_new_length>>(pool);
  crosses<std::bad_cast, &by_default<std::bad_cast>>(pool);
  crosses<std::bad_any_cast, &by_default<std::bad_any_cast>>(pool);
  crosses<std::bad_typeid, &by_default<std::bad_typeid>>(pool);
  crosses<std::bad_exception, &by_default<std::bad_exception>>(pool);
  crosses<std::bad_optional_access, &by_default<std::bad_optional_access>>(pool);
  crosses<std::bad_variant_access, &by_default<std::bad_variant_access>>(pool);
  crosses<std::bad_function_call, &by_default<std::bad_function_call>>(pool);
  crosses<std::bad_weak_ptr, &by_default<std::bad_weak_ptr>>(pool);
}

TEST_CASE_TEMPLATE("exceptions that the library itself throws arrive as their own type", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  CHECK_THROWS_AS(pool.submit([] { return std::vector<int>().at(3); }).get(), std::out_of_range);
  CHECK_THROWS_AS(pool.submit([] { return std::stoi("no number"); }).get(), std::invalid_argument);
  CHECK_THROWS_AS(pool.submit([] { return std::optional<int>().value(); }).get(), std::bad_optional_access);
  CHECK_THROWS_AS(pool.submit([] { return std::get<1>(std::variant<int, char>(1)); }).get(), std::bad_variant_access);
  CHECK_THROWS_AS(pool.submit([] { return std::function<int()>()(); }).get(), std::bad_function_call);
}

TEST_CASE_TEMPLATE("std::system_error keeps code and text", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  try {
    pool.submit([] { throw std::system_error(EXDEV, std::generic_category(), "linking"); }).get();
    FAIL("no exception");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::error_code(EXDEV, std::generic_category()));
    CHECK(std::string(error.what()) == std::system_error(EXDEV, std::generic_category(), "linking").what());
  }
  try {
    pool.submit([] { throw std::system_error(ENOENT, std::system_category()); }).get();
    FAIL("no exception");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::no_such_file_or_directory);
    CHECK(&error.code().category() == &std::system_category());
  }
}

TEST_CASE_TEMPLATE("std::filesystem::filesystem_error keeps its paths", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  auto future = pool.submit([] { std::filesystem::rename("/nowhere/from", "/nowhere/to"); });
  try {
    future.get();
    FAIL("no exception");
  } catch (const std::filesystem::filesystem_error& error) {
    CHECK(error.path1() == "/nowhere/from");
    CHECK(error.path2() == "/nowhere/to");
    CHECK(error.code() == std::errc::no_such_file_or_directory);
    std::string text;
    try {
      std::filesystem::rename("/nowhere/from", "/nowhere/to");
    } catch (const std::filesystem::filesystem_error& own) {
      text = own.what();
    }
    CHECK(error.what() == text);
  }
}

TEST_CASE_TEMPLATE("std::ios_base::failure arrives, also the one that streams throw", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  CHECK_THROWS_AS(pool.submit([] { throw std::ios_base::failure("own"); }).get(), std::ios_base::failure);
  auto future = pool.submit([] {
    std::ifstream file;
    file.exceptions(std::ios::failbit);
    file.open("/nowhere/file");
  });
  try {
    future.get();
    FAIL("no exception");
  } catch (const std::ios_base::failure& error) {
    CHECK(error.code() == std::io_errc::stream);
  }
}

TEST_CASE_TEMPLATE("std::future_error keeps its code", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  try {
    pool.submit([] { throw std::future_error(std::future_errc::broken_promise); }).get();
    FAIL("no exception");
  } catch (const std::future_error& error) {
    CHECK(error.code() == std::future_errc::broken_promise);
  }
}

TEST_CASE_TEMPLATE("register_exception lets a type arrive as itself", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  REQUIRE(app::registered);
  brood::Pool<Policy> pool({.workers = 2});
  try {
    pool.submit([] { throw app::TextError("broken"); }).get();
    FAIL("no exception");
  } catch (const app::TextError& error) {
    CHECK(std::string(error.what()) == "broken");
    CHECK(dynamic_cast<const brood::FromTask*>(&error) != nullptr);
  }
  try {
    pool.submit([] { throw app::ParseError{17, "a.txt"}; }).get();
    FAIL("no exception");
  } catch (const app::ParseError& error) {
    CHECK(error.line == 17);
    CHECK(error.file == "a.txt");
  }
  CHECK_THROWS_AS(pool.submit([] { throw app::ParseError{17, "a.txt"}; }).get(), brood::FromTask);
  try {
    pool.submit([] { throw app::FinalError("final"); }).get();
    FAIL("no exception");
  } catch (const app::FinalError& error) {
    CHECK(std::string(error.what()) == "final");
  }
}

TEST_CASE_TEMPLATE("other types arrive as TaskError with the type's name and what it said", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  auto future = pool.submit([] { throw app::PrivateError(); });
  try {
    future.get();
    FAIL("no exception");
  } catch (const brood::TaskError& error) {
    CHECK(error.type() == "app::PrivateError");
    CHECK(error.said() == "private text");
    CHECK(error.task() == future.id());
    const std::string text = error.what();
    CHECK_MESSAGE(text.find("app::PrivateError") != std::string::npos, text);
    CHECK_MESSAGE(text.find("private text") != std::string::npos, text);
    CHECK_MESSAGE(text.find("task " + std::to_string(future.id())) != std::string::npos, text);
  }
  CHECK_THROWS_AS(future.get(), brood::Error);
}

TEST_CASE_TEMPLATE("what is no exception class arrives as TaskError", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  const auto type_of = [](auto&& future) -> std::string {
    try {
      future.get();
    } catch (const brood::TaskError& error) {
      return error.type();
    }
    return "nothing";
  };
  CHECK(type_of(pool.submit([] { throw 42; })) == "int");
  CHECK(type_of(pool.submit([] { throw "text"; })) == "char const*");
  CHECK(type_of(pool.submit([] { throw std::string("text"); })) == "std::string");
  CHECK(type_of(pool.submit([] { throw app::Enough(); })) == "app::Enough");
  CHECK(pool.submit([] { return 1; }).get() == 1);
}

TEST_CASE_TEMPLATE("nested exceptions arrive nested", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 2});
  auto future = pool.submit([] {
    try {
      try {
        throw std::out_of_range("innermost");
      } catch (...) {
        std::throw_with_nested(app::PrivateError());
      }
    } catch (...) {
      std::throw_with_nested(std::runtime_error("outermost"));
    }
  });
  std::vector<std::string> seen;
  try {
    future.get();
  } catch (const std::runtime_error& outer) {
    seen.push_back(std::string("runtime_error ") + outer.what());
    CHECK(dynamic_cast<const brood::FromTask*>(&outer) != nullptr);
    try {
      std::rethrow_if_nested(outer);
    } catch (const brood::TaskError& middle) {
      seen.push_back("TaskError " + middle.type());
      try {
        std::rethrow_if_nested(middle);
      } catch (const std::out_of_range& inner) {
        seen.push_back(std::string("out_of_range ") + inner.what());
        CHECK_NOTHROW(std::rethrow_if_nested(inner));
      }
    }
  }
  CHECK(seen == std::vector<std::string>{"runtime_error outermost", "TaskError app::PrivateError", "out_of_range innermost"});
}

TEST_CASE_TEMPLATE("an exception that a task has from a pool of its own keeps its type", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const auto relay = [](int which) {
    brood::Pool<brood::InlinePolicy> own;
    own.submit(
           [](int n) {
             try {
               if (n == 0) throw std::out_of_range("standard");
               if (n == 1) throw std::system_error(EPERM, std::generic_category(), "standard, with a code");
               throw app::PrivateError();
             } catch (const std::out_of_range&) {
               std::throw_with_nested(std::length_error("around it"));
             }
           },
           which)
        .get();
  };
  try {
    pool.submit(relay, 0).get();
    FAIL("no exception");
  } catch (const std::length_error& error) {
    CHECK(error.what() == std::string("around it"));
    CHECK_THROWS_WITH_AS(std::rethrow_if_nested(error), "standard", std::out_of_range);
  }
  try {
    pool.submit(relay, 1).get();
    FAIL("no exception");
  } catch (const std::system_error& error) {
    CHECK(error.code().value() == EPERM);
  }
  CHECK_THROWS_AS(pool.submit(relay, 2).get(), brood::TaskError);
}

TEST_CASE_TEMPLATE("std::regex_error keeps its code", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  try {
    pool.submit([](const std::string& pattern) { return std::regex_match("text", std::regex(pattern)); }, "[").get();
    FAIL("no exception");
  } catch (const std::regex_error& error) {
    CHECK(error.code() == std::regex_constants::error_brack);
    CHECK(dynamic_cast<const brood::FromTask*>(&error) != nullptr);
  }
}

TEST_CASE_TEMPLATE("an exception that can't be rebuilt arrives as TaskError", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  REQUIRE(app::stubborn);
  brood::Pool<Policy> pool({.workers = 1});
  app::Stubborn::built = 1;  // in the host alone: the worker can throw one, the host can't rebuild it
  const auto future = pool.submit(&stubborn_thrower);
  try {
    static_cast<void>(future.get());
    FAIL("no exception");
  } catch (const brood::TaskError& error) {
    CHECK(error.type() == "app::Stubborn");
    CHECK(error.said() == "never again");
    CHECK_MESSAGE(std::string(error.what()).find("not twice") != std::string::npos, error.what());
  }
  app::Stubborn::built = 0;
  CHECK(pool.submit([] { return 1; }).get() == 1);
}

TEST_CASE_TEMPLATE("a text of ten MiB, with zeros and broken UTF-8, harms nothing", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  CHECK_THROWS_AS(pool.submit([] { throw std::runtime_error(std::string(std::size_t{10} << 20, 'x')); }).get(),
                  std::runtime_error);
  CHECK_THROWS_AS(pool.submit([] { throw std::runtime_error(std::string("\xff\xfe\0z", 4)); }).get(), std::runtime_error);
  CHECK_THROWS_AS(pool.submit([] { throw brood::SerializationError("thrown by the task"); }).get(), brood::Error);
  CHECK(pool.submit([] { return 1; }).get() == 1);
}

TEST_CASE_TEMPLATE("Outcome has the exception as a value", Policy, ALL_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const brood::Outcome<void> outcome = pool.submit([] { throw std::length_error("long"); }).outcome();
  REQUIRE_FALSE(outcome);
  CHECK_THROWS_AS(std::rethrow_exception(outcome.exception()), std::length_error);
  CHECK_THROWS_AS(outcome.value(), std::length_error);
  CHECK_THROWS_AS(outcome.failure().raise(), std::length_error);
  const brood::Outcome<int> good = pool.submit([] { return 4; }).outcome();
  CHECK(good.exception() == nullptr);
  CHECK(good.value() == 4);
  CHECK_THROWS_AS(static_cast<void>(good.failure()), std::bad_variant_access);
}
