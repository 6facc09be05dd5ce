// expect: brood: register_exception<E>: E can't be rebuilt in the host
#include <exception>
#include <stdexcept>

#include <brood/brood.hpp>

struct Rebuildable : std::runtime_error {
  using std::runtime_error::runtime_error;
};
class Lost : public std::exception {
 public:
  explicit Lost(int* where) : where_(where) {}
  const char* what() const noexcept override { return *where_ != 0 ? "lost" : "found"; }

 private:
  int* where_;
};

int main() {
  brood::register_exception<Rebuildable>();
#ifdef BROOD_FAIL
  brood::register_exception<Lost>();
#endif
}
