// expect: brood: a class with private members can.t be reflected
// SPDX-License-Identifier: MIT
#include <vector>

#include <brood/brood.hpp>

class Account {
 public:
  Account() = default;
  explicit Account(int balance) : balance_(balance) {}
  int balance() const { return balance_; }

 private:
  int balance_ = 0;
};

Account open_account(int n) { return Account(n); }
int balance(int n) { return open_account(n).balance(); }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> pool({.workers = 1});
  const std::vector<int> numbers{1, 2};
  pool.first_of(&balance, numbers).wait();
#ifdef BROOD_FAIL
  pool.first_of(&open_account, numbers).wait();
#endif
}
