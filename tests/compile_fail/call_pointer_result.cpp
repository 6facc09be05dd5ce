// expect: brood: a raw pointer can't be sent: an address means nothing in another process
#include <brood/brood.hpp>

int value = 1;
int get_value() { return value; }
int* get_pointer() { return &value; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 1});
  const int result = pool.submit(&get_value).get();
#ifdef BROOD_FAIL
  return *pool.submit(&get_pointer).get();
#endif
  return result;
}
