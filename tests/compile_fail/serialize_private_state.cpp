// expect: brood: a class with private members
// SPDX-License-Identifier: MIT
#include <vector>

#include <brood/wire/serializer.hpp>

class Account {
 public:
  int balance() const { return balance_; }

 private:
  int balance_ = 0;
};

#ifdef BROOD_FAIL
void send(brood::Writer& writer, const std::vector<Account>& value);
void send(brood::Writer& writer, const std::vector<Account>& value) { writer.value(value); }
#endif
