// SPDX-License-Identifier: MIT
// The code of docs/guide/async.md.
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

namespace {

struct Document {
  std::string title;
};

std::string fetch(const std::string& url) { return "page of " + url; }
Document parse(const std::string& page) { return {page}; }
std::string render(const Document& doc) { return "<h1>" + doc.title + "</h1>"; }
int count() { return 7; }
std::string title() { return "seven"; }
int same(int n) { return n; }

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2});
  const std::string url = "here";
  //! [then]
  brood::Future<std::size_t> size =
      pool.submit(&fetch, url)                                                  // in a worker
          .then([](const std::string& page) { return parse(page); })            // here, when the page is there
          .then([&](const Document& doc) { return pool.submit(&render, doc); }) // in a worker again: its future is waited for
          .then([](const std::string& html) { return html.size(); });
  //! [then]
  require(size.get() == 21);

  std::vector<brood::Future<int>> futures;
  for (int n = 0; n < 3; ++n) futures.push_back(pool.submit(&same, n));

  //! [when_all]
  std::vector<int> all = brood::when_all(futures).get();  // in order; the first failure fails it at once
  //! [when_all]

  require(all == std::vector<int>{0, 1, 2});

  //! [when_all tuple]
  auto [number, text] = brood::when_all(pool.submit(&count), pool.submit(&title)).get();  // a tuple; void is std::monostate
  //! [when_all tuple]

  require(number == 7 && text == "seven");

  //! [when_any]
  auto [index, outcome] = brood::when_any(futures).get();  // the first that is resolved, whatever became of it
  //! [when_any]

  require(outcome.value() == static_cast<int>(index));

  //! [first_of]
  int fastest = brood::first_of(std::move(futures)).get();  // the first success; the rest is cancelled
  //! [first_of]

  require(fastest >= 0 && fastest < 3);
  const std::vector<std::string> mirrors = {"one", "two"};

  std::string page = pool.first_of(&fetch, mirrors).get();  // the same, one task for each item

  require(page.starts_with("page of "));
  return 0;
}
