// expect: brood: submit_into: the elements of the destination must be nothing but their bytes.*Return others as a value
// SPDX-License-Identifier: MIT
#include <string>
#include <vector>

#include <brood/brood.hpp>

std::vector<char> letters() { return {'a', 'b'}; }
std::vector<std::string> words() { return {"a", "b"}; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  std::vector<char> bytes(2);
  pool.submit_into(bytes, &letters).get();
#ifdef BROOD_FAIL
  std::vector<std::string> texts(2);
  pool.submit_into(texts, &words).get();
#endif
}
